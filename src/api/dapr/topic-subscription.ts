/** A subscription as Dapr has it, on the same engine as every other. */
import type { Bus } from "../../blocks/pubsub/bus.ts";
import type { Received } from "../../blocks/pubsub/driver.ts";
import type { SharedOptions } from "../../blocks/pubsub/options.ts";
import { compileRouting } from "../../blocks/pubsub/routing.ts";
import type { Consumer, Subscription } from "../../blocks/pubsub/subscription.ts";

/** A rule of a route; an empty match always holds. */
export interface RouteRule {
  readonly match: string;
  readonly path: string;
}

/** What Dapr's ways to subscribe say, all of them. */
export interface TopicSubscriptionSpec {
  readonly pubsubName: string;
  readonly topic: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly rules: readonly RouteRule[];
  /** "" for none: what no rule matches is dropped. */
  readonly defaultPath: string;
  /** "" for none. */
  readonly deadLetterTopic: string;
}

/** How an application answered a delivery. */
export type TopicEventOutcome = "success" | "retry" | "drop";

/** Deliveries that an application has at once, where the broker is not serial. */
const maxInHand = 100;
/** The in-memory broker of Dapr gives one event at a time, to every subscription. */
const serialType = "pubsub.in-memory";
const firstRetryMs = 100;
const lastRetryMs = 30_000;

/** Whether the subscription wants records as they are. */
export function isRaw({ metadata }: TopicSubscriptionSpec): boolean {
  const text = Object.entries(metadata).find(([name]) => /^(is)?rawpayload$/i.test(name))?.[1] ?? "";
  return /^(1|t|true)$/i.test(text);
}

/**
 * Takes the events of a subscription, and hands each to `deliver` with its path. What `deliver`
 * returns or throws is no concern of it: the outcome comes by `settle`.
 */
export class TopicSubscription implements Consumer {
  readonly spec: TopicSubscriptionSpec;
  readonly #bus: Bus;
  readonly #maxInHand: number;
  readonly #deliver: (received: Received, path: string) => void;
  readonly #inHand = new Set<Received>();
  #subscription: Subscription | undefined;
  #taking = false;

  constructor(bus: Bus, spec: TopicSubscriptionSpec, deliver: (received: Received, path: string) => void) {
    this.#bus = bus;
    this.spec = spec;
    this.#deliver = deliver;
    this.#maxInHand = bus.type === serialType ? 1 : maxInHand;
  }

  /** Joins; resolves when what is published from now on will come, once it has begun. Throws a fault. */
  async open(signal: AbortSignal): Promise<void> {
    const shared = await this.#shared(signal);
    this.#bus.checkOpen(shared);
    this.#subscription = await this.#bus.subscribe(shared, this, signal);
  }

  /** Begins to take events. */
  begin(): void {
    this.#taking = true;
    this.#subscription!.wake();
  }

  /** Events that the application holds. */
  get inHand(): number {
    return this.#inHand.size;
  }

  free(): number {
    return this.#taking ? this.#maxInHand - this.#inHand.size : 0;
  }

  deliver(received: readonly Received[], routes: readonly string[]): void {
    for (const [index, event] of received.entries()) {
      this.#inHand.add(event);
      this.#deliver(event, routes[index]!);
    }
  }

  /** Says what became of an event. Once it is settled, it is passed over. */
  settle(received: Received, outcome: TopicEventOutcome): void {
    if (!this.#inHand.delete(received)) return;
    const outcomes = { success: "ack", retry: "retry", drop: "reject" } as const;
    // Dropping an event is what Dapr calls it; without a dead-letter topic nothing was lost by mistake.
    const ended = outcome === "drop" && this.spec.deadLetterTopic === "" ? "ack" : outcomes[outcome];
    this.#subscription!.settled(received, ended, undefined, "");
    this.#subscription!.wake();
  }

  /** Takes no more events; those in hand can still be settled. */
  stopTaking(): void {
    this.#taking = false;
  }

  /** Leaves the group. What is in hand is delivered again, to somebody else. */
  close(): void {
    this.#taking = false;
    const subscription = this.#subscription;
    if (!subscription) return;
    for (const received of this.#inHand) subscription.settled(received, "abandoned", undefined, "");
    this.#inHand.clear();
    subscription.leave(this);
  }

  async #shared(signal: AbortSignal): Promise<SharedOptions> {
    const { topic, deadLetterTopic, rules, defaultPath } = this.spec;
    const supports = await this.#bus.supports(signal);
    // In memory, Dapr gives every subscription every event.
    const everyone = this.#bus.type === serialType;
    const routes = rules.map(({ match, path }) => ({ name: path, rule: match === "" ? "true" : match }));
    return {
      topic,
      group: everyone ? undefined : this.#bus.defaultGroup,
      start: { at: everyone ? "latest" : "earliest" },
      ordered: supports.ordering,
      raw: isRaw(this.spec),
      routing: compileRouting(
        routes.map((route) => ({ $typeName: "outrider.pubsub.v1.Route", ...route })),
        defaultPath,
        (field, description) => {
          throw new Error(`${field}: ${description}`);
        },
      ),
      // Without a policy, Dapr gives up at once where there is a place for what was given up.
      retry: {
        maxAttempts: deadLetterTopic === "" ? Number.POSITIVE_INFINITY : 1,
        initialDelayMs: firstRetryMs,
        maxDelayMs: lastRetryMs,
      },
      deadLetterTopic,
      inbox: undefined,
    };
  }
}
