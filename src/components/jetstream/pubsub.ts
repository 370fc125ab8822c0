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
import { Lease } from "./lease.ts";
import { Member } from "./member.ts";
import { OrderedMember } from "./ordered-member.ts";
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
  readonly #instanceId: string;
  /** Publishes that wait until the stream of their subject is found. */
  readonly #locating = new Map<string, number>();
  readonly #subscriptions = new Set<DriverSubscription>();

  private constructor(connection: Connection, fields: PubSubFields, { instanceId, telemetry }: OpenContext) {
    this.#connection = connection;
    this.#streams = new Streams(connection, fields);
    this.#publisher = new Publisher(connection, this.#streams);
    this.#groups = { connection, streams: this.#streams, fields, log: telemetry.log };
    this.#instanceId = instanceId;
    this.supports = {
      delay: connection.isAtLeast(schedulesSince),
      ordering: true,
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
    return new JetStreamPubSub(connection, fields, context);
  }

  async publish(
    topic: string,
    events: readonly Outgoing[],
    call: Call,
  ): Promise<readonly (Published | Error)[]> {
    if (events.length === 0) return [];
    const subject = subjectOf(topic);
    const known = this.#locating.has(subject) ? undefined : this.#streams.peek(subject);
    const stream = known ?? (await this.#locate(subject, call));
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
    const subscription: DriverSubscription = spec.ordered
      ? new OrderedMember(
          group,
          this.#uncounted,
          await this.#within(this.#lease(group), call),
          spec.raw,
          forget,
        )
      : new Member(group, this.#uncounted, spec.raw, forget);
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

  /** Finds a stream. Whoever publishes meanwhile comes after those who have waited. */
  async #locate(subject: string, call: Call): Promise<string> {
    this.#locating.set(subject, (this.#locating.get(subject) ?? 0) + 1);
    try {
      return await this.#within(this.#streams.of(subject), call);
    } finally {
      // After those who wait for this.
      setImmediate(() => {
        const left = this.#locating.get(subject)! - 1;
        if (left > 0) this.#locating.set(subject, left);
        else this.#locating.delete(subject);
      });
    }
  }

  #lease({ stream, consumer, context }: Group): Promise<Lease> {
    const { connection, fields, log } = context;
    return Lease.open(connection, `${stream}.${consumer}`, this.#instanceId, fields.replicas, log);
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
