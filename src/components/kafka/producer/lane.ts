/** The events of one partition on their way: one batch, and what gathers behind it. */
import type { ProducerIdentity } from "../client.ts";
import type { KafkaError } from "../errors.ts";
import { batchHeaderBytes, type EncodedBatch, recordOverheadBytes } from "../record-batch.ts";
import type { Tally } from "./tallies.ts";

/** An event that waits, or is on its way. */
export interface Waiting {
  readonly tally: Tally;
  readonly index: number;
  readonly tail: Buffer;
  readonly timeMs: number;
}

/** What is sent, and sent again as it was. */
export interface Batch {
  readonly events: readonly Waiting[];
  readonly encoded: EncodedBatch;
}

/** See the head of this file. */
export class Lane {
  readonly topic: string;
  readonly partition: number;
  batch: Batch | undefined;
  /** Of the next batch. */
  sequence = 0;
  /** Whose sequence that is. */
  identity: ProducerIdentity | undefined;
  notBefore = 0;
  sending = false;
  /** Attempts in a row. */
  failures = 0;
  /** Why the last attempt failed. */
  trouble: KafkaError | undefined;
  #waiting: Waiting[] = [];

  constructor(topic: string, partition: number) {
    this.topic = topic;
    this.partition = partition;
  }

  /** Whether there is nothing to send. */
  get empty(): boolean {
    return this.batch === undefined && this.#waiting.length === 0;
  }

  add(event: Waiting): void {
    this.#waiting.push(event);
  }

  /** These go before all others. */
  putBack(events: readonly Waiting[]): void {
    this.#waiting = [...events, ...this.#waiting];
  }

  /**
   * Takes what waits, up to the size of a batch, but one event that somebody waits for, if there is one. Those that
   * nobody waits for any more are among them.
   */
  take(maxBatchBytes: number): readonly Waiting[] {
    const events = this.#waiting;
    let bytes = batchHeaderBytes;
    let wanted = 0;
    let taken = 0;
    for (const { tail, tally } of events) {
      if (!tally.over) {
        bytes += tail.length + recordOverheadBytes;
        if (bytes > maxBatchBytes && wanted > 0) break;
        wanted += 1;
      }
      taken += 1;
    }
    this.#waiting = taken === events.length ? [] : events.slice(taken);
    return taken === events.length ? events : events.slice(0, taken);
  }

  /** Takes everything, also what is on its way. */
  takeAll(): readonly Waiting[] {
    const events = [...(this.batch?.events ?? []), ...this.#waiting];
    this.batch = undefined;
    this.#waiting = [];
    return events;
  }

  /** Takes what nobody waits for any more. */
  takeOver(): readonly Waiting[] {
    const over = this.#waiting.filter(({ tally }) => tally.over);
    if (over.length > 0) this.#waiting = this.#waiting.filter(({ tally }) => !tally.over);
    return over;
  }
}
