/** The processes of a crash test: started, killed and started again. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { freePorts, Outrider } from "../outrider.ts";
import type { Task } from "./program.ts";
import { writePort } from "./sidecar-ports.ts";

/** A process that is started again whenever it was killed. */
export interface Actor {
  start(): Promise<void>;
  kill(): Promise<void>;
}

/** A sidecar that was asked to stop and has not after so long hangs, in milliseconds: longer than its grace period. */
const stopWithinMs = 30_000;

/** A sidecar, over all its lives. */
export class Sidecar implements Actor {
  readonly #program: string;
  readonly #index: number;
  readonly #cwd: string;
  readonly #records: string;
  readonly #words: readonly string[];
  readonly #fallen: string[];
  #process: Outrider | undefined;
  #stopping: Outrider | undefined;

  constructor(
    program: string,
    index: number,
    cwd: string,
    records: string,
    resources: readonly string[],
    fallen: string[],
  ) {
    this.#program = program;
    this.#index = index;
    this.#cwd = cwd;
    this.#records = records;
    this.#words = ["run", ...freePorts, "--app-id", "crash", "--log-level", "warn", ...resources];
    this.#fallen = fallen;
  }

  /** Resolves when it serves, or was killed before. */
  async start(): Promise<void> {
    const process = new Outrider(this.#words, { cwd: this.#cwd, program: this.#program });
    this.#process = process;
    void process.ended.then(async ({ code }) => {
      // Killed, it has no code.
      const wellEnded = code === null || (code === 0 && this.#stopping === process);
      if (!wellEnded) this.#fallen.push(`sidecar ${this.#index} ended with ${code}: ${process.stderr}`);
      await appendFile(join(this.#records, `sidecar-${this.#index}.log`), process.stderr).catch(() => {});
    });
    const said = await process.said(/^ {2}grpc +\S+:(\d+)/m).catch(() => undefined);
    if (said) writePort(this.#records, this.#index, Number(said[1]));
  }

  async kill(): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
  }

  /** Asks it to stop, and waits until it has. */
  async stop(): Promise<void> {
    const process = this.#process;
    if (!process) return;
    this.#stopping = process;
    const hangs = setTimeout(() => {
      this.#fallen.push(`sidecar ${this.#index} did not stop within ${stopWithinMs} ms: ${process.stderr}`);
      process.kill("SIGKILL");
    }, stopWithinMs);
    process.kill("SIGTERM");
    await process.ended;
    clearTimeout(hangs);
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }
}

/** A publisher or subscriber, over all its lives. */
export class Program implements Actor {
  readonly #name: string;
  readonly #task: (life: number) => Task;
  readonly #fallen: string[];
  #life = 0;
  #process: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();

  constructor(name: string, task: (life: number) => Task, fallen: string[]) {
    this.#name = name;
    this.#task = task;
    this.#fallen = fallen;
  }

  async start(): Promise<void> {
    this.#life += 1;
    const task = this.#task(this.#life);
    const program = resolve(import.meta.dirname, `${this.#name}.ts`);
    const child = spawn(process.execPath, [program, JSON.stringify(task)], {
      stdio: ["pipe", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-2000);
    });
    child.stdin.on("error", () => {});
    child.once("close", async (code) => {
      await appendFile(join(task.directory, `${this.#name}-${task.index}.log`), `${stderr}\n`).catch(
        () => {},
      );
      if (code) this.#fallen.push(`${this.#name} ${task.index} ended with ${code}: ${stderr}`);
    });
    this.#process = child;
    this.#ended = once(child, "close");
    await once(child, "spawn");
  }

  /** Has it come to an end by itself. */
  async finish(): Promise<void> {
    this.#process?.stdin?.end();
    await this.#ended;
  }

  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#ended;
  }
}
