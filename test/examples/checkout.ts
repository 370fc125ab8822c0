/** The examples in a project of their own, where the commands of their READMEs are run as they are written. */
import { type ChildProcess, spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, delimiter, join, resolve } from "node:path";
import { processTree, signalAll } from "../servers/process-tree.ts";

const project = resolve(import.meta.dirname, "../..");
/** What running an example leaves behind. It belongs to whoever ran it. */
const leftBehind = new Set([".outrider", ".venv", "gen", "outrider", "__pycache__"]);

/** A project with a copy of examples/ and of package.json, and with everything else of this one. */
export class Checkout {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async make(): Promise<Checkout> {
    const directory = await mkdtemp(join(tmpdir(), "outrider-examples-"));
    const copied = ["examples", "package.json"];
    for (const name of copied) {
      const filter = (path: string) => !leftBehind.has(basename(path));
      await cp(join(project, name), join(directory, name), { recursive: true, filter });
    }
    for (const name of await readdir(project)) {
      if (copied.includes(name) || name.startsWith(".")) continue;
      await symlink(join(project, name), join(directory, name));
    }
    await mkdir(join(directory, ".outrider"));
    return new Checkout(directory);
  }

  /** Where an example is. */
  example(name: string): string {
    return join(this.directory, "examples", name);
  }

  /** The commands in the README of an example, in their order. */
  async commands(name: string): Promise<string[]> {
    const readme = await readFile(join(this.example(name), "README.md"), "utf8");
    return [...readme.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) => block!.trim().split("\n"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** A command line in a shell, as somebody would type it. */
export class Shell {
  /** The exit code; null when a signal ended it. */
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #output = "";

  constructor(command: string, cwd: string) {
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(OUTRIDER|DAPR|OTEL|NODE_OPTIONS|NAMESPACE|npm_|VITEST)/.test(name),
    );
    // Only what a user has: whatever Node and npm are installed, of any version.
    const path = (process.env["PATH"] ?? "").split(delimiter).filter((one) => !one.includes("node_modules"));
    const env = {
      ...Object.fromEntries(inherited),
      PATH: path.join(delimiter),
      npm_config_loglevel: "error",
    };
    // A process group, as a terminal makes it: signals reach all of it.
    this.#child = spawn("sh", ["-c", command], { cwd, env, detached: true });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
      });
    }
    this.#child.stdin!.on("error", () => {});
    this.ended = new Promise((done) => {
      this.#child.once("close", done);
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** All that it has said so far, on both of its streams. */
  get output(): string {
    return this.#output;
  }

  type(line: string): void {
    this.#child.stdin!.write(`${line}\n`);
  }

  /** As Ctrl-C does. */
  interrupt(): void {
    process.kill(-this.#child.pid!, "SIGINT");
  }

  /** Ends all of it that has not ended, also what left the process group. */
  async [Symbol.asyncDispose](): Promise<void> {
    signalAll(processTree(this.pid), "SIGKILL");
    await this.ended;
  }
}

/** Runs a command line to its end. Throws what it said when it fails. */
export async function shell(command: string, cwd: string): Promise<string> {
  await using run = new Shell(command, cwd);
  const code = await run.ended;
  if (code !== 0) throw new Error(`${command} ended with ${code}:\n${run.output}`);
  return run.output;
}

/**
 * Why the tests of a language cannot run here; undefined when they can. Throws
 * instead when OUTRIDER_TEST_REQUIRE names the language, as it does where all must be tested.
 */
export async function missing(language: string, check: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await check();
    return undefined;
  } catch (error) {
    const required = (process.env["OUTRIDER_TEST_REQUIRE"] ?? "").split(",").includes(language);
    if (required) throw error;
    return `${language} is not ready on this machine: ${error instanceof Error ? error.message.trim() : error}`;
  }
}
