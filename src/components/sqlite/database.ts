/** The main thread's side of a database: calls in, promises out, one message a tick in each direction. */
import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { backoffMs } from "../../backoff.ts";
import type { Call } from "../../blocks/call.ts";
import type { OpenContext } from "../../component.ts";
import { pause } from "../../pause.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Histogram } from "../../telemetry/metrics.ts";
import { fromFailure, StoreError } from "./errors.ts";
import {
  type Answer,
  type AnswerPacket,
  type Ask,
  BlobReader,
  type CallEntry,
  type Kind,
  packBlobs,
  type WorkerSettings,
} from "./messages.ts";
import { startWorker } from "./start-worker.ts";

/** Calls that may wait for the store's thread; more are refused as unavailable. */
const maxPendingCalls = 100_000;

/** Bytes of calls that may wait for the store's thread. */
const maxPendingBytes = 256 * 1024 * 1024;

/**
 * How often calls are looked at for signals that have aborted. A call usually
 * takes less than a millisecond, so that a listener for each would cost more than the call.
 */
const signalCheckMs = 25;

interface Pending {
  readonly call: Call;
  /** Given up at this time, by performance.now(). */
  readonly givenUpAtMs: number;
  readonly bytes: number;
  /** Waiting calls end with an answer, whatever their signal does. */
  readonly waits: boolean;
  resolve(reply: { answer: unknown; blobs: Uint8Array[] }): void;
  reject(error: unknown): void;
}

/** Who opens a database: its metrics count what the store's thread does, its signal ends the opening. */
export type OpenedBy = Pick<OpenContext, "signal" | "telemetry">;

/** What a call of the store gives. */
export interface Reply<K extends Kind> {
  readonly answer: Answer<K>;
  readonly blobs: readonly Uint8Array[];
}

/** What every thread of a database is told before anything else is asked of it. */
export type Attaching = "attachState" | "attachPubSub";

/** Between two attempts to start the thread again, in milliseconds. */
const restarts = { firstMs: 50, lastMs: 5000 };

/**
 * An open database, and the thread that it lives in. A thread that ends without having been asked to is followed by another one:
 * calls that it had not answered fail as unavailable, and so do those that come until the next one is ready.
 */
export class Database {
  readonly #settings: WorkerSettings;
  readonly #log: Log;
  readonly #commits: Histogram;
  readonly #closing = new AbortController();
  readonly #attached: { readonly kind: Attaching; readonly ask: Ask<Attaching> }[] = [];
  #worker: Worker;
  /** What the thread is called in the file; undefined before anybody has attached. */
  #process: number | undefined;
  readonly #pending = new Map<number, Pending>();
  #calls: CallEntry[] = [];
  #blobs: Uint8Array[] = [];
  #cancelled: number[] = [];
  #flushing = false;
  #pendingBytes = 0;
  #nextId = 1;
  #checking: NodeJS.Timeout | undefined;
  /** Why no call can succeed now. */
  #down: StoreError | undefined;
  #restarting: Promise<void> | undefined;

  private constructor(worker: Worker, settings: WorkerSettings, { log, metrics }: OpenedBy["telemetry"]) {
    this.#settings = settings;
    this.#log = log;
    this.#worker = worker;
    this.#commits = metrics
      .histogram(
        "outrider_sqlite_commit_duration_seconds",
        "How long the embedded store's commits took, the wait for the disk included.",
        [],
      )
      .with({});
    this.#listen(worker);
  }

  /** Opens a file, making and migrating it if need be. Throws StoreError. */
  static async open(settings: WorkerSettings, { signal, telemetry }: OpenedBy): Promise<Database> {
    return new Database(await openedWorker(settings, signal), settings, telemetry);
  }

  /** Asks for what every thread has to know: it is asked of the next one, too. */
  async attach<K extends Attaching>(kind: K, ask: Ask<K>, call: Call, limitMs: number): Promise<Reply<K>> {
    const reply = await this.ask(kind, ask, call, [], limitMs);
    this.#process ??= (await this.ask("register", undefined, call, [], limitMs)).answer;
    this.#attached.push({ kind, ask });
    return reply;
  }

