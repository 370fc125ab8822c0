/** A subscription of an application that listens: takes events, and calls the application with them. */
import { randomUUID } from "node:crypto";
import { backoffMs } from "../../../backoff.ts";
import type { Bus } from "../../../blocks/pubsub/bus.ts";
import type { Received } from "../../../blocks/pubsub/driver.ts";
import { pause } from "../../../pause.ts";
import type { Policy } from "../../../resilience/policy.ts";
import type { Log } from "../../../telemetry/log.ts";
import { AppAway, DeliveryFailed, deliverUnderPolicy } from "../delivery-policy.ts";
import type { DaprPubSubMetrics } from "../pubsub-metrics.ts";
import { TopicSubscription, type TopicSubscriptionSpec } from "../topic-subscription.ts";
import { type Answer, type AppChannel, AppUnreachable } from "./channel.ts";
import type { Concurrency } from "./concurrency.ts";

/** What a subscription of an application is made of. */
export interface AppSubscriptionOptions {
  readonly bus: Bus;
  readonly spec: TopicSubscriptionSpec;
  readonly channel: AppChannel;
  readonly concurrency: Concurrency;
  /** What an attempt that begins now is under; undefined: nothing, and one that failed is not repeated here. */
  readonly policy: () => Policy | undefined;
  readonly metrics: DaprPubSubMetrics;
  readonly log: Log;
}

/** Connections that break while an application has an event, until the event counts as the reason. */
const maxBroken = 10;
/** How long it is waited for an application that is away, in milliseconds: longer each time. */
const awayPauses = { firstMs: 100, lastMs: 1000 };

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
    this.#topic = new TopicSubscription(options.bus, options.spec, (received, path) =>
      this.#deliver(received, path),
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
      void this.#call([received], async (_, signal) => {
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
    void this.#call(gathered.events, async (events, signal) => {
      const entries = new Map(events.map((received) => [randomUUID() as string, received]));
      const answers = await this.#options.channel.deliverBulk({ spec: this.spec, path, entries }, signal);
      const unanswered: Answer = { outcome: "retry", detail: "the application did not answer for it" };
      return [...entries.keys()].map((id) => answers.get(id) ?? unanswered);
    });
  }

  /**
   * Calls until the application is there, under the policies of the component, and settles by its answers: one for each
   * event in order. What it is to get again is called for again, without the others. Never rejects.
   */
  async #call(events: readonly Received[], call: Call): Promise<void> {
    const { log, policy } = this.#options;
    const { signal } = this.#closing;
    const { pubsubName: component, topic } = this.spec;
    const delivery = { open: events, broken: 0 };
    const attempt = (until: AbortSignal) => this.#attempt(delivery, call, until);
    for (let tries = 1; ; tries += 1) {
      try {
        await deliverUnderPolicy(policy, attempt, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof AppAway)) {
          if (!(error instanceof DeliveryFailed))
            log.warn({ component, topic, err: error }, "calling the application failed");
          const detail = error instanceof Error ? error.message : String(error);
          for (const received of delivery.open) this.#topic.settle(received, "retry", detail);
          return;
        }
        if (this.#leaving) {
          for (const received of delivery.open) this.#topic.giveBack(received);
          return;
        }
        if (tries === 1)
          log.warn(
            { component, topic, err: error.cause },
            "the application is not there; its events wait for it",
          );
        await pause(backoffMs(tries, awayPauses), signal);
      }
    }
  }

  /** Calls once. Throws AppAway, and DeliveryFailed when something is to be tried again: that is what stays open. */
  async #attempt(delivery: { open: readonly Received[]; broken: number }, call: Call, signal: AbortSignal) {
    const { open } = delivery;
    const { concurrency } = this.#options;
    const answers = await concurrency
      .run(() => call(open, signal), signal)
      .catch((error) => {
        const away =
          error instanceof AppUnreachable &&
          !signal.aborted &&
          (error.unseen || ++delivery.broken < maxBroken);
        if (away) throw new AppAway(error.message, { cause: error });
        if (!this.#closing.signal.aborted) for (const _ of open) this.#deliveries.retry.add();
        throw error;
      });
    // It counts as failed, whatever it was: the same event may be on its way again.
    signal.throwIfAborted();
    for (const [index, received] of open.entries()) this.#answered(received, answers[index]!);
    delivery.open = open.filter((_, index) => answers[index]!.outcome === "retry");
    const failed = answers.find(({ outcome }) => outcome === "retry");
    if (failed) throw new DeliveryFailed(failed.detail, failed);
  }

  /** Counts an answer, and settles by it unless it is to be tried again. */
  #answered(received: Received, { outcome, detail }: Answer): void {
    const { pubsubName: component, topic } = this.spec;
    this.#deliveries[outcome].add();
    if (detail !== "") {
      this.#options.log.warn({ component, topic, id: received.event.id, outcome, detail }, "delivery failed");
    }
    if (outcome !== "retry") this.#topic.settle(received, outcome, detail);
  }
}

/** Calls the application with events, and resolves to its answers, in their order. */
type Call = (events: readonly Received[], signal: AbortSignal) => Promise<readonly Answer[]>;
