/**
 * What one consumer group reads of one topic, or of the topics of a pattern, in this sidecar: the events that may be
 * handed out, from all the partitions that are ours. Its subscriptions share it.
 */
import type { StartAt } from "../../../blocks/pubsub/driver.ts";
import type { TopicPartition } from "../client.ts";
import type { Entry, PartitionLog } from "./partition-log.ts";
import { RetryTimes } from "./retry-times.ts";

/** What a feed needs of the consumer that it belongs to. */
export interface FeedHost {
  /** False while others may have taken over the partitions. */
  mayHandOut(): boolean;
  /** There is room in a partition again. */
  drained(): void;
  /** Nothing of the partition is with the application any more. */
  idle(log: PartitionLog): void;
}

/** Whoever takes events: one subscription. */
export interface Taker {
  /** Entries that it holds. */
  readonly held: Set<Entry>;
}

interface Waiter {
  readonly taker: Taker;
  readonly max: number;
  resolve(entries: readonly Entry[]): void;
}

/** See the head of this file. */
export class Feed {
  /** Whether it reads a topic, by Kafka's name. */
  readonly reads: (topic: string) => boolean;
  readonly ordered: boolean;
  /** The topics among them that hold events of another for later, by Kafka's names. */
  readonly retryTopics: ReadonlySet<string>;
  readonly takers = new Set<Taker>();
  /** The partitions that there were when it began; what came later begins with its first event. */
  readonly known = new Set<string>();
  /** Where the group begins in those; undefined when it has been there before. */
  start: StartAt | undefined;
  readonly #host: FeedHost;
  /** Handed out once already: they go before those that were not. */
  #again: Entry[] = [];
  #fresh: Entry[] = [];
  #next = 0;
  readonly #later: RetryTimes;
  #waiters: Waiter[] = [];

  constructor(
    reads: (topic: string) => boolean,
    ordered: boolean,
    host: FeedHost,
    retryTopics: ReadonlySet<string> = new Set(),
  ) {
    this.retryTopics = retryTopics;
    this.reads = reads;
    this.ordered = ordered;
    this.#host = host;
    this.#later = new RetryTimes((due) => {
      for (const entry of due) this.#makeReady(entry, this.#again);
      this.wake();
    });
  }

  /** Takes entries that may be handed out, now or at their time. */
  offer(entries: readonly Entry[]): void {
    const nowMs = Date.now();
    for (const entry of entries) {
      if (entry.log.draining || entry.log.gone) continue;
      if (entry.notBeforeMs > nowMs) this.#wait(entry);
      else this.#makeReady(entry, this.#fresh);
    }
    this.wake();
  }

  /** Gives 1 to `max` entries to a taker, when there are any; none when the signal aborts or the taker leaves. */
  async take(taker: Taker, max: number, signal: AbortSignal): Promise<readonly Entry[]> {
    if (signal.aborted || !this.takers.has(taker)) return [];
    const now = this.#takeNow(taker, max);
    if (now.length > 0) return now;
    const { promise, resolve } = Promise.withResolvers<readonly Entry[]>();
    const waiter = { taker, max, resolve };
    this.#waiters.push(waiter);
    const abort = () => {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
      resolve([]);
    };
    signal.addEventListener("abort", abort, { once: true });
    return await promise.finally(() => signal.removeEventListener("abort", abort));
  }

  /** Gives waiting takers what there is. */
  wake(): void {
    while (this.#waiters.length > 0) {
      const waiter = this.#waiters[0]!;
      const entries = this.#takeNow(waiter.taker, waiter.max);
      if (entries.length === 0) return;
      this.#waiters.shift();
      waiter.resolve(entries);
    }
  }

  /** An entry that a taker held is settled. */
  done(entry: Entry): void {
    const { log } = entry;
    this.#returned(entry);
    const next = log.done(entry);
    if (next) this.offer([next]);
    this.#host.drained();
  }

  /** An entry is to be tried again; the attempt has counted. */
  again(entry: Entry, delayMs: number): void {
    this.#returned(entry);
    entry.attempts += 1;
    entry.notBeforeMs = Date.now() + delayMs;
    if (entry.log.draining) entry.state = "ready";
    else if (delayMs > 0) this.#wait(entry);
    else this.#makeReady(entry, this.#again);
    this.wake();
  }

  /** Entries that nobody has looked at come again, in their order. */
  giveBack(entries: Iterable<Entry>): void {
    const ordered = [...entries].sort((a, b) => a.offset - b.offset);
    for (const entry of ordered) {
      this.#returned(entry);
      if (entry.log.draining) entry.state = "ready";
      else this.#makeReady(entry, this.#again);
    }
    this.#again.sort((a, b) => (a.log === b.log ? a.offset - b.offset : 0));
    this.wake();
  }

  /** A partition is not to be handed out any more; what is out may still be settled. */
  detach(log: PartitionLog): void {
    const others = (entry: Entry) => entry.log !== log;
    this.#again = this.#again.filter(others);
    this.#fresh = this.#fresh.slice(this.#next).filter(others);
    this.#next = 0;
    this.#later.remove((entry) => entry.log === log);
    log.readyBytes = 0;
  }

  /** It is to be handed out again after all. */
  attach(log: PartitionLog): void {
    const entries = [...log.unsettled()].filter(({ state }) => state === "ready" || state === "waiting");
    for (const entry of entries) entry.state = "ready";
    this.offer(entries);
  }

  /** A taker leaves; what it holds is given back. */
  leave(taker: Taker): void {
    if (!this.takers.delete(taker)) return;
    for (const waiter of this.#waiters.filter((one) => one.taker === taker)) waiter.resolve([]);
    this.#waiters = this.#waiters.filter((one) => one.taker !== taker);
    this.giveBack([...taker.held].filter(({ log }) => !log.gone));
    taker.held.clear();
  }

  /** Ends every wait. */
  close(): void {
    for (const { resolve } of this.#waiters) resolve([]);
    this.#waiters = [];
    this.#later.close();
    this.#again = [];
    this.#fresh = [];
    this.#next = 0;
  }

  /** Whether a partition existed when the group began here. */
  knew({ topic, partition }: TopicPartition): boolean {
    return this.known.has(`${partition}/${topic}`);
  }

  #takeNow(taker: Taker, max: number): Entry[] {
    const taken: Entry[] = [];
    if (!this.#host.mayHandOut()) return taken;
    while (taken.length < max && this.#again.length > 0) this.#handOut(this.#again.shift()!, taker, taken);
    while (taken.length < max && this.#next < this.#fresh.length) {
      this.#handOut(this.#fresh[this.#next++]!, taker, taken);
    }
    if (this.#next === this.#fresh.length) {
      this.#fresh = [];
      this.#next = 0;
    }
    if (taken.length > 0) this.#host.drained();
    return taken;
  }

  #handOut(entry: Entry, taker: Taker, into: Entry[]): void {
    const { log } = entry;
    entry.state = "out";
    log.readyBytes -= entry.bytes;
    log.out += 1;
    taker.held.add(entry);
    into.push(entry);
  }

  #returned(entry: Entry): void {
    const { log } = entry;
    entry.receipt = undefined;
    entry.state = "ready";
    log.out -= 1;
    if (log.out === 0 && log.draining) this.#host.idle(log);
  }

  #makeReady(entry: Entry, queue: Entry[]): void {
    entry.state = "ready";
    entry.log.readyBytes += entry.bytes;
    queue.push(entry);
  }

  #wait(entry: Entry): void {
    entry.state = "waiting";
    this.#later.add(entry);
  }
}
