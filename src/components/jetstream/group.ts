/** A group's consumer on its stream: found or made, and made again when somebody took it away. */
import {
  AckPolicy,
  type ConsumerConfig,
  type ConsumerInfo,
  DeliverPolicy,
  type StreamInfo,
} from "@nats-io/jetstream";
import { millis, nanos, nuid } from "@nats-io/transport-node";
import { type StartAt, type SubscriptionSpec, UnknownPosition } from "../../blocks/pubsub/driver.ts";
import type { OpenContext } from "../../component.ts";
import type { Connection } from "./connection.ts";
import { apiCode, apiCodes, NatsError } from "./errors.ts";
import type { PubSubFields } from "./settings.ts";
import type { Streams } from "./streams.ts";
import { consumerNameOf, subjectOf } from "./subjects.ts";

/** How long the consumer of a group without a name outlives its sidecar. */
const forgetAfterMs = 60_000;

/** What every group of a component needs. */
export interface GroupContext {
  readonly connection: Connection;
  readonly streams: Streams;
  readonly fields: PubSubFields;
  readonly log: OpenContext["telemetry"]["log"];
}

/** See the head of this file. */
export class Group {
  readonly context: GroupContext;
  readonly subject: string;
  readonly consumer: string;
  /** Without a name: it goes with its subscription. */
  readonly ephemeral: boolean;
  #stream: string;
  #info: ConsumerInfo;
  /** When the stream was made: one that is made again counts from the beginning. */
  #madeAt: string;

  private constructor(
    context: GroupContext,
    subject: string,
    { config, created }: StreamInfo,
    info: ConsumerInfo,
  ) {
    this.context = context;
    this.subject = subject;
    this.consumer = info.name;
    this.ephemeral = info.config.durable_name === undefined;
    this.#stream = config.name;
    this.#madeAt = created;
    this.#info = info;
  }

  /** Finds the group of a subscription, or makes it. Throws a NatsError, or what the library throws. */
  static async join(context: GroupContext, spec: SubscriptionSpec): Promise<Group> {
    const subject = subjectOf(spec.topic);
    const config = configOf(context, spec, subject);
    const { streams } = context.connection.manager;
    const join = async (): Promise<Group> => {
      const stream = await streams.info(await context.streams.of(subject));
      return new Group(context, subject, stream, await findOrMake(context, stream.config.name, config));
    };
    try {
      return await join();
    } catch (error) {
      if (apiCode(error) !== apiCodes.streamNotFound) throw error;
      context.streams.forget(subject);
      return join();
    }
  }

  get stream(): string {
    return this.#stream;
  }

