/** Dapr's publish API over the publish/subscribe block: what both protocols share. */
import { ConnectError } from "@connectrpc/connect";
import type { Outgoing } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Call } from "../../blocks/call.ts";
import { componentStatusOf } from "../../blocks/component-status.ts";
import type { Bus } from "../../blocks/pubsub/bus.ts";
import { reasonOf } from "../../faults.ts";
import { noTrace, type TraceHeaders } from "../../telemetry/tracing.ts";
import { DaprError, daprErrors } from "./errors.ts";
import { outgoingOf, type PublishInput } from "./published-event.ts";
import type { DaprPubSubMetrics } from "./pubsub-metrics.ts";

/** One entry of a bulk publish. */
export interface BulkEntry extends PublishInput {
  readonly entryId: string;
}

/** An entry that was not published. */
export interface FailedEntry {
  readonly entryId: string;
  readonly error: string;
}

/** Where to publish. */
export interface Destination {
  readonly pubsubName: string;
  readonly topic: string;
}

/** See the head of this file. */
export class DaprPublish {
  readonly #buses: ReadonlyMap<string, Bus>;
  readonly #appId: string;
  readonly #metrics: DaprPubSubMetrics;

  constructor(buses: ReadonlyMap<string, Bus>, appId: string, metrics: DaprPubSubMetrics) {
    this.#buses = buses;
    this.#appId = appId;
    this.#metrics = metrics;
  }

  /** The component of that name. Throws DaprError, as every method does. */
  bus({ pubsubName, topic }: Destination): Bus {
    const resource = { type: "pubsub", name: pubsubName };
    if (pubsubName === "")
      throw new DaprError(daprErrors.pubsubNameEmpty, "pubsub name is empty", { resource });
    // As in Dapr since its components come and go: also when there is none at all.
    const bus = this.#buses.get(pubsubName);
    if (!bus) throw new DaprError(daprErrors.pubsubNotFound, `pubsub ${pubsubName} is not found`);
    if (topic === "")
      throw new DaprError(daprErrors.pubsubTopicEmpty, `topic is empty in pubsub ${pubsubName}`, {
        resource,
      });
    return bus;
  }

  /** Resolves when the broker has the event. */
  async publish(to: Destination, input: PublishInput, trace: TraceHeaders, call: Call): Promise<void> {
    const bus = this.bus(to);
    const outgoing = outgoingOf(input, { ...to, appId: this.#appId, trace });
    const [result] = await this.#send(bus, to, [outgoing], false, call);
    if (result instanceof ConnectError) throw this.#failure(result, to);
  }

  /** Publishes entries of one topic, each by itself, and returns those that failed. */
  async publishBulk(
    to: Destination,
    entries: readonly BulkEntry[],
    trace: TraceHeaders,
    call: Call,
  ): Promise<readonly FailedEntry[]> {
    const bus = this.bus(to);
    const ids = new Set(entries.map(({ entryId }) => entryId));
    if (ids.has("") || ids.size < entries.length)
      throw this.marshalError(to, "entryId is duplicated or not present for entry");
    const outgoing = entries.map((entry) => outgoingOf(entry, { ...to, appId: this.#appId, trace }));
    const results = await this.#send(bus, to, outgoing, true, call);
    return results.flatMap((result, index) =>
      result instanceof ConnectError
        ? [{ entryId: entries[index]!.entryId, error: reasonTextOf(result) }]
        : [],
    );
  }

  /** The error for an event that is not what its content type says. */
  envelopeError({ pubsubName, topic }: Destination, why: string): DaprError {
    return new DaprError(
      daprErrors.pubsubMarshalEnvelope,
      `error when marshalling cloud event envelope for topic ${topic} pubsub ${pubsubName}: ${why}`,
      { resource: { type: "pubsub", name: pubsubName }, metadata: { appID: this.#appId, error: why } },
    );
  }

  /** The error for entries that cannot be read. */
  marshalError({ pubsubName, topic }: Destination, why: string): DaprError {
    return new DaprError(
      daprErrors.pubsubMarshalEvents,
      `error marshaling events to bytes for topic ${topic} pubsub ${pubsubName}. error: ${why}`,
      { resource: { type: "pubsub", name: pubsubName }, metadata: { appID: this.#appId, error: why } },
    );
  }

  /** The error for a body that is no list of entries. */
  unmarshalError({ pubsubName, topic }: Destination, why: string): DaprError {
    return new DaprError(
      daprErrors.pubsubUnmarshalEvents,
      `error when unmarshaling the request for topic ${topic} pubsub ${pubsubName}: ${why}`,
      { resource: { type: "pubsub", name: pubsubName }, metadata: { appID: this.#appId, error: why } },
    );
  }

  async #send(bus: Bus, to: Destination, outgoing: readonly Outgoing[], bulk: boolean, call: Call) {
    let success = false;
    try {
      const results = await bus.publish(to.topic, outgoing, (index) => `entries[${index}]`, noTrace, call);
      success = !results.some((result) => result instanceof ConnectError);
      return results;
    } catch (error) {
      throw this.#failure(error, to);
    } finally {
      this.#metrics.published(to.pubsubName, to.topic, bulk, success);
    }
  }

  #failure(error: unknown, { pubsubName, topic }: Destination): unknown {
    if (!(error instanceof ConnectError)) return error;
    const details = { resource: { type: "pubsub", name: pubsubName }, cause: error };
    if (reasonOf(error) === "TOPIC_FORBIDDEN") {
      const message = `topic ${topic} is not allowed for app id ${this.#appId}`;
      return new DaprError(daprErrors.pubsubForbidden, message, details);
    }
    const why = reasonTextOf(error);
    const message = `error when publish to topic ${topic} in pubsub ${pubsubName}: ${why}`;
    const metadata = { appID: this.#appId, error: why };
    return new DaprError(daprErrors.pubsubPublish, message, { ...details, metadata });
  }
}

/** What a component of its own process says is passed on. */
function reasonTextOf(error: ConnectError): string {
  return componentStatusOf(error)?.text ?? error.rawMessage;
}
