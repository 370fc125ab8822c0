/** The consumer groups of one component in this sidecar, and the subscriptions that read through them. */
import type { Call } from "../../blocks/call.ts";
import {
  type DriverSubscription,
  OrderConflict,
  type SubscriptionSpec,
  UnknownPosition,
} from "../../blocks/pubsub/driver.ts";
import { isPattern, matchesPattern } from "../../blocks/pubsub/topics.ts";
import { pause } from "../../pause.ts";
import type { KafkaClient, TopicPartition } from "./client.ts";
import { Consumer, type ConsumerContext, type ConsumerSettings } from "./consumer/consumer.ts";
import { Feed } from "./consumer/feed.ts";
import type { RetryTopics } from "./consumer/retry-topics.ts";
import { parsePosition } from "./consumer/start.ts";
import { KafkaSubscription } from "./consumer/subscription.ts";
import { cancelled } from "./errors.ts";
import { abortable, persist } from "./patience.ts";
import { fromKafkaTopic, toKafkaTopic } from "./topic-names.ts";
import type { Topics } from "./topics.ts";

/** What consumers work with. */
export interface ConsumersContext {
  readonly client: KafkaClient;
  readonly topics: Topics;
  readonly settings: ConsumerSettings;
  /** Undefined: events wait here until they are tried again. */
  readonly retry: RetryTopics | undefined;
  /** Connections for a consumer of its own. */
  connect(): KafkaClient;
  headers(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>>;
  readonly log: ConsumerContext["log"];
  readonly warn: ConsumerContext["warn"];
}

/** How long joining a group may take, whatever its caller would wait. */
const openWithinMs = 120_000;
/** How often the broker is asked whether the others of a group have begun. */
const beginningPollMs = 50;
const closeWithinMs = 3000;

interface Reading {
  readonly feed: Feed;
  readonly spec: SubscriptionSpec;
  /** Kafka's names. */
  readonly topics: Set<string>;
  readonly pattern: ((name: string) => boolean) | undefined;
}

interface Group {
  readonly consumer: Consumer;
  readonly readings: Map<string, Reading>;
  members: number;
  /** Readings that are ended and whose positions are being committed. */
  leaving: number;
  /** Its place in the group has been left. */
  readonly left: PromiseWithResolvers<void>;
}

/** See the head of this file. */
export class Consumers {
  readonly #context: ConsumersContext;
  readonly #groups = new Map<string, Group>();
  readonly #subscriptions = new Set<KafkaSubscription>();
  /** Groups that are being left, by key. */
  readonly #leaving = new Map<string, Promise<void>>();
  readonly #putOut = new Map<string, string>();
  readonly #closing = new AbortController();
  #broadcasts = 0;
  #refreshing: Promise<void> | undefined;

  constructor(context: ConsumersContext) {
    this.#context = context;
  }

