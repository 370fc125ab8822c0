/** What a command has of the process around it. */
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { relative } from "node:path";
import type { Readable, Writable } from "node:stream";
import type { JsonMember } from "./payload.ts";

/** Exit codes, the same for every command. */
export const exitCodes = { success: 0, failure: 1, usage: 2 } as const;

/** Ends a command with a message and an exit code. */
export class CommandFailure extends Error {
  override readonly name = "CommandFailure";
  readonly exitCode: number;

  constructor(message: string, exitCode: number = exitCodes.failure) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The failure of a command that was called in a way that makes no sense. */
export function usageFailure(message: string): CommandFailure {
  return new CommandFailure(message, exitCodes.usage);
}

/** The terminal, or what stands for it: data goes to `stdout`, everything else to `stderr`. */
export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
  /** How to call this program from the working directory. */
  readonly program: string;
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Whether what goes to `stderr` may have colours. */
  readonly colorErr: boolean;
  /** Whether what goes to `stdout` may have colours. */
  readonly colorOut: boolean;
  /** Aborts at the first SIGINT or SIGTERM, with its name as the reason, and when nothing can be written to `stdout` any more. */
  readonly interrupted: AbortSignal;
  /**
   * What is done on SIGHUP, from now on. When the terminal itself has gone, which sends the same signal, the
   * process is interrupted instead.
   */
  onHangup(handler: () => void): void;
  /** What is still to be done when a second signal ends the process at once. */
  onSecondSignal(handler: () => void): void;
}

/** The terminal of this process. Installs handlers of its signals; to be called once. */
export function processTerminal(): Terminal {
  const interruption = new AbortController();
  let onSecond = () => {};
  const handle = (signal: NodeJS.Signals) => {
    if (!interruption.signal.aborted) return interruption.abort(signal);
    onSecond();
    process.exit(exitCodes.failure);
  };
  process.on("SIGINT", handle).on("SIGTERM", handle);
  // The reader has gone, as in `outrider subscribe orders | head -1`.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") {
      process.exitCode = exitCodes.failure;
      process.stderr.write(`outrider: standard output cannot be written: ${error.message}\n`);
    }
    interruption.abort("EPIPE");
  });
  process.stderr.on("error", () => {});
  return {
    env: process.env,
    workingDirectory: process.cwd(),
    program: programOf(process.argv[1] ?? ""),
    // Opening stdin keeps the process alive, so only who reads it does.
    get stdin() {
      return process.stdin;
    },
    stdout: process.stdout,
    stderr: process.stderr,
    colorOut: hasColor(process.stdout),
    colorErr: hasColor(process.stderr),
    interrupted: interruption.signal,
    onHangup(handler) {
      const hadTerminal = hasTerminal();
      process.on("SIGHUP", () => {
        if (hadTerminal && !hasTerminal()) handle("SIGHUP");
        else handler();
      });
    },
    onSecondSignal(handler) {
      onSecond = handler;
    },
  };
}

/** Whether there is somebody who could type Ctrl-C. */
function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", "r+"));
    return true;
  } catch {
    return false;
  }
}

/** Installed, it has its name; run from the sources or the bundle, Node is needed, which npm's scripts bring along. */
function programOf(script: string): string {
  if (!/\.[jt]s$/.test(script)) return process.env["npm_command"] === "exec" ? "npx outrider" : "outrider";
  const node = process.env["npm_lifecycle_event"] === undefined ? "node" : "npx node";
  const path = relative(process.cwd(), script);
  return `${node} ${path.startsWith("..") ? script : path}`;
}

function hasColor(stream: NodeJS.WriteStream): boolean {
  if (process.env["NO_COLOR"]) return false;
  return stream.isTTY === true && process.env["TERM"] !== "dumb";
}

/** Writes data, and waits until it has gone on its way. */
export async function print(terminal: Terminal, data: string | Uint8Array): Promise<void> {
  if (terminal.interrupted.reason === "EPIPE" || terminal.stdout.write(data)) return;
  await once(terminal.stdout, "drain", { signal: terminal.interrupted }).catch(() => {});
}

/** Writes one object as one line of JSON, with a last member if there is one. */
export function printJson(terminal: Terminal, value: object, last?: JsonMember): Promise<void> {
  const text = JSON.stringify(value);
  if (last === undefined) return print(terminal, `${text}\n`);
  return print(terminal, `${text.slice(0, -1)}${text === "{}" ? "" : ","}"${last.name}":${last.json}}\n`);
}

/** Writes a line for people. */
export function note(terminal: Terminal, line: string): void {
  terminal.stderr.write(`${line}\n`);
}

/** Text in a colour, where there are colours. */
export function paint(
  on: boolean,
  code: "bold" | "dim" | "red" | "green" | "yellow" | "cyan",
  text: string,
): string {
  const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
  return on ? `\u001b[${codes[code]}m${text}\u001b[0m` : text;
}
