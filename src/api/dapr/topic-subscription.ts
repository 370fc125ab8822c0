/** A subscription as Dapr has it, on the same engine as every other. */
import type { Bus } from "../../blocks/pubsub/bus.ts";
import type { Received } from "../../blocks/pubsub/driver.ts";
import type { SharedOptions } from "../../blocks/pubsub/options.ts";
import { compileRouting } from "../../blocks/pubsub/routing.ts";
import type { Consumer, Subscription } from "../../blocks/pubsub/subscription.ts";
import { daprDocument } from "./cloud-event.ts";

/** A rule of a route; an empty match always holds. */
export interface RouteRule {
  readonly match: string;
  readonly path: string;
}

/** Events that are gathered, and delivered together. */
export interface BulkOptions {
  /** 1 or more. */
  readonly maxMessages: number;
  /** How long the first of them waits for others, in milliseconds. */
  readonly maxAwaitMs: number;
}

/** What Dapr's ways to subscribe say, all of them. */
export interface TopicSubscriptionSpec {
  readonly pubsubName: string;
  readonly topic: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Whether it wants records as they are: its metadata say so. */
  readonly raw: boolean;
  readonly rules: readonly RouteRule[];
  /** "" for none: what no rule matches is dropped, into the dead-letter topic if there is one. */
  readonly defaultPath: string;
  /** "" for none. */
  readonly deadLetterTopic: string;
  /** Undefined: events are delivered one by one. */
  readonly bulk?: BulkOptions | undefined;
}

/** How an application answered a delivery. */
export type TopicEventOutcome = "success" | "retry" | "drop";

/** Deliveries that an application has at once, where the broker is not serial. */
const maxInHand = 100;
/** The in-memory broker of Dapr gives one event at a time, to every subscription. */
const serialType = "pubsub.in-memory";
/** Brokers that do not have events as JSON documents: who wants the record gets what another broker would have. */
const withoutDocuments: readonly string[] = [serialType, "pubsub.sqlite", "pubsub.postgresql"];
/** The path of events that have none; it is no path that anybody can write. */
const noPath = "\0";
const firstRetryMs = 100;
const lastRetryMs = 30_000;

/**
 * Takes the events of a subscription, and hands each to `deliver` with its path. What `deliver`
 * returns or throws is no concern of it: the outcome comes by `settle`.
 */
export class TopicSubscription implements Consumer {
  readonly spec: TopicSubscriptionSpec;
  readonly #bus: Bus;
  readonly #maxInHand: number;
  readonly #makesDocuments: boolean;
  readonly #deliver: (received: Received, path: string) => void;
  /** What the application has, and what the broker knows it by. */
  readonly #inHand = new Map<Received, Received>();
  #subscription: Subscription | undefined;
  readonly #closing = new AbortController();
  #oneByOne = false;
  #taking = false;
  #whenIdle: (() => void)[] = [];

  constructor(bus: Bus, spec: TopicSubscriptionSpec, deliver: (received: Received, path: string) => void) {
    this.#bus = bus;
    this.spec = spec;
    this.#deliver = deliver;
    this.#makesDocuments = spec.raw && withoutDocuments.includes(bus.type);
    this.#maxInHand = bus.type === serialType ? 1 : Math.max(maxInHand, spec.bulk?.maxMessages ?? 0);
  }

