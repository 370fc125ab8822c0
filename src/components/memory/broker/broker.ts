import type { Outgoing, Published, SubscriptionSpec } from "../../../blocks/pubsub/driver.ts";
import { isPattern, matchesPattern } from "../../../blocks/pubsub/topics.ts";
import { BrokerError } from "./broker-error.ts";
import { Feed, Group } from "./group.ts";
import { Member } from "./member.ts";
import { type Due, Timers } from "./timers.ts";
import { bytesOf, type Entry, parsePosition, type Retention, Topic, withOwnData } from "./topic.ts";

/** How often each topic is looked through for what is too old, in milliseconds. */
const maxSweepIntervalMs = 60_000;

/**
 * A broker in this process. What is published is gone when the process ends;
 * until then it behaves as any other.
 *
 * Everything happens within the call that causes it: there is no queue between
 * a publish and the receive that waits for it.
 */
export class MemoryBroker {
  readonly #retention: Retention;
  readonly #timers = new Timers();
  readonly #topics = new Map<string, Topic>();
  /** By topic or pattern, then by name. */
  readonly #groups = new Map<string, Map<string, Group>>();
  /** Groups whose topic is a pattern, broadcasts included: they meet every new topic. */
  readonly #patterns = new Set<Group>();
  #sequence = 0;
  #users = 0;
  /** Of events that wait for their time. */
  #delayedBytes = 0;

  constructor(retention: Retention) {
    this.#retention = retention;
  }

  /** Somebody uses the broker: time passes. */
  enter(): void {
    this.#users += 1;
    this.#timers.start();
  }

  /** Nothing is lost when the last user has left, but what waits for a time waits for the next user too. */
  exit(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#timers.stop();
  }

  publish(topicName: string, events: readonly Outgoing[]): (Published | Error)[] {
    const nowMs = Date.now();
    const topic = this.#topic(topicName);
    const results: (Published | Error)[] = [];
    for (const outgoing of events) {
      const { deliverAtMs } = outgoing;
      if (deliverAtMs !== undefined && deliverAtMs > nowMs) {
        results.push(this.#delay(topicName, outgoing, deliverAtMs));
      } else {
        results.push({ position: topic.append(outgoing, this.#nextSequence(), nowMs).position });
      }
    }
    topic.published();
    return results;
  }

  /** Joins a group, or makes it. `onClose` hears when the member has left. Throws BrokerError. */
  join(spec: SubscriptionSpec, onClose: (member: Member) => void): Member {
    const group = this.#group(spec);
    group.join(spec.ordered);
    return new Member(group, spec.raw, (member) => {
      if (!group.durable) {
        group.forget();
        this.#patterns.delete(group);
      }
      onClose(member);
    });
  }

  #group(spec: SubscriptionSpec): Group {
    const named = this.#groups.get(spec.topic);
    const existing = spec.group === undefined ? undefined : named?.get(spec.group);
    if (existing) return existing;
    if (spec.start.at === "position") parsePosition(spec.start.position);
    const definition = { name: spec.group, topic: spec.topic, isPattern: isPattern(spec.topic) };
    const group = new Group(definition, spec.ordered, this.#timers);
    if (spec.group !== undefined) {
      if (named) named.set(spec.group, group);
      else this.#groups.set(spec.topic, new Map([[spec.group, group]]));
    }
    this.#begin(group, spec);
    if (group.isPattern) this.#patterns.add(group);
    return group;
  }

  /** Gives a new group what its topics have, in the order in which it was published. */
  #begin(group: Group, { topic, start }: SubscriptionSpec): void {
    const topics = group.isPattern
      ? [...this.#topics.values()].filter(({ name }) => matchesPattern(topic, name))
      : [this.#topic(topic)];
    const first: { readonly entry: Entry; readonly feed: Feed }[] = [];
    for (const one of topics) {
      const feed = attach(group, one);
      for (const entry of one.from(start)) first.push({ entry, feed });
    }
    first.sort((one, other) => one.entry.sequence - other.entry.sequence);
    for (const { entry, feed } of first) feed.add(entry);
  }

  #topic(name: string): Topic {
    const existing = this.#topics.get(name);
    if (existing) return existing;
    const topic = new Topic(name, this.#retention);
    this.#topics.set(name, topic);
    for (const group of this.#patterns) if (matchesPattern(group.topic, name)) attach(group, topic);
    this.#sweepLater(topic);
    return topic;
  }

  /** Looks for old events as long as there are any, and forgets the topic when nothing is left of it. */
  #sweepLater(topic: Topic): void {
    const sweep = timed(() => {
      topic.sweep(Date.now());
      if (topic.forgettable) this.#forget(topic);
      else this.#timers.schedule(sweep, intervalMs);
    });
    const intervalMs = Math.min(this.#retention.ageMs, maxSweepIntervalMs);
    this.#timers.schedule(sweep, intervalMs);
  }

  #forget(topic: Topic): void {
    this.#topics.delete(topic.name);
    for (const group of this.#patterns) {
      const index = group.feeds.findIndex((feed) => feed.topic === topic);
      if (index >= 0) group.feeds.splice(index, 1);
    }
  }

  /** An event that waits cannot be trimmed like one that is in its topic: nobody would know. */
  #delay(topicName: string, outgoing: Outgoing, deliverAtMs: number): Published | Error {
    const bytes = bytesOf(outgoing);
    if (this.#delayedBytes + bytes > this.#retention.bytes) {
      return new BrokerError("unavailable", "too many events wait for their time");
    }
    this.#delayedBytes += bytes;
    withOwnData(outgoing.event);
    const enter = timed(() => {
      this.#delayedBytes -= bytes;
      const topic = this.#topic(topicName);
      topic.append(outgoing, this.#nextSequence(), Date.now());
      topic.published();
    });
    this.#timers.schedule(enter, deliverAtMs - Date.now());
    return { position: "" };
  }

  #nextSequence(): number {
    this.#sequence += 1;
    return this.#sequence;
  }
}

function attach(group: Group, topic: Topic): Feed {
  const feed = new Feed(group, topic);
  group.feeds.push(feed);
  topic.attach(feed);
  return feed;
}

function timed(fire: () => void): Due {
  return { heapIndex: -1, dueAt: 0, dueOrder: 0, fire };
}
