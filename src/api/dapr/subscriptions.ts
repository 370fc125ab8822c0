/** The subscriptions of this API, for metadata and for stopping. */
import type { SubscribeStream } from "./subscribe-stream.ts";
import type { TopicSubscriptionSpec } from "./topic-subscription.ts";

/** How a subscription came to be, as Dapr names it. */
export type SubscriptionKind = "DECLARATIVE" | "PROGRAMMATIC" | "STREAMING";

/** One subscription, as metadata has it. */
export interface SubscriptionView {
  readonly spec: TopicSubscriptionSpec;
  readonly kind: SubscriptionKind;
}

/** See the head of this file. */
export class Subscriptions {
  readonly #streams = new Set<SubscribeStream>();
  #draining = false;

  addStream(stream: SubscribeStream): void {
    this.#streams.add(stream);
    if (this.#draining) stream.drain();
  }

  removeStream(stream: SubscribeStream): void {
    this.#streams.delete(stream);
  }

  /** Takes no more events; streams end when those in hand are settled. */
  drain(): void {
    this.#draining = true;
    for (const stream of this.#streams) stream.drain();
  }

  /** Streams that have not ended. */
  get open(): number {
    return this.#streams.size;
  }

  /** What is live, in the order in which it was opened. */
  get views(): readonly SubscriptionView[] {
    return [...this.#streams].flatMap(({ spec }) => (spec ? [{ spec, kind: "STREAMING" as const }] : []));
  }
}
