/** Publish/subscribe in this process. */
import * as z from "zod";
import type { Call, ErrorClass } from "../../blocks/call.ts";
import type {
  DriverSubscription,
  Outgoing,
  Published,
  PubSubDriver,
  PubSubSupports,
  SubscriptionSpec,
} from "../../blocks/pubsub/driver.ts";
import { component } from "../../component.ts";
import { byteSize, durationMs } from "../../config/fields.ts";
import { MemoryBroker } from "./broker/broker.ts";
import { BrokerError } from "./broker/broker-error.ts";
import type { Member } from "./broker/member.ts";

/** A day would not be memory any more. */
const maxRetentionAgeMs = 24 * 60 * 60 * 1000;

const schema = z.object({
  /** How long a topic keeps events that no group has still to settle. */
  retentionAge: durationMs()
    .refine((ageMs) => ageMs >= 1 && ageMs <= maxRetentionAgeMs, "expected 1ms to 24h")
    .prefault("1h"),
  /** What one topic may hold; beyond it the oldest events go, settled or not. The same holds for all delayed events. */
  retentionBytes: byteSize()
    .refine((bytes) => bytes >= 1, "expected 1 or more")
    .prefault("64Mi"),
});

/** The component "pubsub.in-memory": everything that a broker can do, until the process ends. */
export const memoryPubSub = component({
  type: "pubsub.in-memory",
  versions: ["v1"],
  schema,
  async open({ retentionAge, retentionBytes }) {
    return new MemoryPubSub(new MemoryBroker({ ageMs: retentionAge, bytes: retentionBytes }));
  },
});

/** A user of a broker in this process. Several can share one, as sidecars share a server. */
export class MemoryPubSub implements PubSubDriver {
  readonly supports: PubSubSupports = {
    delay: true,
    ordering: true,
    wildcards: true,
    positions: true,
    startAtTime: true,
    lag: true,
    // Attempts are counted over all members and survive the closing of a driver, but like the events they
    // are gone when the process ends.
    durableAttempts: false,
  };
  readonly #broker: MemoryBroker;
  readonly #members = new Set<Member>();

  constructor(broker: MemoryBroker) {
    this.#broker = broker;
    broker.enter();
  }

  publish(topic: string, events: readonly Outgoing[]): Promise<readonly (Published | Error)[]> {
    return Promise.resolve(this.#broker.publish(topic, events));
  }

  async open(spec: SubscriptionSpec, _call: Call): Promise<DriverSubscription> {
    const member = this.#broker.join(spec, (leaving) => this.#members.delete(leaving));
    this.#members.add(member);
    return member;
  }

  ping(): Promise<void> {
    return Promise.resolve();
  }

  classify(error: unknown): ErrorClass | undefined {
    return error instanceof BrokerError ? error.kind : undefined;
  }

  async close(): Promise<void> {
    for (const member of this.#members) await member.close();
    this.#broker.exit();
  }
}
