/** An application that runs beside its sidecar, as a child of the same process. */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { StringDecoder } from "node:string_decoder";
import { CommandFailure, paint, type Terminal } from "./terminal.ts";

/** A line longer than this is printed in pieces, in characters. */
const maxLineLength = 64 * 1024;

/** What an application needs to start. */
export interface ApplicationOptions {
  /** The program, then its arguments; at least the program. */
  readonly command: readonly string[];
  /** Before each line of its output. */
  readonly label: string;
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** A child process whose output is ours, with a label. */
export class Application {
  /** Resolves with the exit code when it has ended and its output is printed; never rejects. */
  readonly ended: Promise<number>;
  readonly #child: ChildProcess;
  readonly #terminal: Terminal;
  /** The signal that it was asked to end with. */
  #asked: NodeJS.Signals | undefined;

  private constructor(child: ChildProcess, terminal: Terminal, label: string) {
    this.#child = child;
    this.#terminal = terminal;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.ended = promise;
    child.once("close", (code, signal) => resolve(this.#exitCode(code, signal)));
    prefix(child.stdout!, terminal.stdout, paint(terminal.colorOut, "cyan", label));
    prefix(child.stderr!, terminal.stderr, paint(terminal.colorErr, "cyan", label));
  }

  /** Starts it. Throws when there is no such program. */
  static async start(terminal: Terminal, options: ApplicationOptions): Promise<Application> {
    const [program, ...words] = options.command;
    const env = { ...terminal.env, ...options.env };
    const child = spawn(program!, words, { env, stdio: ["inherit", "pipe", "pipe"] });
    const started = Promise.withResolvers<void>();
    child.once("spawn", started.resolve);
    child.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "ENOENT" ? "there is no such program" : error.message;
      started.reject(new CommandFailure(`${program} cannot be started: ${why}`));
    });
    await started.promise;
    return new Application(child, terminal, options.label);
  }

  /** Asks it to end. */
  end(signal: NodeJS.Signals): void {
    this.#asked = signal;
    // Ctrl-C on a terminal has reached every process of its group already.
    if (signal === "SIGINT" && this.#terminal.stdin.isTTY) return;
    this.#child.kill(signal);
  }

  /** Ends it at once. */
  kill(): void {
    this.#asked ??= "SIGKILL";
    this.#child.kill("SIGKILL");
  }

  #exitCode(code: number | null, signal: NodeJS.Signals | null): number {
    if (code !== null) return code;
    // One that ends by the signal it was asked to end with has done as it was told.
    if (signal !== null && signal === this.#asked && signal !== "SIGKILL") return 0;
    // As shells tell it.
    return 128 + (signal === null ? 0 : constants.signals[signal]);
  }
}

/** Copies lines, with a label before each. Reads no faster than is written. */
function prefix(from: NodeJS.ReadableStream, to: NodeJS.WritableStream, label: string): void {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  const write = (lines: readonly string[]) => {
    if (lines.length === 0) return;
    if (to.write(lines.map((line) => `${label} ${line}\n`).join(""))) return;
    from.pause();
    to.once("drain", () => from.resume());
  };
  from.on("data", (chunk: Buffer) => {
    const lines = (rest + decoder.write(chunk)).split("\n");
    rest = lines.pop()!;
    if (rest.length > maxLineLength) {
      lines.push(rest);
      rest = "";
    }
    write(lines.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line)));
  });
  from.on("end", () => {
    rest += decoder.end();
    write(rest === "" ? [] : [rest]);
  });
}
