/** Removes events that nobody wants any more, or that nobody may want any longer. */
import type { DeliveryTable } from "./deliveries.ts";
import type { Statement, StoreFile } from "./file.ts";
import type { GroupTable } from "./groups.ts";
import { eventOverheadBytes, type TopicTable } from "./topics.ts";

/** Events that one transaction removes: some milliseconds. */
const perSweep = 500;

/** Between two looks at the age of every topic: never longer than this. */
const maxAgeLookMs = 30_000;
const minAgeLookMs = 100;

/** What is kept. */
export interface Limits {
  /** Events are removed when they are older, in milliseconds. */
  readonly ageMs: number;
  /** The oldest events of a topic are removed when it takes more. */
  readonly bytes: number;
}

interface Oldest {
  readonly id: number;
  readonly bytes: number;
  readonly published_at: number;
}

/** Trims topics, a few events at a time. */
export class Retention {
  readonly #topics: TopicTable;
  readonly #groups: GroupTable;
  readonly #deliveries: DeliveryTable;
  readonly #oldest: Statement<Oldest>;
  readonly #remove: Statement<unknown>;
  readonly #all: Statement<{ id: number }>;
  /** Topics to look at, for what the last transactions did. */
  readonly #due = new Set<number>();
  #limits: Limits | undefined;
  #lastAgeLookAtMs = Number.NEGATIVE_INFINITY;

  constructor(file: StoreFile, topics: TopicTable, groups: GroupTable, deliveries: DeliveryTable) {
    this.#topics = topics;
    this.#groups = groups;
    this.#deliveries = deliveries;
    this.#oldest = file.statement(
      `SELECT id, length(event) + ${eventOverheadBytes} AS bytes, published_at FROM events
       WHERE topic = ? ORDER BY id LIMIT ?`,
    );
    this.#remove = file.statement("DELETE FROM events WHERE topic = ? AND id <= ?");
    this.#all = file.statement("SELECT id FROM topics");
  }

  /** Of several limits in one process, the least counts. */
  limit({ ageMs, bytes }: Limits): void {
    const { ageMs: oldAgeMs = ageMs, bytes: oldBytes = bytes } = this.#limits ?? {};
    this.#limits = { ageMs: Math.min(ageMs, oldAgeMs), bytes: Math.min(bytes, oldBytes) };
  }

  /** Says that something was published to a topic, or settled. */
  consider(topic: number): void {
    this.#due.add(topic);
  }

  /** Whether `sweep` has something to look at. Needs no transaction. */
  get due(): boolean {
    return this.#limits !== undefined && (this.#due.size > 0 || this.#ageLookIsDue());
  }

  /** Trims what one transaction may. True: there is more. */
  sweep(): boolean {
    if (!this.#limits) return false;
    if (this.#ageLookIsDue()) {
      this.#lastAgeLookAtMs = performance.now();
      for (const { id } of this.#all.all()) this.#due.add(id);
    }
    let left = perSweep;
    for (const topic of this.#due) {
      left -= this.#trim(topic, left, this.#limits);
      if (left <= 0) return true;
      this.#due.delete(topic);
    }
    return false;
  }

  #ageLookIsDue(): boolean {
    const ageMs = this.#limits?.ageMs ?? Number.POSITIVE_INFINITY;
    const everyMs = Math.min(maxAgeLookMs, Math.max(minAgeLookMs, ageMs / 10));
    return performance.now() - this.#lastAgeLookAtMs >= everyMs;
  }

  #trim(topic: number, max: number, limits: Limits): number {
    const readers = this.#groups.readersOf(topic);
    const wanted =
      readers.length === 0 ? 0 : Math.min(...readers.map((group) => this.#deliveries.oldestWanted(group)));
    const oldestKeptMs = Date.now() - limits.ageMs;
    let bytes = this.#topics.bytes(topic);
    const removed = new Set<number>();
    let removedBytes = 0;
    let first = 0;
    let last = 0;
    let unsettled = false;
    for (const event of this.#oldest.iterate(topic, max)) {
      const tooOld = event.published_at < oldestKeptMs;
      if (event.id >= wanted && !tooOld && bytes <= limits.bytes) break;
      if (removed.size === 0) first = event.id;
      last = event.id;
      removed.add(event.id);
      unsettled ||= event.id >= wanted;
      bytes -= event.bytes;
      removedBytes += event.bytes;
    }
    if (removed.size === 0) return 0;
    if (unsettled) for (const group of readers) this.#deliveries.forget(group, removed, first, last);
    // They were the first of the topic, one after the other.
    this.#remove.run(topic, last);
    this.#topics.shrink(topic, removedBytes);
    return removed.size;
  }
}
