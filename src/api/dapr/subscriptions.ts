/** The subscriptions of this API: what metadata has, and what an application that listens is called for. */
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
  #declared: readonly TopicSubscriptionSpec[] = [];
  /** Those of them that `views` tells of. */
  #shown: readonly TopicSubscriptionSpec[] = [];
  #listed: readonly TopicSubscriptionSpec[] = [];
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

  /** Replaces what resources declare, in their order. */
  setDeclared(specs: readonly TopicSubscriptionSpec[]): void {
    this.#declared = specs;
  }

  /** Has `views` tell of what resources declare now: it is open, as far as it can be. */
  showDeclared(): void {
    this.#shown = this.#declared;
  }

  /** Has streams go on where their components are now. Resolves when they are subscribed there. */
  async reconcile(): Promise<void> {
    await Promise.all([...this.#streams].map((stream) => stream.reconcile()));
  }

  /** Replaces what the application has listed, in its order. */
  setListed(specs: readonly TopicSubscriptionSpec[]): void {
    this.#listed = specs;
  }

  /**
   * What an application that listens is called for, each topic of a component once: of resources the first,
   * of the application's own the last, and these before those.
   */
  get wanted(): readonly SubscriptionView[] {
    return [...this.#wanted(this.#declared).values()];
  }

  /** What there is, streams last. Of several streams with the same topic only one is told of, as in Dapr. */
  get views(): readonly SubscriptionView[] {
    const all = this.#wanted(this.#shown);
    for (const { spec } of this.#streams) if (spec) all.set(keyOf(spec), { spec, kind: "STREAMING" });
    return [...all.values()];
  }

  #wanted(declared: readonly TopicSubscriptionSpec[]): Map<string, SubscriptionView> {
    const all = new Map<string, SubscriptionView>();
    for (const spec of declared)
      if (!all.has(keyOf(spec))) all.set(keyOf(spec), { spec, kind: "DECLARATIVE" });
    for (const spec of this.#listed) all.set(keyOf(spec), { spec, kind: "PROGRAMMATIC" });
    return all;
  }
}

/** The same for the same topic of the same component. */
export function keyOf({ pubsubName, topic }: TopicSubscriptionSpec): string {
  return JSON.stringify([pubsubName, topic]);
}