  /** Joins the group, and resolves when everything that is published from then on will be received. */
  async open(spec: SubscriptionSpec, call: Call): Promise<DriverSubscription> {
    if (call.signal.aborted) throw cancelled(call.signal);
    const signal = AbortSignal.any([call.signal, this.#closing.signal]);
    const patience = { signal, limitMs: openWithinMs };
    if (spec.start.at === "position") {
      parsePosition(spec.start.position);
      if (isPattern(spec.topic))
        throw new UnknownPosition("a pattern cannot begin at a position of one topic");
    }
    const partitions = await persist(() => this.#partitions(spec.topic), patience);
    const groupId = groupOf(spec);
    const committed =
      groupId === undefined
        ? []
        : await persist(() => this.#context.client.fetchOffsets(groupId, partitions), patience);
    // Order does not go together with events that wait elsewhere, nor do patterns, which would read them as topics.
    const retry =
      spec.ordered || groupId === undefined || isPattern(spec.topic) ? undefined : this.#context.retry;
    const retryTopics = retry ? await persist(() => retry.ensure(toKafkaTopic(spec.topic)), patience) : [];
    const key = groupId ?? `\n${this.#broadcasts++}`;
    // Who joins under a name puts out who has it, before what that one has settled is committed.
    while (this.#context.settings.instanceId !== "" && this.#leaving.has(key))
      await abortable(this.#leaving.get(key)!, signal);
    const group = this.#groups.get(key) ?? this.#create(key, groupId);
    const reading =
      group.readings.get(spec.topic) ??
      this.#read(group, spec, partitions, committed.length === 0, retryTopics);
    if (reading.feed.ordered !== spec.ordered) {
      throw new OrderConflict("another subscription of the group reads the topic with another order");
    }
    group.members += 1;
    const subscription: KafkaSubscription = new KafkaSubscription({
      ...this.#context,
      consumer: group.consumer,
      feed: reading.feed,
      raw: spec.raw,
      group: groupId,
      retry,
      reading: async () => {
        const { pattern } = reading;
        return pattern ? (await this.#context.topics.all()).filter(pattern) : [...reading.topics];
      },
      close: () => this.#leave(key, group, reading, subscription),
    });
    this.#subscriptions.add(subscription);
    this.#refreshing ??= this.#refresh();
    try {
      await this.#begun(group.consumer, groupId, partitions, isPattern(spec.topic), signal);
    } catch (error) {
      await subscription.close();
      throw error;
    }
    return subscription;
  }

  /** How far reading is ahead of what is settled, for every partition that is read here. */
  get distances(): readonly { group: string; topic: string; partition: number; distance: number }[] {
    return [...this.#groups].flatMap(([key, { consumer }]) =>
      [...consumer.logs].map(({ topic, partition, distance }) => ({
        group: key.startsWith("\n") ? "" : key,
        topic: fromKafkaTopic(topic),
        partition,
        distance,
      })),
    );
  }

  /** Ends every subscription. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled([...this.#subscriptions].map((subscription) => subscription.close()));
    await this.#refreshing;
  }

  /** The partitions of a topic, which is made if need be, or of all topics of a pattern. */
  async #partitions(topic: string): Promise<readonly TopicPartition[]> {
    const { topics } = this.#context;
    if (!isPattern(topic)) {
      const name = toKafkaTopic(topic);
      topics.forget(name);
      return partitionsOf(new Map([[name, await topics.ensure(name)]]));
    }
    const matches = matcher(topic);
    return partitionsOf(await topics.lookUp((await topics.all()).filter(matches)));
  }

  #create(key: string, groupId: string | undefined): Group {
    const { client, topics, settings, log, warn } = this.#context;
    const named = (fields?: Readonly<Record<string, unknown>>) => ({ group: groupId ?? "", ...fields });
    const consumer = new Consumer({
      own: this.#context.connect(),
      shared: client,
      topics,
      group: groupId,
      settings,
      putOut: this.#putOut,
      log: (message, fields) => log(message, named(fields)),
      warn: (message, fields) => warn(message, named(fields)),
      closeWithinMs,
    });
    const left = Promise.withResolvers<void>();
    const group: Group = { consumer, readings: new Map(), members: 0, leaving: 0, left };
    this.#groups.set(key, group);
    return group;
  }

  #read(
    group: Group,
    spec: SubscriptionSpec,
    partitions: readonly TopicPartition[],
    fresh: boolean,
    retryTopics: readonly string[],
  ): Reading {
    const { consumer } = group;
    const pattern = isPattern(spec.topic) ? matcher(spec.topic) : undefined;
    const name = pattern ? "" : toKafkaTopic(spec.topic);
    const later = new Set(retryTopics);
    const reads = pattern ?? ((topic: string) => topic === name || later.has(topic));
    const feed = new Feed(reads, spec.ordered, consumer, later);
    for (const { topic, partition } of partitions) feed.known.add(`${partition}/${topic}`);
    if (fresh) feed.start = spec.start;
    const topics = new Set([...partitions.map(({ topic }) => topic), ...retryTopics]);
    const reading = { feed, spec, topics, pattern };
    group.readings.set(spec.topic, reading);
    const counts = new Map<string, number>();
    for (const { topic } of partitions) counts.set(topic, (counts.get(topic) ?? 0) + 1);
    consumer.add(feed, [...topics], counts);
    return reading;
  }

  /** Waits until each partition is read here, or has a position of the group, which somebody else reads from. */
  async #begun(
    consumer: Consumer,
    groupId: string | undefined,
    partitions: readonly TopicPartition[],
    pattern: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    let open = partitions;
    for (;;) {
      if (signal.aborted) throw cancelled(signal);
      if (consumer.refusal) throw consumer.refusal;
      open = open.filter(({ topic, partition }) => !consumer.log(topic, partition));
      // Of many topics some may be nothing for this user; one that is asked for by its name is.
      if (pattern) open = open.filter(({ topic }) => !consumer.refusalOf(topic));
      const refusal = open.map(({ topic }) => consumer.refusalOf(topic)).find((one) => one !== undefined);
      if (refusal) throw refusal;
      if (groupId !== undefined && open.length > 0) {
        const begun = await abortable(
          this.#context.client.fetchOffsets(groupId, open).catch(() => []),
          signal,
        );
        const keys = new Set(begun.map(({ topic, partition }) => `${partition}/${topic}`));
        open = open.filter(({ topic, partition }) => !keys.has(`${partition}/${topic}`));
      }
      if (open.length === 0) return;
      await Promise.race([consumer.changed, pause(beginningPollMs, signal, { ref: false })]);
    }
  }

  async #leave(key: string, group: Group, reading: Reading, subscription: KafkaSubscription): Promise<void> {
    this.#subscriptions.delete(subscription);
    group.members -= 1;
    if (reading.feed.takers.size > 0) return;
    group.readings.delete(reading.spec.topic);
    if (group.members === 0) {
      this.#groups.delete(key);
      this.#leaving.set(key, group.left.promise);
    }
    reading.feed.close();
    group.leaving += 1;
    await group.consumer.remove(reading.feed, [...reading.topics]);
    group.leaving -= 1;
    if (group.members + group.leaving > 0) return;
    await group.consumer.close();
    if (this.#leaving.get(key) === group.left.promise) this.#leaving.delete(key);
    group.left.resolve();
  }

  /** Looks for topics and partitions that are new, now and then. */
  async #refresh(): Promise<void> {
    const { topics, settings, log } = this.#context;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await pause(settings.refreshMs, signal, { ref: false });
      const groups = [...this.#groups.values()];
      if (signal.aborted || groups.length === 0) continue;
      try {
        const readings = groups.flatMap(({ readings: all }) => [...all.values()]);
        const all = readings.some(({ pattern }) => pattern) ? await topics.all() : [];
        for (const { consumer, readings: own } of groups) {
          for (const reading of own.values()) {
            const found = reading.pattern ? all.filter(reading.pattern) : [];
            for (const topic of found) reading.topics.add(topic);
            consumer.found(found);
          }
          const names = [...own.values()].flatMap((reading) => [...reading.topics]);
          const leaders = await topics.lookUp(names);
          consumer.noteCounts(new Map(names.map((topic) => [topic, leaders.get(topic)?.length ?? 0])));
        }
      } catch (error) {
        log("looking for new topics and partitions failed; trying again", { err: error });
      }
    }
  }
}

/** Patterns are groups of their own: another subscription of the group to one of their topics has its own position. */
function groupOf({ group, topic }: SubscriptionSpec): string | undefined {
  return group === undefined || !isPattern(topic) ? group : `${group}~${topic}`;
}

function partitionsOf(leaders: ReadonlyMap<string, readonly number[]>): readonly TopicPartition[] {
  return [...leaders].flatMap(([topic, all]) => Array.from(all, (_, partition) => ({ topic, partition })));
}

/** Whether a topic, by Kafka's name, is one that a pattern stands for. */
function matcher(pattern: string): (name: string) => boolean {
  return (name) => matchesPattern(pattern, fromKafkaTopic(name));
}