  /** Joins, unless it is closed before; resolves when what is published from now on will come, once it has begun. Throws a fault. */
  async open(until: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([until, this.#closing.signal]);
    const shared = await this.#shared(signal);
    this.#bus.checkOpen(shared);
    this.#subscription = await this.#bus.subscribe(shared, this, signal);
  }

  /** What it takes events from. */
  get bus(): Bus {
    return this.#bus;
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

  /** The most that can gather: where the broker gives one at a time, there is nothing to wait for. */
  get maxTogether(): number {
    return this.#oneByOne ? 1 : this.#maxInHand;
  }

  free(): number {
    return this.#taking ? this.#maxInHand - this.#inHand.size : 0;
  }

  deliver(received: readonly Received[], routes: readonly string[]): void {
    for (const [index, event] of received.entries()) {
      const given = this.#makesDocuments ? asRecord(event, this.spec.pubsubName) : event;
      this.#inHand.set(given, event);
      const path = routes[index]!;
      const why = path === noPath ? "no rule matches" : this.#isExpired(event) ? "it has expired" : "";
      // Who hands out events is not to get one back meanwhile.
      if (why !== "") queueMicrotask(() => this.settle(given, "drop", why));
      else this.#deliver(given, path);
    }
  }

  /**
   * Whether an event says itself that nobody wants it any more: in Dapr the publisher's sidecar writes that, or anybody.
   * A dead letter is wanted: it may be one for that very reason.
   */
  #isExpired({ event: { extensions } }: Received): boolean {
    const { expiration, deadletterreason } = extensions;
    if (expiration === undefined || deadletterreason !== undefined || this.spec.raw) return false;
    return Date.parse(expiration) < Date.now();
  }

  /** Says what became of an event. Once it is settled, it is passed over. */
  settle(received: Received, outcome: TopicEventOutcome, detail = ""): void {
    const original = this.#inHand.get(received);
    if (!original) return;
    this.#inHand.delete(received);
    this.#subscription!.settled(original, this.#endOf(outcome), undefined, detail);
    this.#subscription!.wake();
    this.#tellIfIdle();
  }

  /** Gives back an event that the application has not seen: it is delivered again, to somebody else. */
  giveBack(received: Received): void {
    const original = this.#inHand.get(received);
    if (!original) return;
    this.#inHand.delete(received);
    this.#subscription!.settled(original, "abandoned", undefined, "");
    this.#tellIfIdle();
  }

  /** Takes no more events, and is in nobody's way; those in hand can still be settled. */
  stopTaking(): void {
    this.#taking = false;
    this.#subscription?.leave(this);
  }

  /** Resolves when the application holds nothing. */
  idle(): Promise<void> {
    if (this.#inHand.size === 0) return Promise.resolve();
    return new Promise((resolve) => void this.#whenIdle.push(resolve));
  }

  /** Leaves the group. What is in hand is delivered again, to somebody else. */
  close(): void {
    this.#taking = false;
    this.#closing.abort();
    const subscription = this.#subscription;
    if (!subscription) return;
    this.#subscription = undefined;
    for (const original of this.#inHand.values()) subscription.settled(original, "abandoned", undefined, "");
    this.#inHand.clear();
    this.#tellIfIdle();
    subscription.leave(this);
  }

  /** What becomes of an event for good: what Dapr's component of that type would do with it. */
  #endOf(outcome: TopicEventOutcome): "ack" | "retry" | "reject" {
    if (outcome === "success") return "ack";
    const hasDeadLetters = this.spec.deadLetterTopic !== "";
    // Dropping an event is what Dapr calls it; without a dead-letter topic nothing was lost by mistake.
    if (outcome === "drop") return hasDeadLetters ? "reject" : "ack";
    // Dapr's in-memory broker forgets the event then. Its Redis does, too; ours loses nothing that was acknowledged.
    return hasDeadLetters || this.#bus.type === serialType ? "reject" : "retry";
  }

  #tellIfIdle(): void {
    if (this.#inHand.size > 0) return;
    for (const resolve of this.#whenIdle) resolve();
    this.#whenIdle = [];
  }

  async #shared(signal: AbortSignal): Promise<SharedOptions> {
    const { topic, deadLetterTopic, rules, defaultPath } = this.spec;
    const supports = await this.#bus.supports(signal);
    this.#oneByOne = supports.oneByOne ?? false;
    // In memory, Dapr gives every subscription every event.
    const everyone = this.#bus.type === serialType;
    const routes = rules.map(({ match, path }) => ({
      name: path,
      rule: match.trim() === "" ? "true" : match,
    }));
    return {
      topic,
      group: everyone ? undefined : this.#bus.defaultGroup,
      start: { at: everyone ? "latest" : "earliest" },
      ordered: supports.ordering,
      raw: this.spec.raw && !this.#makesDocuments,
      routing: compileRouting(
        routes.map((route) => ({ $typeName: "outrider.pubsub.v1.Route", ...route })),
        // Who has no rules gets everything. Without dead letters, the engine itself passes over what no rule matches.
        defaultPath || (routes.length > 0 && deadLetterTopic !== "" ? noPath : ""),
        (field, description) => {
          throw new Error(`${field}: ${description}`);
        },
      ),
      // How often is for this sidecar to say, in `settle`: what another sidecar left is no failure.
      retry: { maxAttempts: Number.POSITIVE_INFINITY, initialDelayMs: firstRetryMs, maxDelayMs: lastRetryMs },
      deadLetterTopic,
      inbox: undefined,
      metadata: this.spec.metadata,
    };
  }
}

/** An event as its record, where the broker has none; one without an envelope is its record already. */
function asRecord(received: Received, pubsubName: string): Received {
  const { event } = received;
  if (event.id === "") return received;
  return { ...received, event: { ...event, data: Buffer.from(daprDocument(received, pubsubName)) } };
}
