/**
 * The thread's one loop: what has gathered since the last transaction is done
 * in the next one, and answered when it is committed.
 */
import { OrderConflict, UnknownPosition } from "../../../blocks/pubsub/driver.ts";
import { EtagMismatch, PositionExpired, ValueChanged } from "../../../blocks/state/driver.ts";
import { asStoreError, StoreError, toFailure } from "../errors.ts";
import {
  type AnswerEntry,
  type AnswerPacket,
  type Ask,
  BlobReader,
  type CallPacket,
  hasOwnBuffer,
  packBlobs,
  type WorkerSettings,
} from "../messages.ts";
import { Housekeeping } from "./housekeeping.ts";
import { durableKinds, isRead, type PendingCall, read, write } from "./operations.ts";
import { Tables } from "./tables.ts";

/** What one transaction takes at most, so that none is long. */
const maxCallsPerTransaction = 2000;
const maxBlobsPerTransaction = 5000;
const maxBytesPerTransaction = 16 * 1024 * 1024;

/** Executes calls. */
export class Engine {
  readonly tables: Tables;
  readonly #housekeeping: Housekeeping;
  readonly #send: (packet: AnswerPacket) => void;
  #reads: PendingCall[] = [];
  #writes: PendingCall[] = [];
  #answers: AnswerEntry[] = [];
  #answerBlobs: Uint8Array[] = [];
  #scheduled: NodeJS.Immediate | undefined;
  #closed = false;

