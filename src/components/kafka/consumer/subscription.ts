/** One subscription of the block: a taker of a feed. */
import type { Call } from "../../../blocks/call.ts";
import type {
  DriverSubscription,
  Lag,
  PartitionLag,
  Received,
  Settlement,
} from "../../../blocks/pubsub/driver.ts";
import { earliest, type KafkaClient, latest, type TopicPartition } from "../client.ts";
import { fromRecord } from "../event-records.ts";
import { abortable } from "../patience.ts";
import { fromKafkaTopic } from "../topic-names.ts";
import type { Topics } from "../topics.ts";
import type { Consumer } from "./consumer.ts";
import type { Feed, Taker } from "./feed.ts";
import type { Entry } from "./partition-log.ts";
import { decodeProgress } from "./progress.ts";
import { originOf, type RetryTopics } from "./retry-topics.ts";
import { listOffsets, positionOf } from "./start.ts";

/** What a subscription works with. */
export interface SubscriptionContext {
  readonly consumer: Consumer;
  readonly feed: Feed;
  readonly raw: boolean;
  readonly group: string | undefined;
  readonly client: KafkaClient;
  readonly topics: Topics;
  /** Where events wait that are to be tried again much later; undefined: here. */
  readonly retry: RetryTopics | undefined;
  /** Kafka's names of the topics that it reads. */
  reading(): Promise<readonly string[]>;
  /** What an application gets of a record's headers. */
  headers(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>>;
  /** The last of a feed leaves, or one of several. */
  close(): Promise<void>;
}

/** A receipt is good for the one time that its entry was handed out. */
class Receipt {
  readonly entry: Entry;

  constructor(entry: Entry) {
    this.entry = entry;
  }
}

/** See the head of this file. */
export class KafkaSubscription implements DriverSubscription, Taker {
  readonly held = new Set<Entry>();
  readonly #context: SubscriptionContext;
  #closed: Promise<void> | undefined;

  constructor(context: SubscriptionContext) {
    this.#context = context;
    context.feed.takers.add(this);
  }

  async receive(max: number, call: Call): Promise<readonly Received[]> {
    const entries = await this.#context.feed.take(this, max, call.signal);
    return entries.map((entry) => this.#toReceived(entry));
  }

  async settle(settlements: readonly Settlement[]): Promise<void> {
    const { consumer, feed } = this.#context;
    const returned: Entry[] = [];
    const moves: Promise<void>[] = [];
    for (const settlement of settlements) {
      const entry = this.#entryOf(settlement.receipt);
      if (entry === undefined) continue;
      this.held.delete(entry);
      if (settlement.kind === "done") feed.done(entry);
      else if (settlement.kind === "again") {
        if (this.#context.retry?.takes(settlement.delayMs)) moves.push(this.#move(entry, settlement.delayMs));
        else feed.again(entry, settlement.delayMs);
      } else returned.push(entry);
    }
    if (returned.length > 0) feed.giveBack(returned);
    await Promise.all(moves);
    consumer.drained();
  }

  async lag(call: Call): Promise<Lag> {
    return await abortable(this.#lag(), call.signal);
  }

  get trouble(): string {
    return this.#context.consumer.trouble;
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#context.feed.leave(this);
    await this.#context.close();
  }

  async #lag(): Promise<Lag> {
    const { client, consumer, group, topics } = this.#context;
    const names = await this.#context.reading();
    const leaders = await topics.lookUp(names);
    const partitions: TopicPartition[] = [...leaders].flatMap(([topic, all]) =>
      Array.from(all, (_, partition) => ({ topic, partition })),
    );
    const others = partitions.filter(({ topic, partition }) => !consumer.log(topic, partition));
    const committed = group === undefined ? [] : await client.fetchOffsets(group, others);
    const byKey = new Map(committed.map((one) => [`${one.partition}/${one.topic}`, one]));
    const ends = await listOffsets(
      client,
      topics,
      partitions.map((one) => ({ ...one, timestampMs: latest })),
    );
    // What nobody has begun to read will be read from its first event.
    const unread = others.filter(({ topic, partition }) => !byKey.has(`${partition}/${topic}`));
    const begins = await listOffsets(
      client,
      topics,
      unread.map((one) => ({ ...one, timestampMs: earliest })),
    );
    const beginOf = new Map(unread.map(({ topic, partition }, i) => [`${partition}/${topic}`, begins[i]!]));
    const lags: PartitionLag[] = [];
    let trimmedUnsettled = 0;
    for (const [index, { topic, partition }] of partitions.entries()) {
      const end = ends[index]!;
      const log = consumer.log(topic, partition);
      const other = byKey.get(`${partition}/${topic}`);
      let events = 0;
      if (log) {
        events = end - log.position - log.settledAhead;
        trimmedUnsettled += log.trimmed;
      } else if (other) {
        const progress = decodeProgress(other.metadata, other.offset);
        events = end - other.offset - progress.settled.size;
        trimmedUnsettled += progress.trimmed;
      } else events = end - (beginOf.get(`${partition}/${topic}`) ?? end);
      lags.push({ topic: fromKafkaTopic(topic), partition, events: Math.max(0, events) });
    }
    const events = lags.reduce((sum, lag) => sum + lag.events, 0);
    return { events, trimmedUnsettled, partitions: lags };
  }

  /** Puts an entry where it waits without being held; when that fails it waits here. */
  async #move(entry: Entry, delayMs: number): Promise<void> {
    const { feed, group, retry } = this.#context;
    entry.receipt = undefined;
    try {
      await retry!.put(entry, this.#origin(entry), group!, delayMs);
      feed.done(entry);
    } catch {
      if (!entry.log.gone) feed.again(entry, delayMs);
    }
  }

  /** The topic that an entry was published to. */
  #origin({ log }: Entry): string {
    return this.#context.feed.retryTopics.has(log.topic) ? originOf(log.topic) : log.topic;
  }

  #entryOf(receipt: unknown): Entry | undefined {
    if (!(receipt instanceof Receipt)) return undefined;
    const { entry } = receipt;
    if (entry.receipt !== receipt || !this.held.has(entry)) return undefined;
    if (!entry.log.gone) return entry;
    // Somebody else has it now.
    this.held.delete(entry);
    return undefined;
  }

  #toReceived(entry: Entry): Received {
    const { log, offset } = entry;
    const record = entry.record!;
    const receipt = new Receipt(entry);
    entry.receipt = receipt;
    const { event, headers, expiresAtMs, notCloudEvent } = fromRecord(record, this.#context.raw);
    return {
      receipt,
      event,
      topic: fromKafkaTopic(this.#origin(entry)),
      key: record.key === null ? "" : record.key.toString(),
      position: positionOf(log.partition, offset),
      publishedAtMs: record.timestampMs,
      expiresAtMs,
      attempt: entry.attempts + 1,
      headers: this.#context.headers(headers),
      partition: log.partition,
      offset: BigInt(offset),
      ...(notCloudEvent === undefined ? {} : { notCloudEvent }),
    };
  }
}