  /** Asks the store's thread. Throws what the thread threw, and StoreError when `limitMs` pass without an answer. */
  ask<K extends Kind>(
    kind: K,
    ask: Ask<K>,
    call: Call,
    blobs: readonly Uint8Array[] = [],
    limitMs = Number.POSITIVE_INFINITY,
  ): Promise<Reply<K>> {
    const givenUpAtMs = limitMs === Number.POSITIVE_INFINITY ? limitMs : performance.now() + limitMs;
    return this.#post(kind, ask, call, blobs, givenUpAtMs, false);
  }

  /**
   * Asks for what may take its time. When the signal aborts the thread is told,
   * and its answer, which may be an empty one, is waited for: nothing gets lost on the way.
   */
  async wait<K extends "receive" | "changes">(kind: K, ask: Ask<K>, call: Call): Promise<Reply<K>> {
    const id = this.#nextId;
    const reply = this.#post(kind, ask, call, [], Number.POSITIVE_INFINITY, true);
    const cancel = () => {
      this.#cancelled.push(id);
      this.#flushSoon();
    };
    if (call.signal.aborted) cancel();
    call.signal.addEventListener("abort", cancel, { once: true });
    try {
      return await reply;
    } finally {
      call.signal.removeEventListener("abort", cancel);
    }
  }

