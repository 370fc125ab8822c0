/** A subscription of an application that listens: takes events, and calls the application with them. */
import { randomUUID } from "node:crypto";
import type { Bus } from "../../../blocks/pubsub/bus.ts";
import type { Received } from "../../../blocks/pubsub/driver.ts";
import type { Log } from "../../../telemetry/log.ts";
import type { DaprPubSubMetrics } from "../pubsub-metrics.ts";
import { type RetryPolicy, TopicSubscription, type TopicSubscriptionSpec } from "../topic-subscription.ts";
import { type Answer, type AppChannel, AppUnreachable } from "./channel.ts";
import type { Concurrency } from "./concurrency.ts";
import { pause } from "./health.ts";

/** What a subscription of an application is made of. */
export interface AppSubscriptionOptions {
  readonly bus: Bus;
  readonly spec: TopicSubscriptionSpec;
  readonly channel: AppChannel;
  readonly concurrency: Concurrency;
  /** What holds now. Undefined: a delivery that failed is not repeated here. */
  readonly retry: () => RetryPolicy | undefined;
  readonly metrics: DaprPubSubMetrics;
  readonly log: Log;
}

/** Connections that break while an application has an event, until the event counts as the reason. */
const maxBroken = 10;
/** How long it is waited for an application that is away, in milliseconds: longer each time. */
const awayMs = { first: 100, last: 1000 } as const;

/** See the head of this file. */
export class AppSubscription {
  readonly spec: TopicSubscriptionSpec;
  readonly bus: Bus;
  readonly #options: AppSubscriptionOptions;
  readonly #topic: TopicSubscription;
  readonly #deliveries: ReturnType<DaprPubSubMetrics["deliveries"]>;
  readonly #closing = new AbortController();
  /** Events that wait for others, by their path. */
  readonly #gathered = new Map<string, { readonly events: Received[]; readonly timer: NodeJS.Timeout }>();
  #leaving = false;

  constructor(options: AppSubscriptionOptions) {
    this.#options = options;
    this.spec = options.spec;
    this.bus = options.bus;
    this.#deliveries = options.metrics.deliveries(options.spec.pubsubName, options.spec.topic);
    this.#topic = new TopicSubscription(
      options.bus,
      options.spec,
      (received, path) => this.#deliver(received, path),
      options.retry,
    );
  }

  /** Joins, waiting for the component, and begins to deliver. Throws a fault. */
  async open(): Promise<void> {
    await this.#topic.open(this.#closing.signal);
    if (this.#closing.signal.aborted) this.#topic.close();
    else if (!this.#leaving) this.#topic.begin();
  }

  /** Events that the application holds. */
  get inHand(): number {
    return this.#topic.inHand;
  }

  /** Takes no more; resolves when the application holds nothing. */
  drain(): Promise<void> {
    this.#leaving = true;
    this.#topic.stopTaking();
    for (const path of [...this.#gathered.keys()]) this.#flush(path);
    return this.#topic.idle();
  }

  /** Ends calls, and gives back what the application holds. */
  close(): void {
    this.#leaving = true;
    for (const { timer } of this.#gathered.values()) clearTimeout(timer);
    this.#gathered.clear();
    this.#topic.close();
    this.#closing.abort();
  }

  #deliver(received: Received, path: string): void {
    const { bulk } = this.spec;
    if (!bulk) {
      void this.#call([received], async (signal) => {
        const answer = await this.#options.channel.deliver({ spec: this.spec, path, received }, signal);
        return [answer];
      });
      return;
    }
    let gathered = this.#gathered.get(path);
    if (!gathered) {
      const timer = setTimeout(() => this.#flush(path), bulk.maxAwaitMs);
      gathered = { events: [], timer };
      this.#gathered.set(path, gathered);
    }
    gathered.events.push(received);
    const full = Math.min(bulk.maxMessages, this.#topic.maxTogether);
    if (gathered.events.length >= full || this.#leaving) this.#flush(path);
  }

  /** Delivers what has gathered for a path. */
  #flush(path: string): void {
    const gathered = this.#gathered.get(path);
    if (!gathered) return;
    this.#gathered.delete(path);
    clearTimeout(gathered.timer);
    const entries = new Map(gathered.events.map((received) => [randomUUID() as string, received]));
    void this.#call(gathered.events, async (signal) => {
      const answers = await this.#options.channel.deliverBulk({ spec: this.spec, path, entries }, signal);
      const unanswered: Answer = { outcome: "retry", detail: "the application did not answer for it" };
      return [...entries.keys()].map((id) => answers.get(id) ?? unanswered);
    });
  }

  /** Calls until the application is there, and settles by its answers, one for each event in order. Never rejects. */
  async #call(
    events: readonly Received[],
    call: (signal: AbortSignal) => Promise<readonly Answer[]>,
  ): Promise<void> {
    const { concurrency, log } = this.#options;
    const { signal } = this.#closing;
    let broken = 0;
    for (let waitMs: number = awayMs.first; ; waitMs = Math.min(waitMs * 2, awayMs.last)) {
      try {
        const answers = await concurrency.run(() => call(signal), signal);
        for (const [index, received] of events.entries()) this.#settle(received, answers[index]!);
        return;
      } catch (error) {
        if (signal.aborted) return;
        const { pubsubName, topic } = this.spec;
        const away = error instanceof AppUnreachable && (error.unseen || ++broken < maxBroken);
        if (!away) {
          const detail = error instanceof Error ? error.message : String(error);
          log.warn({ component: pubsubName, topic, err: error }, "calling the application failed");
          for (const received of events) this.#settle(received, { outcome: "retry", detail });
          return;
        }
        if (this.#leaving) {
          for (const received of events) this.#topic.giveBack(received);
          return;
        }
        if (waitMs === awayMs.first)
          log.warn(
            { component: pubsubName, topic, err: error },
            "the application is not there; its events wait for it",
          );
        await pause(waitMs, signal);
      }
    }
  }

  #settle(received: Received, { outcome, detail }: Answer): void {
    const { pubsubName: component, topic } = this.spec;
    this.#deliveries[outcome].add();
    if (detail !== "") {
      this.#options.log.warn({ component, topic, id: received.event.id, outcome, detail }, "delivery failed");
    }
    this.#topic.settle(received, outcome, detail);
  }
}
