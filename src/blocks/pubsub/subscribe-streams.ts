/** The Subscribe streams of a sidecar, and what happens to all of them. */
import type { Gauge } from "../../telemetry/metrics.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { Session } from "./session.ts";

/** See the head of this file. */
export class SubscribeStreams {
  readonly #open = new Set<Session>();
  readonly #gauge: Gauge;
  #draining = false;

  constructor({ metrics }: Pick<Telemetry, "metrics">) {
    this.#gauge = metrics
      .gauge("outrider_pubsub_subscribe_streams", "Subscribe streams that are open.", [])
      .with({});
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Whether new ones are refused. */
  get draining(): boolean {
    return this.#draining;
  }

  [Symbol.iterator](): Iterator<Session> {
    return this.#open.values();
  }

  /** Notes that a stream has opened, or that it has closed. */
  count(session: Session, isOpen: boolean): void {
    if (isOpen) this.#open.add(session);
    else this.#open.delete(session);
    this.#gauge.set(this.#open.size);
  }

  /** Has open subscriptions go on where components and resources of now lead. Resolves when they have joined. */
  async reconcile(): Promise<void> {
    await Promise.all([...this.#open].map((session) => session.reconcile()));
  }

  /** Tells every stream that the sidecar goes away, and has new ones refused. */
  drain(deadlineMs: number): void {
    this.#draining = true;
    for (const session of this.#open) session.drain(deadlineMs);
  }
}
