/**
 * One partition as its reader sees it: what was read and is not settled, and the position that may be committed,
 * which is the lowest offset that is not settled. What is settled above it is remembered beside the position, in the
 * broker, so that it is not read again after a move or a restart.
 */
import type { CommittedOffset, TopicPartition } from "../client.ts";
import type { FetchedRecord, FetchedRecords } from "../record-batch.ts";
import { decodeProgress, encodeProgress, type Retry } from "./progress.ts";

/**
 * What is known of a record that was read: `ready` may be handed out, `blocked` waits for another of its key, `out` is
 * with the application, `waiting` is to be tried again later, `done` is settled.
 */
export type EntryState = "ready" | "blocked" | "out" | "waiting" | "done";

/** A record that was read. */
export interface Entry {
  readonly log: PartitionLog;
  readonly offset: number;
  /** Gone when it is settled. */
  record: FetchedRecord | undefined;
  readonly bytes: number;
  readonly key: string;
  state: EntryState;
  /** How often it was tried and counted. */
  attempts: number;
  /** Milliseconds since 1970. */
  notBeforeMs: number;
  /** The last time it was handed out: a receipt is good once. */
  receipt: object | undefined;
}

/** What a record takes beside its key and value, in bytes, roughly. */
const entryOverheadBytes = 300;
/** Settled entries at the front that are kept until they are removed together. */
const removeAtOnce = 1024;

/** See the head of this file. */
export class PartitionLog implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly ordered: boolean;
  /** Where to read on. */
  nextOffset: number;
  /** Where the partition began when it was read last. */
  logStartOffset = 0;
  /** Events that were removed before they were settled. */
  trimmed: number;
  /** Bytes of what was read and is not settled. */
  heldBytes = 0;
  /** Nothing more is read while there is more than this. */
  maxHeldBytes = 32 * 1024 * 1024;
  /** Bytes of what may be handed out. */
  readyBytes = 0;
  /** How many are with the application. */
  out = 0;
  /** It is to move: nothing is handed out any more. */
  draining = false;
  /** It is somebody else's: what was read from it is worth nothing. */
  gone = false;
  /** A fetch is under way. */
  fetching = false;
  /** When it may be read again, by performance.now(). */
  notBefore = 0;
  failures = 0;
  #entries: Entry[] = [];
  #head = 0;
  readonly #keys = new Map<string, Entry[]>();
  /** Settled by others before, above the position. */
  readonly #settledBefore: Set<number>;
  readonly #retries: Map<number, Retry>;
  #committed = "";

  constructor({ topic, partition }: TopicPartition, ordered: boolean, committed: CommittedOffset) {
    this.topic = topic;
    this.partition = partition;
    this.ordered = ordered;
    this.nextOffset = committed.offset;
    const progress = decodeProgress(committed.metadata, committed.offset);
    this.trimmed = progress.trimmed;
    this.#settledBefore = progress.settled;
    this.#retries = progress.retries;
    this.#committed = fingerprint(committed);
  }

  /** The lowest offset that is not settled. */
  get position(): number {
    return this.#entries[this.#head]?.offset ?? this.nextOffset;
  }

  /** How far reading is ahead of what is settled. */
  get distance(): number {
    return this.nextOffset - this.position;
  }

  /** Settled events above the position. */
  get settledAhead(): number {
    let count = 0;
    for (let i = this.#head; i < this.#entries.length; i += 1)
      if (this.#entries[i]!.state === "done") count += 1;
    const { position } = this;
    for (const offset of this.#settledBefore) if (offset > position) count += 1;
    return count;
  }

  /** Takes what was read; gives the entries that may be handed out, now or at their time. */
  add({ records, nextOffset }: FetchedRecords): Entry[] {
    const added: Entry[] = [];
    for (const record of records) {
      if (record.offset < this.nextOffset || this.#settledBefore.delete(record.offset)) continue;
      const retry = this.#retries.get(record.offset);
      this.#retries.delete(record.offset);
      const entry: Entry = {
        log: this,
        offset: record.offset,
        record,
        bytes: entryOverheadBytes + (record.key?.length ?? 0) + (record.value?.length ?? 0),
        key: this.ordered && record.key !== null ? record.key.toString() : "",
        state: "ready",
        attempts: retry?.attempts ?? 0,
        notBeforeMs: retry?.notBeforeMs ?? 0,
        receipt: undefined,
      };
      this.#entries.push(entry);
      this.heldBytes += entry.bytes;
      if (this.#isFirstOfKey(entry)) added.push(entry);
      else entry.state = "blocked";
    }
    if (nextOffset !== undefined && nextOffset > this.nextOffset) this.nextOffset = nextOffset;
    for (const offset of this.#settledBefore)
      if (offset < this.nextOffset) this.#settledBefore.delete(offset);
    return added;
  }

  /** An entry is settled. Gives the one of its key that may be handed out now. */
  done(entry: Entry): Entry | undefined {
    entry.state = "done";
    entry.record = undefined;
    this.heldBytes -= entry.bytes;
    while (this.#entries[this.#head]?.state === "done") this.#head += 1;
    if (this.#head === this.#entries.length || this.#head >= removeAtOnce) {
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
    if (entry.key === "") return undefined;
    const sameKey = this.#keys.get(entry.key)!;
    sameKey.shift();
    const next = sameKey[0];
    if (next === undefined) this.#keys.delete(entry.key);
    else next.state = "ready";
    return next;
  }

  /** The entries that are not settled, in order. */
  *unsettled(): Generator<Entry> {
    for (let i = this.#head; i < this.#entries.length; i += 1) {
      if (this.#entries[i]!.state !== "done") yield this.#entries[i]!;
    }
  }

  /** Goes on reading somewhere else. */
  jump(offset: number): void {
    this.nextOffset = offset;
  }

  /** What is to be committed; undefined when it is committed already. */
  uncommitted(): CommittedOffset | undefined {
    const now = this.#progress();
    return fingerprint(now) === this.#committed ? undefined : now;
  }

  /** The broker has it. */
  wasCommitted(offset: CommittedOffset): void {
    this.#committed = fingerprint(offset);
  }

  #progress(): CommittedOffset {
    const { topic, partition, position, trimmed } = this;
    const settled: number[] = [];
    const retries: Retry[] = [];
    for (let i = this.#head; i < this.#entries.length; i += 1) {
      const { offset, state, attempts, notBeforeMs } = this.#entries[i]!;
      if (state === "done") settled.push(offset);
      else if (attempts > 0) retries.push({ offset, attempts, notBeforeMs });
    }
    settled.push(...this.#settledBefore);
    retries.push(...this.#retries.values());
    return {
      topic,
      partition,
      offset: position,
      metadata: encodeProgress({ trimmed, settled, retries }, position),
    };
  }

  #isFirstOfKey(entry: Entry): boolean {
    if (entry.key === "") return true;
    const sameKey = this.#keys.get(entry.key);
    if (sameKey === undefined) {
      this.#keys.set(entry.key, [entry]);
      return true;
    }
    sameKey.push(entry);
    return false;
  }
}

function fingerprint({ offset, metadata }: CommittedOffset): string {
  return `${offset} ${metadata}`;
}