  /** How long the server waits for a sign of life of an event that is out. */
  get ackWaitMs(): number {
    return millis(this.#info.config.ack_wait ?? 0) || 30_000;
  }

  /** The consumer as it is now. Throws what the library throws. */
  async info(): Promise<ConsumerInfo> {
    const { connection } = this.context;
    this.#info = await connection.asking(() =>
      connection.manager.consumers.info(this.#stream, this.consumer),
    );
    return this.#info;
  }

  /**
   * Makes sure that the consumer is there. One that is not is made again from what it is known to have settled
   * without a gap: nothing is lost, and what was settled since then comes again. `from`: nothing before this
   * sequence is wanted. False: it is another stream, which counts from the beginning.
   */
  async ensure(from?: number): Promise<boolean> {
    const { connection, streams, log } = this.context;
    const { manager } = connection;
    try {
      await this.info();
      const { created } = await connection.asking(() => manager.streams.info(this.#stream));
      const same = created === this.#madeAt;
      this.#madeAt = created;
      return same;
    } catch (error) {
      const code = apiCode(error);
      if (code !== apiCodes.consumerNotFound && code !== apiCodes.streamNotFound) throw error;
    }
    streams.forget(this.subject);
    this.#stream = await streams.of(this.subject);
    const { config, ack_floor: floor } = this.#info;
    const { created } = await manager.streams.info(this.#stream);
    const goesOn = created === this.#madeAt;
    const first = from ?? floor.stream_seq + 1;
    const { opt_start_seq: _seq, opt_start_time: _time, ...rest } = config;
    const again: Partial<ConsumerConfig> = goesOn
      ? { ...rest, deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: Math.max(1, first) }
      : { ...rest, deliver_policy: DeliverPolicy.All };
    this.#info = await findOrMake(this.context, this.#stream, again);
    // Not before: what fails here is tried again, and it is another stream still.
    this.#madeAt = created;
    log.warn(
      { stream: this.#stream, consumer: this.consumer, from: goesOn ? first : 1 },
      "the group's consumer was gone and has been made again",
    );
    return goesOn;
  }

  /** Forgets a group without a name. */
  async remove(): Promise<void> {
    await this.context.connection.manager.consumers.delete(this.#stream, this.consumer);
  }
}

async function findOrMake(
  { connection }: GroupContext,
  stream: string,
  config: Partial<ConsumerConfig>,
): Promise<ConsumerInfo> {
  const { consumers } = connection.manager;
  const name = (config.durable_name ?? config.name)!;
  let found: ConsumerInfo;
  try {
    found = await consumers.info(stream, name);
  } catch (error) {
    if (apiCode(error) !== apiCodes.consumerNotFound) throw error;
    try {
      return await consumers.add(stream, config);
    } catch (addError) {
      const code = apiCode(addError);
      // Another sidecar was faster, and began elsewhere.
      if (code !== apiCodes.consumerExists && code !== apiCodes.consumerNameExists) throw addError;
      found = await consumers.info(stream, name);
    }
  }
  if (found.config.deliver_subject !== undefined)
    throw new NatsError(
      "refused",
      `the consumer "${name}" is a push consumer; durableName gives another name`,
    );
  const { ack_wait, max_ack_pending } = config;
  if (found.config.ack_wait === ack_wait && found.config.max_ack_pending === max_ack_pending) return found;
  return consumers.update(stream, name, { ...found.config, ack_wait, max_ack_pending } as ConsumerConfig);
}

function configOf(
  { connection, fields }: GroupContext,
  spec: SubscriptionSpec,
  subject: string,
): Partial<ConsumerConfig> {
  const { durableName, ackWait, maxAckPending, replicas, memoryStorage } = fields;
  const name =
    spec.group === undefined ? `outrider_${nuid.next()}` : consumerNameOf(durableName, spec.group, subject);
  return {
    ...(spec.group === undefined
      ? { name, inactive_threshold: nanos(forgetAfterMs) }
      : { name, durable_name: name }),
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(ackWait),
    max_deliver: -1,
    max_ack_pending: maxAckPending === 0 ? -1 : maxAckPending,
    filter_subject: subject,
    ...(replicas > 0 && { num_replicas: replicas }),
    ...(memoryStorage && { mem_storage: true }),
    ...(connection.isAtLeast([2, 10]) && {
      metadata: { "outrider-group": (spec.group ?? "").slice(0, 256) },
    }),
    ...startOf(spec.start, fields),
  };
}

/** The component says where a group begins of which the subscription does not. */
function startOf(start: StartAt, fields: PubSubFields): Partial<ConsumerConfig> {
  if (start.at === "latest") return { deliver_policy: DeliverPolicy.New };
  if (start.at === "time") return fromTime(start.timeMs);
  if (start.at === "position") {
    if (!/^\d{1,16}$/.test(start.position))
      throw new UnknownPosition("the position is not one of this broker");
    return { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: Number(start.position) + 1 };
  }
  switch (fields.deliverPolicy) {
    case "last":
      return { deliver_policy: DeliverPolicy.Last };
    case "new":
      return { deliver_policy: DeliverPolicy.New };
    case "sequence":
      return {
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: Math.max(1, fields.startSequence ?? 1),
      };
    case "time":
      return fromTime((fields.startTime ?? 0) * 1000);
    default:
      return { deliver_policy: DeliverPolicy.All };
  }
}

function fromTime(timeMs: number): Partial<ConsumerConfig> {
  return { deliver_policy: DeliverPolicy.StartTime, opt_start_time: new Date(timeMs).toISOString() };
}
