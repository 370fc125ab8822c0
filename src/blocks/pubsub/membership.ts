/** One subscription open on one stream: its place among the consumers of a group. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Delivery, Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Received } from "./driver.ts";
import type { Held } from "./held.ts";
import type { StreamOptions } from "./options.ts";
import type { Consumer, Subscription } from "./subscription.ts";
import { Timestamps } from "./timestamps.ts";

/** What a membership needs of its stream. */
export interface Stream {
  /** There is something to send. */
  wake(): void;
  /** There are deliveries whose time runs. */
  watchDeadlines(): void;
  /** The membership has left and holds nothing. */
  closed(membership: Membership): void;
}

/** Data of events that wait to be sent on one subscription, in bytes, past which no more are taken. */
const maxWaitingBytes = 4 * 1024 * 1024;
/** What a delivery has beside its data, in bytes, roughly: it only bounds memory. */
const overheadBytes = 512;

/** See the head of this file. */
export class Membership implements Consumer {
  readonly id: number;
  readonly options: StreamOptions;
  readonly #stream: Stream;
  #state: "opening" | "live" | "leaving" | "closed" = "opening";
  #subscription: Subscription | undefined;
  #held = 0;
  #waiting: Received[] = [];
  #routes: string[] = [];
  #next = 0;
  #waitingBytes = 0;
  #waitingSinceMs = 0;
  /** The client has not read for a whole deadline: nothing more for it until it does. */
  #stuck = false;
  readonly #deadlines = new Timestamps();
  readonly #publishTimes = new Timestamps();

  constructor(id: number, options: StreamOptions, stream: Stream) {
    this.id = id;
    this.options = options;
    this.#stream = stream;
  }

  /** The group it is a member of; undefined while it is opening. */
  get subscription(): Subscription | undefined {
    return this.#subscription;
  }

  get opening(): boolean {
    return this.#state === "opening";
  }

  /** Begins to take events from the subscription, which counts it as a consumer already. */
  begin(subscription: Subscription): void {
    this.#subscription = subscription;
    this.#state = "live";
    subscription.wake();
  }

  free(): number {
    if (this.#state !== "live" || this.#stuck || this.#waitingBytes > maxWaitingBytes) return 0;
    return this.options.maxInFlight - this.#held - (this.#waiting.length - this.#next);
  }

  deliver(received: readonly Received[], routes: readonly string[]): void {
    if (this.#next === this.#waiting.length) this.#waitingSinceMs = Date.now();
    for (let i = 0; i < received.length; i++) {
      this.#waiting.push(received[i]!);
      this.#routes.push(routes[i]!);
      this.#waitingBytes += sizeOf(received[i]!);
    }
    this.#stream.watchDeadlines();
    this.#stream.wake();
  }

  /** The size of the next event to be sent, in bytes; undefined when there is none. */
  nextBytes(): number | undefined {
    const next = this.#waiting[this.#next];
    return next && sizeOf(next);
  }

  /** Takes the next event as the delivery of that id. */
  take(id: number): Held {
    const received = this.#waiting[this.#next]!;
    const route = this.#routes[this.#next]!;
    this.#next += 1;
    this.#waitingBytes -= sizeOf(received);
    this.#held += 1;
    const nowMs = Date.now();
    this.#waitingSinceMs = nowMs;
    if (this.#next === this.#waiting.length) this.#clearWaiting();
    const deadlineMs = nowMs + this.options.settleWithinMs;
    const { event, span } = this.#subscription!.traced(received);
    return {
      id,
      membership: this,
      received,
      delivery: deliveryOf(id, this.id, received, event, route, {
        deadline: this.#deadlines.of(deadlineMs),
        publishedAt: this.#publishTimes.of(received.publishedAtMs),
      }),
      sentAt: performance.now(),
      span,
      deadlineMs,
    };
  }

  /** A delivery that was held is not any more. */
  released(): void {
    this.#held -= 1;
    this.#subscription!.wake();
    this.#closeIfDone();
  }

  /** Takes no more; what was not sent goes back. */
  leave(): void {
    if (this.#state === "leaving" || this.#state === "closed") return;
    // One that is still opening is closed by whoever opens it, when that is done.
    const opened = this.#state === "live";
    this.#state = "leaving";
    if (!opened) return;
    this.#returnWaiting();
    this.#closeIfDone();
  }

  /** Gives back what waits for a client that has not read for a whole deadline; tells whether it had to. */
  returnStuck(nowMs: number): boolean {
    if (this.#next === this.#waiting.length || nowMs - this.#waitingSinceMs < this.options.settleWithinMs)
      return false;
    this.#stuck = true;
    this.#returnWaiting();
    return true;
  }

  /** The client reads again. */
  unstick(): void {
    this.#stuck = false;
    this.#subscription?.wake();
  }

  #returnWaiting(): void {
    const waiting = this.#waiting.slice(this.#next);
    this.#clearWaiting();
    for (const received of waiting) this.#subscription!.returned(received);
  }

  #clearWaiting(): void {
    this.#waiting = [];
    this.#routes = [];
    this.#next = 0;
    this.#waitingBytes = 0;
  }

  #closeIfDone(): void {
    if (this.#state !== "leaving" || this.#held > 0) return;
    this.#state = "closed";
    this.#subscription!.leave(this);
    this.#stream.closed(this);
  }
}

function sizeOf(received: Received): number {
  return received.event.data.length + overheadBytes;
}

function deliveryOf(
  id: number,
  subscription: number,
  received: Received,
  event: Event,
  route: string,
  { deadline, publishedAt }: { readonly deadline: Timestamp; readonly publishedAt: Timestamp },
): Delivery {
  return {
    $typeName: "outrider.pubsub.v1.Delivery",
    id: BigInt(id),
    subscription,
    event,
    topic: received.topic,
    route,
    attempt: received.attempt,
    deadline,
    key: received.key,
    position: received.position,
    publishedAt,
    headers: received.headers,
    partition: received.partition,
    offset: received.offset,
  };
}
