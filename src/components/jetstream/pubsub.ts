/** pubsub.jetstream: topics as subjects of streams, groups as durable consumers. */
import { nuid } from "@nats-io/transport-node";
import type { Call } from "../../blocks/call.ts";
import type {
  DriverSubscription,
  Outgoing,
  Published,
  PubSubDriver,
  PubSubSupports,
  SubscriptionSpec,
} from "../../blocks/pubsub/driver.ts";
import type { OpenContext } from "../../component.ts";
import { Connection, until } from "./connection.ts";
import { classify, NatsError } from "./errors.ts";
import { toMessage } from "./events.ts";
import { Group, type GroupContext } from "./group.ts";
import { Uncounted } from "./held.ts";
import { Member } from "./member.ts";
import { Publisher, type Sending } from "./publisher.ts";
import type { PubSubFields } from "./settings.ts";
import { Streams, schedulesSince } from "./streams.ts";
import { subjectOf, waitingSubject } from "./subjects.ts";

/** How long a call waits for the server, when it does not end before. */
const withinMs = 10_000;

/** A broker on a NATS server. */
export class JetStreamPubSub implements PubSubDriver {
  readonly supports: PubSubSupports;
  readonly classify = classify;
  readonly #connection: Connection;
  readonly #streams: Streams;
  readonly #publisher: Publisher;
  readonly #groups: GroupContext;
  readonly #uncounted = new Uncounted();
  readonly #subscriptions = new Set<DriverSubscription>();

  private constructor(connection: Connection, fields: PubSubFields, log: GroupContext["log"]) {
    this.#connection = connection;
    this.#streams = new Streams(connection, fields);
    this.#publisher = new Publisher(connection, this.#streams);
    this.#groups = { connection, streams: this.#streams, fields, log };
    this.supports = {
      delay: connection.isAtLeast(schedulesSince),
      ordering: false,
      wildcards: true,
      positions: true,
      startAtTime: true,
      lag: true,
      durableAttempts: true,
    };
  }

  /** Connects. Throws a NatsError. */
  static async open(fields: PubSubFields, context: OpenContext): Promise<JetStreamPubSub> {
    const connection = await Connection.open(fields, "dapr.io - pubsub.jetstream", context.signal);
    return new JetStreamPubSub(connection, fields, context.telemetry.log);
  }

  async publish(
    topic: string,
    events: readonly Outgoing[],
    call: Call,
  ): Promise<readonly (Published | Error)[]> {
    if (events.length === 0) return [];
    const subject = subjectOf(topic);
    const stream = await this.#within(this.#streams.of(subject), call);
    const sendings = events.map((event): Sending => {
      const message = toMessage(event);
      if (event.deliverAtMs === undefined || event.deliverAtMs <= Date.now())
        return { ...message, subject, topicSubject: subject, positioned: true };
      // The server stores it under its topic when its time has come.
      message.headers.set("Nats-Schedule", `@at ${new Date(event.deliverAtMs).toISOString()}`);
      message.headers.set("Nats-Schedule-Target", subject);
      const waiting = `${waitingSubject(stream)}.${nuid.next()}`;
      return { ...message, subject: waiting, topicSubject: subject, positioned: false };
    });
    return this.#publisher.send(sendings, call);
  }

  async open(spec: SubscriptionSpec, call: Call): Promise<DriverSubscription> {
    const group = await this.#within(Group.join(this.#groups, spec), call);
    const forget = (): unknown => this.#subscriptions.delete(subscription);
    const subscription: DriverSubscription = new Member(group, this.#uncounted, spec.raw, forget);
    this.#subscriptions.add(subscription);
    if (!call.signal.aborted) return subscription;
    await subscription.close();
    throw call.signal.reason;
  }

  ping(call: Call): Promise<void> {
    return this.#connection.ping(call);
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#subscriptions].map((subscription) => subscription.close()));
    this.#publisher.close();
    await this.#connection.close();
  }

  async #within<T>(work: Promise<T>, { signal }: Call): Promise<T> {
    const limit = AbortSignal.timeout(withinMs);
    try {
      return await until(work, AbortSignal.any([signal, limit]));
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (limit.aborted)
        throw new NatsError("unavailable", "the NATS server does not answer", { cause: error });
      throw error;
    }
  }
}
