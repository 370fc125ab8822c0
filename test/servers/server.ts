/** A server of a test's own: a real process, with its data in a folder of the test run. */
import { type ChildProcess, spawn } from "node:child_process";
import { chownSync, closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isRunning, isStopped, processTree, signalAll } from "./process-tree.ts";
import { forget, watch } from "./run-folder.ts";
import { until } from "./until.ts";

/** What a test can do to a server. Its data is kept through everything but the last. */
export interface Server extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Where its data and its log are. */
  readonly folder: string;
  /** SIGKILL, with all that it started. Resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay open, nothing answers. Resolves when nothing of it runs any more. */
  freeze(): Promise<void>;
  /** SIGCONT. */
  thaw(): void;
  /** Starts it again with the same ports and data; kills it first if it runs. Resolves when it serves. */
  restart(): Promise<void>;
  /** A planned stop. Resolves when it is gone; kills it after ten seconds. */
  stop(): Promise<void>;
  /** What it has written to its log in all its lives. */
  log(): string;
}

/** How a server is run. */
export interface ServerCommand {
  readonly name: string;
  readonly program: string;
  readonly words: readonly string[];
  readonly port: number;
  readonly folder: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Who it is, if it refuses to be root. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** What asks it to stop; SIGTERM by default. */
  readonly stopSignal?: NodeJS.Signals;
  /** Whether it serves: resolves to true, or to false, or rejects. Asked again and again. */
  readonly ready: () => Promise<boolean>;
}

const readyWithinMs = 45_000;
const stopWithinMs = 10_000;
const goneWithinMs = 20_000;
const frozenWithinMs = 10_000;

/** The one implementation. It goes on when the process that started it ends, until the test run does. */
export class ServerProcess implements Server {
  readonly host = "127.0.0.1";
  readonly port: number;
  readonly folder: string;
  readonly #command: ServerCommand;
  #child: ChildProcess | undefined;

  constructor(command: ServerCommand) {
    this.#command = command;
    this.port = command.port;
    this.folder = command.folder;
  }

  /** Starts it. Resolves when it serves. */
  static async start(command: ServerCommand): Promise<ServerProcess> {
    const server = new ServerProcess(command);
    if (command.user) chownSync(command.folder, command.user.uid, command.user.gid);
    await server.restart();
    return server;
  }

  async restart(): Promise<void> {
    await this.kill();
    const { name, program, words, folder, env, user, ready } = this.#command;
    const log = openSync(join(folder, "log"), "a");
    const child = spawn(program, words, {
      cwd: folder,
      env: { ...process.env, ...env },
      // A group of its own, so that an interrupt at the terminal does not reach it before the tests are through.
      detached: true,
      stdio: ["ignore", log, log],
      ...user,
    });
    closeSync(log);
    child.unref();
    let starting = true;
    this.#child = child;
    const failed = new Promise<never>((_, fail) => {
      child.once("error", fail).once("exit", (code, signal) => {
        // Later nobody listens, and the folder may be gone.
        if (starting) fail(new Error(`${name} ended with ${code ?? signal}: ${this.log().slice(-2000)}`));
      });
    });
    failed.catch(() => {});
    if (child.pid === undefined) return await failed;
    watch(child.pid);
    await Promise.race([failed, until(ready, `${name} serves on port ${this.port}`, readyWithinMs)]);
    starting = false;
  }

  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async stop(): Promise<void> {
    await this.#end(this.#command.stopSignal ?? "SIGTERM");
  }

  async freeze(): Promise<void> {
    const tree = this.#tree();
    // Those in a session of their own would never learn that the first has died: the reaper must know each.
    for (const pid of tree) watch(pid);
    signalAll(tree, "SIGSTOP");
    await until(() => tree.every(isStopped), `${this.#command.name} is frozen`, frozenWithinMs);
  }

  thaw(): void {
    const tree = this.#tree();
    signalAll(tree, "SIGCONT");
    for (const pid of tree.slice(1)) forget(pid);
  }

  log(): string {
    return readFileSync(join(this.folder, "log"), "utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #tree(): number[] {
    return this.#child?.pid === undefined ? [] : processTree(this.#child.pid);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const tree = this.#tree();
    this.#child = undefined;
    const [first] = tree;
    if (first === undefined) return;
    const gone = () => !tree.some(isRunning);
    if (signal !== "SIGKILL") {
      // A frozen process takes no notice of it.
      signalAll(tree, "SIGCONT");
      signalAll([first], signal);
      await until(gone, `${this.#command.name} stops`, stopWithinMs).catch(() => {});
    }
    signalAll(tree, "SIGKILL");
    await until(gone, `${this.#command.name} is gone`, goneWithinMs);
    for (const pid of tree) forget(pid);
  }
}
