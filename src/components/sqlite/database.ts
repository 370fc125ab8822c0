/** The main thread's side of a database: calls in, promises out, one message a tick in each direction. */
import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import type { Call } from "../../blocks/call.ts";
import type { OpenContext } from "../../component.ts";
import type { Histogram, Metrics } from "../../telemetry/metrics.ts";
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

/** An open database, and the thread that it lives in. */
export class Database {
  readonly #worker: Worker;
  readonly #commits: Histogram;
  readonly #pending = new Map<number, Pending>();
  #calls: CallEntry[] = [];
  #blobs: Uint8Array[] = [];
  #cancelled: number[] = [];
  #flushing = false;
  #pendingBytes = 0;
  #nextId = 1;
  #checking: NodeJS.Timeout | undefined;
  /** Why no call can succeed any more. */
  #ended: Error | undefined;

  private constructor(worker: Worker, metrics: Metrics) {
    this.#worker = worker;
    this.#commits = metrics
      .histogram(
        "outrider_sqlite_commit_duration_seconds",
        "How long the embedded store's commits took, the wait for the disk included.",
        [],
      )
      .with({});
    worker.on("message", (packet: AnswerPacket) => this.#take(packet));
    worker.on("error", (error) => this.#end(error));
    worker.on("exit", () => this.#end());
  }

  /** Opens a file, making and migrating it if need be. Throws StoreError. */
  static async open(settings: WorkerSettings, { signal, telemetry }: OpenedBy): Promise<Database> {
    const worker = startWorker({
      workerData: settings,
      // Node 24 calls node:sqlite experimental, on the user's terminal.
      execArgv: ["--disable-warning=ExperimentalWarning"],
      name: "outrider-sqlite",
    });
    try {
      const [packet] = (await once(worker, "message", { signal })) as [AnswerPacket];
      if (packet.kind === "opened" && packet.failure) throw fromFailure(packet.failure);
    } catch (error) {
      await worker.terminate();
      throw error;
    }
    return new Database(worker, telemetry.metrics);
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
    if (this.#ended) return;
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
    if (this.#ended) return Promise.reject(this.#ended);
    if (!waits && call.signal.aborted) return Promise.reject(call.signal.reason);
    let bytes = 0;
    for (const blob of blobs) bytes += blob.length;
    const overloaded =
      this.#pending.size >= maxPendingCalls || (bytes > 0 && this.#pendingBytes + bytes > maxPendingBytes);
    if (overloaded) {
      return Promise.reject(new StoreError("unavailable", "too many calls wait for the embedded store"));
    }
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
    if (this.#ended) return;
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

  #end(cause?: unknown): void {
    this.#ended ??= new StoreError("unavailable", "the embedded store is closed", { cause });
    clearTimeout(this.#checking);
    for (const pending of this.#pending.values()) pending.reject(this.#ended);
    this.#pending.clear();
  }
}
