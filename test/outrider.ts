/** The real process, for tests: started in a directory of its own, on free ports, and always ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const main = resolve(import.meta.dirname, "../src/main.ts");

/** A directory that is a project of its own: nothing above it is looked at. */
export async function makeProject(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "outrider-test-"));
  await mkdir(join(directory, ".outrider"));
  return directory;
}

/** What can be said about a process. */
export interface OutriderOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Given on standard input, which is then closed. */
  readonly input?: string | Uint8Array;
  /** Default: the sources. */
  readonly program?: string;
}

/** How a process ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One process. */
export class Outrider {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  #stdout = "";
  #stderr = "";
  #heard: () => void = () => {};

  constructor(words: readonly string[], { cwd, env, input, program = main }: OutriderOptions) {
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(OUTRIDER|DAPR|OTEL|NODE_OPTIONS|NAMESPACE|npm_|VITEST)/.test(name),
    );
    this.#child = spawn(process.execPath, [program, ...words], {
      cwd,
      env: { ...Object.fromEntries(inherited), ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child.stdin!.on("error", () => {});
    this.#child.stdin!.end(input);
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
      this.#heard();
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
      this.#heard();
    });
    this.ended = new Promise((done) => {
      this.#child.once("close", (code, signal) => {
        done({ code, signal });
        this.#heard();
      });
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Waits until it has said something. Rejects when it ends without. */
  async said(match: RegExp, where: "stdout" | "stderr" = "stderr"): Promise<RegExpExecArray> {
    for (;;) {
      const found = match.exec(this[where]);
      if (found) return found;
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`it ended without saying ${match}:\n${this.#stdout}\n${this.#stderr}`);
      }
      await new Promise<void>((heard) => {
        this.#heard = heard;
      });
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it, whatever it does. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }
}

/** Runs a command to its end. */
export async function outrider(words: readonly string[], options: OutriderOptions) {
  await using command = new Outrider(words, options);
  const { code } = await command.ended;
  return { code, stdout: command.stdout, stderr: command.stderr };
}

/** Free ports, whatever else runs on this machine. */
export const freePorts = ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"] as const;

/** A sidecar on free ports, ready to serve. */
export class SidecarProcess extends Outrider {
  grpcPort = 0;
  httpPort = 0;
  metricsPort = 0;

  static async start(options: OutriderOptions, ...words: readonly string[]): Promise<SidecarProcess> {
    const sidecar = new SidecarProcess(["run", ...freePorts, ...words], options);
    try {
      await sidecar.said(/^Ready\.$/m);
      const port = (name: string) =>
        Number(new RegExp(`^ {2}${name} +\\S+:(\\d+)`, "m").exec(sidecar.stderr)![1]);
      sidecar.grpcPort = port("grpc");
      sidecar.httpPort = port("http");
      sidecar.metricsPort = port("metrics");
      return sidecar;
    } catch (error) {
      await sidecar[Symbol.asyncDispose]();
      throw error;
    }
  }
}

/** Removes a project. */
export async function removeProject(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
}
