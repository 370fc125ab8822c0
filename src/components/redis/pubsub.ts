/** pubsub.redis: a topic is a stream, a group is a consumer group. */
import { randomBytes } from "node:crypto";
import type { Call } from "../../blocks/call.ts";
import type {
  DriverSubscription,
  Outgoing,
  Published,
  PubSubDriver,
  SubscriptionSpec,
} from "../../blocks/pubsub/driver.ts";
import { isPattern } from "../../blocks/pubsub/topics.ts";
import type { OpenContext } from "../../component.ts";
import { DelayedEvents } from "./delayed-events.ts";
import { classify } from "./errors.ts";
import { Feed } from "./feed.ts";
import { Link } from "./link.ts";
import { Publisher } from "./publisher.ts";
import type { ConnectionSettings, StreamSettings } from "./settings.ts";
import { RedisSubscription } from "./subscription.ts";
import { startId, Topics } from "./topics.ts";

/** A broker in Redis. */
export class RedisPubSub implements PubSubDriver {
  readonly supports = {
    delay: true,
    ordering: true,
    wildcards: true,
    positions: true,
    startAtTime: true,
    lag: true,
    durableAttempts: true,
  };
  readonly overlaps = true;
  readonly classify = classify;
  readonly #link: Link;
  readonly #settings: StreamSettings;
  readonly #log: OpenContext["telemetry"]["log"];
  readonly #topics: Topics;
  readonly #delayed: DelayedEvents;
  readonly #publisher: Publisher;
  readonly #subscriptions = new Set<RedisSubscription>();
  /** No other driver names its members so. */
  readonly #instance: string;
  #members = 0;

  private constructor(link: Link, settings: StreamSettings, context: OpenContext) {
    this.#link = link;
    this.#settings = settings;
    this.#log = context.telemetry.log;
    this.#instance = `${context.appId}-${context.instanceId}-${randomBytes(4).toString("hex")}`;
    this.#topics = new Topics(link);
    this.#delayed = new DelayedEvents(link, settings);
    this.#publisher = new Publisher({ link, topics: this.#topics, delayed: this.#delayed, settings });
  }

  /** Connects. Throws RedisFailure when it cannot. */
  static async open(
    connection: ConnectionSettings,
    settings: StreamSettings,
    context: OpenContext,
  ): Promise<RedisPubSub> {
    return new RedisPubSub(await Link.open(connection, context), settings, context);
  }

  async publish(
    topic: string,
    events: readonly Outgoing[],
    call: Call,
  ): Promise<readonly (Published | Error)[]> {
    const results = await this.#publisher.publish(topic, events, call);
    await this.#link.replicated(call);
    return results;
  }

  async open(spec: SubscriptionSpec, call: Call): Promise<DriverSubscription> {
    this.#members += 1;
    const member = `${this.#instance}-${this.#members}`;
    const broadcast = spec.group === undefined;
    const { ordered, raw } = spec;
    const subscription = new RedisSubscription({
      link: this.#link,
      topics: this.#topics,
      log: this.#log,
      topic: spec.topic,
      group: spec.group ?? `broadcast-${member}`,
      isPattern: isPattern(spec.topic),
      broadcast,
      start: startId(spec.start),
      feed: (topic, group) =>
        new Feed({
          link: this.#link,
          log: this.#log,
          settings: this.#settings,
          topics: this.#topics,
          topic,
          group,
          broadcast,
          ordered,
          raw,
          member,
        }),
      onClosed: () => void this.#subscriptions.delete(subscription),
    });
    this.#subscriptions.add(subscription);
    await subscription.open(call);
    return subscription;
  }

  async ping(call: Call): Promise<void> {
    await this.#link.send(["PING"], call);
  }

  async close(): Promise<void> {
    this.#delayed.close();
    this.#publisher.close();
    const closed = await Promise.allSettled(
      [...this.#subscriptions].map((subscription) => subscription.close()),
    );
    this.#link.close();
    const failed = closed.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
  }
}
