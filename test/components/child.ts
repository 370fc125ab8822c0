/** A sidecar's part of a store in a process of its own, which a test can stop and kill. It says what it does as lines of JSON. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "vitest";

/** What it may say. */
export interface Line {
  readonly ready?: boolean;
  readonly joined?: boolean;
  readonly acknowledged?: string;
  readonly received?: string;
  readonly attempt?: number;
  readonly key?: string;
  readonly number?: number;
  readonly etag?: string;
}

/** See the head of this file. */
export class Child {
  readonly lines: Line[] = [];
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;

  /** `program` is a file beside this one. */
  constructor(program: string, ...words: readonly string[]) {
    this.#process = spawn(process.execPath, [join(import.meta.dirname, program), ...words], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#ended = once(this.#process, "close");
    createInterface({ input: this.#process.stdout! }).on("line", (line) =>
      this.lines.push(JSON.parse(line) as Line),
    );
  }

  /** Waits until it has said as many lines of a kind. */
  async said(kind: keyof Line, count = 1): Promise<void> {
    const many = () => this.lines.filter((line) => line[kind] !== undefined).length;
    await expect.poll(many, { timeout: 20_000, interval: 10 }).toBeGreaterThanOrEqual(count);
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#ended;
  }

  /** The exit code after an end in peace. */
  async end(): Promise<number | null> {
    this.#process.stdin!.end();
    await this.#ended;
    return this.#process.exitCode;
  }
}