  /** Closes the file and ends the thread. Calls that wait are rejected. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    if (this.#down) return await this.#restarting;
    this.#flush(true);
    await once(this.#worker, "exit");
  }

  #post<K extends Kind>(
    kind: K,
    ask: Ask<K>,
    call: Call,
    blobs: readonly Uint8Array[],
    givenUpAtMs: number,
    waits: boolean,
  ): Promise<Reply<K>> {
    if (this.#down) return Promise.reject(this.#down);
    if (!waits && call.signal.aborted) return Promise.reject(call.signal.reason);
    let bytes = 0;
    for (const blob of blobs) bytes += blob.length;
    const overloaded =
      this.#pending.size >= maxPendingCalls || (bytes > 0 && this.#pendingBytes + bytes > maxPendingBytes);
    if (overloaded) {
      return Promise.reject(new StoreError("unavailable", "too many calls wait for the embedded store"));
    }
    return this.#send(kind, ask, call, blobs, bytes, givenUpAtMs, waits);
  }

  #send<K extends Kind>(
    kind: K,
    ask: Ask<K>,
    call: Call,
    blobs: readonly Uint8Array[],
    bytes: number,
    givenUpAtMs: number,
    waits: boolean,
  ): Promise<Reply<K>> {
    const id = this.#nextId++;
    this.#pendingBytes += bytes;
    this.#calls.push([id, kind, ask, blobs.length]);
    for (const blob of blobs) this.#blobs.push(blob);
    this.#flushSoon();
    if (!waits) this.#checking ??= setTimeout(() => this.#check(), signalCheckMs);
    return new Promise((resolve, reject) => {
      // The thread answers a call with an answer of its kind.
      const settle = resolve as Pending["resolve"];
      this.#pending.set(id, { call, givenUpAtMs, bytes, waits, resolve: settle, reject });
    });
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    // After the poll phase: what all sockets brought in this turn goes together.
    setImmediate(() => this.#flush(false));
  }

  #flush(close: boolean): void {
    this.#flushing = false;
    const blobs = packBlobs(this.#blobs);
    const packet = { calls: this.#calls, cancelled: this.#cancelled, blobs, close };
    this.#calls = [];
    this.#blobs = [];
    this.#cancelled = [];
    this.#worker.postMessage(packet, [blobs.bytes.buffer]);
  }

  #take(packet: AnswerPacket): void {
    if (packet.kind !== "answers") return;
    for (const seconds of packet.commitSeconds) this.#commits.observe(seconds);
    const reader = new BlobReader(packet.blobs);
    for (const [id, failure, answer, count] of packet.answers) {
      const blobs = count === 0 ? [] : reader.take(count);
      const pending = this.#forget(id);
      if (failure) pending?.reject(fromFailure(failure));
      else pending?.resolve({ answer, blobs });
    }
  }

  #forget(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    if (!pending) return undefined;
    this.#pending.delete(id);
    this.#pendingBytes -= pending.bytes;
    return pending;
  }

  #check(): void {
    this.#checking = undefined;
    const now = performance.now();
    let left = false;
    for (const [id, pending] of this.#pending) {
      if (pending.waits) continue;
      if (pending.call.signal.aborted) this.#forget(id)?.reject(pending.call.signal.reason);
      else if (now > pending.givenUpAtMs) {
        this.#forget(id)?.reject(new StoreError("unavailable", "the embedded store did not answer in time"));
      } else left = true;
    }
    if (left) this.#checking = setTimeout(() => this.#check(), signalCheckMs);
  }

  #listen(worker: Worker): void {
    let cause: unknown;
    worker.on("message", (packet: AnswerPacket) => this.#take(packet));
    worker.on("error", (error) => {
      cause = error;
    });
    worker.on("exit", () => this.#end(cause));
  }

  #end(cause: unknown): void {
    const closed = this.#closing.signal.aborted;
    const message = closed
      ? "the embedded store is closed"
      : "the thread of the embedded store ended, and another one is started";
    this.#down = new StoreError("unavailable", message, { cause });
    clearTimeout(this.#checking);
    this.#checking = undefined;
    for (const pending of this.#pending.values()) pending.reject(this.#down);
    this.#pending.clear();
    this.#pendingBytes = 0;
    this.#calls = [];
    this.#blobs = [];
    this.#cancelled = [];
    if (closed || this.#restarting) return;
    this.#log.error({ path: this.#settings.path, err: cause }, message);
    this.#restarting = this.#restart().finally(() => {
      this.#restarting = undefined;
    });
  }

  /** Never rejects. */
  async #restart(): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 1; ; attempt += 1) {
      await pause(backoffMs(attempt, restarts), signal);
      if (signal.aborted) return;
      let worker: Worker | undefined;
      try {
        worker = await openedWorker(this.#settings, signal);
        this.#worker = worker;
        this.#listen(worker);
        await this.#introduce();
        signal.throwIfAborted();
        this.#down = undefined;
        this.#log.info({ path: this.#settings.path }, "the embedded store has a thread again");
        return;
      } catch (err) {
        await worker?.terminate();
        if (signal.aborted) return;
        this.#log.warn(
          { path: this.#settings.path, err },
          "the embedded store's thread could not be started",
        );
      }
    }
  }

  /** What the thread before this one held is free, and this one knows what that one knew. */
  async #introduce(): Promise<void> {
    const call: Call = { signal: this.#closing.signal };
    const send = <K extends Kind>(kind: K, ask: Ask<K>) =>
      this.#send(kind, ask, call, [], 0, Number.POSITIVE_INFINITY, false);
    if (this.#process !== undefined) await send("release", { process: this.#process });
    for (const { kind, ask } of this.#attached) await send(kind, ask);
    if (this.#process !== undefined) this.#process = (await send("register", undefined)).answer;
  }
}

/** A thread that has opened the file. Throws StoreError, and the signal's reason. */
async function openedWorker(settings: WorkerSettings, signal: AbortSignal): Promise<Worker> {
  const worker = startWorker({
    workerData: settings,
    // Node 24 calls node:sqlite experimental, on the user's terminal.
    execArgv: ["--disable-warning=ExperimentalWarning"],
    name: "outrider-sqlite",
  });
  try {
    const [packet] = (await once(worker, "message", { signal })) as [AnswerPacket];
    if (packet.kind === "opened" && packet.failure) throw fromFailure(packet.failure);
    return worker;
  } catch (error) {
    await worker.terminate();
    throw error;
  }
}
