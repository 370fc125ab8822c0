/** Publish/subscribe on the topics and consumer groups of Kafka. */
import type { Call, ErrorClass } from "../../blocks/call.ts";
import type {
  DriverSubscription,
  Outgoing,
  Published,
  PubSubDriver,
  SubscriptionSpec,
} from "../../blocks/pubsub/driver.ts";
import { fault } from "../../faults.ts";
import type { KafkaClient } from "./client.ts";
import { positionOf } from "./consumer/start.ts";
import type { Consumers } from "./consumers.ts";
import { cancelled, classify, invalidTimestampCode, KafkaError, tooLargeCode } from "./errors.ts";
import { type ContentMode, toRecord } from "./event-records.ts";
import { partitionOf } from "./partitioner.ts";
import { abortable, persist } from "./patience.ts";
import type { Producer } from "./producer/producer.ts";
import type { Produced } from "./producer/tallies.ts";
import { toKafkaTopic } from "./topic-names.ts";
import type { Topics } from "./topics.ts";

/** What the driver is made of. */
export interface KafkaPubSubParts {
  /** The component's name. */
  readonly name: string;
  readonly client: KafkaClient;
  readonly topics: Topics;
  readonly producer: Producer;
  readonly consumers: Consumers;
  readonly contentMode: ContentMode;
  /** How long a publish waits for a cluster that is away, whatever its caller would. */
  readonly publishWithinMs: number;
  /** Ends all connections. */
  close(): void;
}

function noPartition(partition: number, count: number): KafkaError {
  const message = `there is no partition ${partition}: the topic has ${count}`;
  return new KafkaError("refused", message, "UNKNOWN_TOPIC_OR_PARTITION");
}

/** When a publish of a sidecar whose clock is wrong is worth trying again. */
const clockRetryMs = 10_000;
/** Events without a key go to one partition until this many have, so that they go together. */
const sameForEvents = 64;

/** A broker on a Kafka cluster. */
export class KafkaPubSub implements PubSubDriver {
  readonly supports = {
    delay: false,
    ordering: true,
    wildcards: true,
    positions: true,
    startAtTime: true,
    lag: true,
    partitions: true,
    durableAttempts: false,
  };
  readonly #parts: KafkaPubSubParts;
  /** Topics that are being looked for: whoever came first goes on first. */
  readonly #lookups = new Map<string, Promise<readonly number[]>>();
  readonly #closing = new AbortController();
  /** Faults that say what the broker refused, and whether for good. */
  readonly #refusals = new WeakMap<object, ErrorClass>();
  #unkeyed = 0;

  constructor(parts: KafkaPubSubParts) {
    this.#parts = parts;
  }

  async publish(
    topic: string,
    events: readonly Outgoing[],
    call: Call,
  ): Promise<readonly (Published | Error)[]> {
    const name = toKafkaTopic(topic);
    const { contentMode, producer } = this.#parts;
    const known = this.#lookups.has(name) ? undefined : this.#parts.topics.known(name);
    const count = (known ?? (await this.#lookUp(topic, name, call))).length;
    const nowMs = Date.now();
    const records = events.map((event) => toRecord(event, contentMode, nowMs));
    const partitions = events.map((event) => this.#partition(event, count));
    const wrong = partitions.some((partition) => partition >= count);
    const sent = wrong ? records.filter((_, index) => partitions[index]! < count) : records;
    const to = wrong ? partitions.filter((partition) => partition < count) : partitions;
    const results = await producer.produce(name, sent, (index) => to[index]!, nowMs, call.signal);
    if (!wrong) return results.map((result) => this.#toPublished(result, topic));
    const answers = results.values();
    return partitions.map((partition) =>
      this.#toPublished(partition < count ? answers.next().value! : noPartition(partition, count), topic),
    );
  }

  async open(spec: SubscriptionSpec, call: Call): Promise<DriverSubscription> {
    try {
      return await this.#parts.consumers.open(spec, call);
    } catch (error) {
      throw this.#told(error, spec.topic);
    }
  }

  classify(error: unknown): ErrorClass | undefined {
    return (error instanceof Error ? this.#refusals.get(error) : undefined) ?? classify(error);
  }

  async ping(call: Call): Promise<void> {
    await abortable(this.#parts.client.metadata([], false), call.signal);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#parts.consumers.close();
    this.#parts.producer.close();
    this.#parts.close();
  }

  #partition(event: Outgoing, count: number): number {
    if (event.partition !== undefined) return event.partition;
    if (event.key !== "") return partitionOf(event.key, count);
    this.#unkeyed = (this.#unkeyed + 1) % (sameForEvents * count);
    return Math.floor(this.#unkeyed / sameForEvents) % count;
  }

  /** Finds out about a topic once for all who wait for it. */
  async #lookUp(topic: string, name: string, call: Call): Promise<readonly number[]> {
    if (call.signal.aborted) throw cancelled(call.signal);
    let lookup = this.#lookups.get(name);
    if (lookup === undefined) {
      const patience = { signal: this.#closing.signal, limitMs: this.#parts.publishWithinMs };
      lookup = persist(() => this.#parts.topics.ensure(name), patience);
      this.#lookups.set(name, lookup);
      // Those who came meanwhile go on before those who find the topic known.
      const forget = () => setImmediate(() => this.#lookups.delete(name));
      lookup.then(forget, forget);
    }
    try {
      return await abortable(lookup, call.signal);
    } catch (error) {
      throw this.#told(error, topic);
    }
  }

  #toPublished(result: Produced, topic: string): Published | Error {
    if (result instanceof KafkaError) return this.#told(result, topic);
    return { position: result.offset < 0 ? "" : positionOf(result.partition, result.offset) };
  }

  /** What an application is told: that the broker refused it, and why. */
  #told<E>(error: E, topic: string): E | Error {
    if (!(error instanceof KafkaError)) return error;
    const wrongClock = error.code === invalidTimestampCode;
    if (error.kind !== "refused" && !wrongClock) return error;
    const { name } = this.#parts;
    const metadata = { component: name, topic, ...(error.code === "" ? {} : { kafkaError: error.code }) };
    const reason = wrongClock
      ? "COMPONENT_UNAVAILABLE"
      : error.code === tooLargeCode
        ? "TOO_LARGE"
        : "COMPONENT_FAILED";
    const refusal = fault(reason, `pub/sub component "${name}": ${error.message}`, {
      metadata,
      cause: error,
      ...(wrongClock ? { retryAfterMs: clockRetryMs } : {}),
    });
    this.#refusals.set(refusal, error.kind);
    return refusal;
  }
}