  /** Opens the file. Throws StoreError. */
  constructor(settings: WorkerSettings, send: (packet: AnswerPacket) => void) {
    this.#send = send;
    this.tables = new Tables(settings);
    this.#housekeeping = new Housekeeping(settings, this.tables, {
      wake: () => this.#runSoon(),
      transact: (durable, body) => this.#background(durable, body),
    });
  }

  /** Takes calls; they are done in the next turn, together with others that come until then. */
  take(packet: CallPacket): void {
    const reader = new BlobReader(packet.blobs);
    for (const [id, kind, ask, count] of packet.calls) {
      if (kind === "changes") {
        const answer = (told: unknown, blobs: readonly Uint8Array[]) => this.#answer(id, told, blobs);
        this.tables.watchers.add(id, ask as Ask<"changes">, answer);
        this.tables.timesChanged = true;
        continue;
      }
      const blobs = count === 0 ? [] : reader.take(count);
      const bytes = blobs.reduce((sum, { length }) => sum + length, 0);
      (isRead(kind) ? this.#reads : this.#writes).push({ id, kind, ask, blobs, bytes });
    }
    for (const id of packet.cancelled) this.#cancel(id);
    if (packet.close) this.#close();
    else this.#runSoon();
  }

  #runSoon(): void {
    if (this.#closed) return;
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined;
      this.#run();
    });
  }

  /** One turn: all reads, and one transaction. */
  #run(): void {
    if (this.#reads.length > 0) this.#readAll(this.#reads.splice(0));
    const { receivers, watchers } = this.tables;
    if (this.#writes.length > 0 || receivers.due) {
      const batch = this.#nextBatch();
      this.#transact(batch);
      for (const { blobs } of batch) for (const blob of blobs) free(blob);
    }
    this.#housekeeping.afterRun();
    if (watchers.due) this.#look();
    this.#reply();
    this.tables.file.checkpoint();
    if (this.#writes.length > 0 || receivers.due || watchers.due) this.#runSoon();
  }

  #nextBatch(): PendingCall[] {
    let blobs = 0;
    let bytes = 0;
    let count = 0;
    for (const call of this.#writes) {
      blobs += call.blobs.length;
      bytes += call.bytes;
      const full =
        count >= maxCallsPerTransaction || blobs > maxBlobsPerTransaction || bytes > maxBytesPerTransaction;
      if (count > 0 && full) break;
      count += 1;
    }
    return this.#writes.splice(0, count);
  }

  #readAll(calls: readonly PendingCall[]): void {
    try {
      this.tables.read(() => {
        for (const call of calls) {
          try {
            const { answer, blobs } = read(this.tables, call);
            this.#answer(call.id, answer, blobs);
          } catch (error) {
            this.#answer(call.id, error instanceof Error ? error : new Error(String(error)), []);
          }
        }
      });
    } catch (error) {
      for (const { id } of calls) this.#answer(id, asStoreError(error), []);
    }
  }

  /** Executes calls and serves those who wait. When something unforeseen happens, each call has a transaction of its own. */
  #transact(calls: readonly PendingCall[]): void {
    const { receivers } = this.tables;
    const done: (() => void)[] = [];
    const durable = calls.some(({ kind }) => durableKinds.has(kind));
    try {
      this.tables.write(
        durable,
        () => {
          for (const call of calls) this.#execute(call, done);
          for (const topic of this.tables.topics.published) receivers.markTopic(topic);
          for (const group of this.tables.groups.woken) receivers.markGroup(group);
          receivers.serve();
        },
        calls.reduce((sum, { bytes }) => sum + bytes, 0),
      );
    } catch (error) {
      receivers.rollback();
      const known = asStoreError(error);
      const hopeless = known.errorClass !== undefined && known.errorClass !== "refused";
      if (calls.length > 1 && !hopeless) {
        for (const call of calls) this.#transact([call]);
        return;
      }
      for (const { id } of calls) if (!receivers.has(id)) this.#answer(id, known, []);
      receivers.fail(known);
      return;
    }
    receivers.commit();
    for (const answer of done) answer();
  }

  #execute(call: PendingCall, done: (() => void)[]): void {
    const { id, kind } = call;
    try {
      if (kind === "receive") {
        const { member, max } = call.ask as Ask<"receive">;
        // It is there already when the transaction is done once more.
        if (!this.tables.receivers.has(id)) {
          this.tables.receivers.add({
            id,
            member,
            max,
            answer: (answer, blobs) => this.#answer(id, answer, blobs),
          });
        }
        return;
      }
      const { answer, blobs } = write(this.tables, call);
      done.push(() => this.#answer(id, answer, blobs));
    } catch (error) {
      if (!changedNothing(error)) throw error;
      done.push(() => this.#answer(id, error, []));
    }
  }

  /** A transaction of nobody's call. */
  #background(durable: boolean, body: () => void): void {
    const { receivers, topics, groups } = this.tables;
    try {
      this.tables.write(durable, () => {
        body();
        for (const topic of topics.published) receivers.markTopic(topic);
        for (const group of groups.woken) receivers.markGroup(group);
      });
    } catch (error) {
      receivers.fail(asStoreError(error));
      this.#reply();
    }
  }

  #look(): void {
    const { watchers } = this.tables;
    try {
      this.tables.read(() => watchers.look());
    } catch (error) {
      watchers.fail(asStoreError(error));
    }
  }

  #cancel(id: number): void {
    // It may not have begun to wait.
    const queued = this.#writes.findIndex((call) => call.id === id);
    if (queued >= 0) {
      this.#writes.splice(queued, 1);
      this.#answer(id, [], []);
    }
    this.tables.receivers.cancel(id);
    this.tables.watchers.cancel(id);
  }

  #answer(id: number, answer: unknown, blobs: readonly Uint8Array[]): void {
    const failure = answer instanceof Error ? toFailure(answer) : undefined;
    this.#answers.push([id, failure, failure ? undefined : answer, blobs.length]);
    for (const blob of blobs) this.#answerBlobs.push(blob);
  }

  #reply(): void {
    if (this.#answers.length === 0) return;
    const blobs = packBlobs(this.#answerBlobs, true);
    const commitSeconds = this.tables.file.takeCommitSeconds();
    this.#send({ kind: "answers", answers: this.#answers, blobs, commitSeconds });
    this.#answers = [];
    this.#answerBlobs = [];
  }

  #close(): void {
    this.#closed = true;
    clearImmediate(this.#scheduled);
    this.#housekeeping.stop();
    this.#background(false, () => this.tables.processes.releaseSelf());
    this.tables.file.close();
    this.#send({ kind: "closed" });
  }
}

/** Gives the memory of a large value back now: the collector lets tens of megabytes gather first. */
function free(blob: Uint8Array): void {
  // An empty one may share a buffer that is gone already, and has none to give back.
  if (blob.length > 0 && hasOwnBuffer(blob)) blob.buffer.transfer(0);
}

/** Errors that operations throw before they write anything. */
function changedNothing(error: unknown): error is Error {
  return (
    error instanceof StoreError ||
    error instanceof EtagMismatch ||
    error instanceof PositionExpired ||
    error instanceof ValueChanged ||
    error instanceof UnknownPosition ||
    error instanceof OrderConflict
  );
}
