/** One subscription open on one stream: its place among the consumers of a group. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Delivery, Event, Open } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Received } from "./driver.ts";
import type { Held } from "./held.ts";
import type { StreamOptions } from "./options.ts";
import { joinTheSame, type ParsedOpen } from "./parsed-open.ts";
import type { Consumer, Subscription } from "./subscription.ts";
import { Timestamps } from "./timestamps.ts";

/** What a membership needs of its stream. */
export interface Stream {
  /** There is something to send. */
  wake(): void;
  /** There are deliveries whose time runs. */
  watchDeadlines(): void;
  /** The membership has left and holds nothing. `failure` is why it had to leave, if it did not want to. */
  closed(membership: Membership, failure: unknown): void;
}

/** Data of events that wait to be sent on one subscription, in bytes, past which no more are taken. */
const maxWaitingBytes = 4 * 1024 * 1024;
/** What a delivery has beside its data, in bytes, roughly: it only bounds memory. */
const overheadBytes = 512;

/**
 * See the head of this file. When its component is replaced it goes on in another subscription, as the
 * same one for the application; what the application holds then is settled where it is from.
 */
export class Membership {
  readonly id: number;
  /** What the application has asked for. */
  readonly open: Open;
  readonly options: StreamOptions;
  readonly #stream: Stream;
  #state: "opening" | "live" | "waiting" | "leaving" | "closed" = "opening";
  /** Which of its consumers is the one in `subscription`. */
  #consumer: Consumer | undefined;
  #subscription: Subscription | undefined;
  /** What it is in, or on its way to; undefined while there is nothing to be a member of. */
  #wanted: ParsedOpen | undefined;
  #joining: AbortController | undefined;
  #failure: unknown;
  #held = 0;
  #waiting: Received[] = [];
  #routes: string[] = [];
  /** What each of them is from: not always what it is a member of now. */
  #sources: Subscription[] = [];
  #next = 0;
  #waitingBytes = 0;
  /** By performance.now(). */
  #waitingSince = 0;
  /** The client has not read for a whole deadline: nothing more for it until it does. */
  #stuck = false;
  readonly #deadlines = new Timestamps();
  readonly #publishTimes = new Timestamps();

  constructor(id: number, open: Open, options: StreamOptions, stream: Stream) {
    this.id = id;
    this.open = open;
    this.options = options;
    this.#stream = stream;
  }

  /** What it is a member of; undefined while it is opening, and while there is nothing to be a member of. */
  get subscription(): Subscription | undefined {
    return this.#subscription;
  }

  /** The Open that it is a member by, or on its way to be; as the application has sent it while there is nothing to be a member of. */
  get wanted(): Open {
    return this.#wanted?.agreed ?? this.open;
  }

  /** Whether it has never been open. */
  get opening(): boolean {
    return this.#state === "opening";
  }

  /** Whether it takes no more events, for good. */
  get leaving(): boolean {
    return this.#state === "leaving" || this.#state === "closed";
  }

  /** Whether it is, or will soon be, in what an Open says now. */
  isIn(parsed: ParsedOpen): boolean {
    return this.#wanted !== undefined && joinTheSame(this.#wanted, parsed);
  }

  /**
   * It is to be in what an Open says now. Returns a consumer that takes nothing until `begin`, and a signal that aborts
   * when it is to be elsewhere.
   */
  move(parsed: ParsedOpen): { readonly signal: AbortSignal; readonly consumer: Consumer } {
    this.#joining?.abort();
    this.#joining = new AbortController();
    // Two groups of one name, with other options, cannot be open in one component.
    if (this.#wanted?.bus === parsed.bus) this.#part();
    this.#wanted = parsed;
    const consumer: Consumer = {
      free: () => (consumer === this.#consumer ? this.#free() : 0),
      deliver: (received, routes) => this.#deliver(received, routes),
    };
    return { signal: this.#joining.signal, consumer };
  }

  /** Begins to take events from a subscription, which counts the consumer as one of its own, and leaves the one before. */
  begin(subscription: Subscription, consumer: Consumer): void {
    this.#part();
    this.#subscription = subscription;
    this.#consumer = consumer;
    this.#state = "live";
    subscription.wake();
  }

  /** Leaves its subscription without leaving the stream: there may be another later. Tells whether it was in one, or on its way. */
  wait(): boolean {
    const was = this.#wanted !== undefined;
    this.#joining?.abort();
    this.#wanted = undefined;
    this.#part();
    if (this.#state === "live") this.#state = "waiting";
    return was;
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
    const subscription = this.#sources[this.#next]!;
    this.#next += 1;
    const wasFull = this.#waitingBytes > maxWaitingBytes;
    this.#waitingBytes -= sizeOf(received);
    this.#held += 1;
    const nowMs = Date.now();
    const sentAt = performance.now();
    this.#waitingSince = sentAt;
    if (this.#next === this.#waiting.length) this.#clearWaiting();
    // Perhaps what waited was all that kept more from being taken.
    if (wasFull && this.#waitingBytes <= maxWaitingBytes) this.#subscription?.wake();
    const deadlineMs = nowMs + this.options.settleWithinMs;
    const { event, span } = subscription.traced(received);
    return {
      id,
      membership: this,
      subscription,
      received,
      delivery: deliveryOf(id, this.id, received, event, route, {
        deadline: this.#deadlines.of(deadlineMs),
        publishedAt: this.#publishTimes.of(received.publishedAtMs),
      }),
      sentAt,
      span,
      deadlineAt: sentAt + this.options.settleWithinMs,
    };
  }

  /** A delivery that was held is not any more. */
  released(): void {
    this.#held -= 1;
    this.#subscription?.wake();
    this.#closeIfDone();
  }

  /** Takes no more; what was not sent goes back. `failure` is why, unless somebody wanted it so. */
  leave(failure?: unknown): void {
    if (this.leaving) return;
    this.#failure = failure;
    this.#joining?.abort();
    this.#state = "leaving";
    this.#returnWaiting();
    this.#part();
    this.#closeIfDone();
  }

  /** Gives back what waits for a client that has not read for a whole deadline; tells whether it had to. */
  returnStuck(now: number): boolean {
    if (this.#next === this.#waiting.length || now - this.#waitingSince < this.options.settleWithinMs)
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

  #free(): number {
    if (this.#state !== "live" || this.#stuck || this.#waitingBytes > maxWaitingBytes) return 0;
    return this.options.maxInFlight - this.#held - (this.#waiting.length - this.#next);
  }

  #deliver(received: readonly Received[], routes: readonly string[]): void {
    if (this.#next === this.#waiting.length) this.#waitingSince = performance.now();
    for (let i = 0; i < received.length; i++) {
      this.#waiting.push(received[i]!);
      this.#routes.push(routes[i]!);
      this.#sources.push(this.#subscription!);
      this.#waitingBytes += sizeOf(received[i]!);
    }
    this.#stream.watchDeadlines();
    this.#stream.wake();
  }

  /**
   * Leaves the subscription. What the application holds is still settled there, what it has not got goes back; unless it
   * is a broadcast: nobody else would get it.
   */
  #part(): void {
    if (!this.#subscription || !this.#consumer) return;
    if (this.#subscription.options.group !== undefined) this.#returnWaiting();
    this.#subscription.leave(this.#consumer);
    this.#subscription = undefined;
    this.#consumer = undefined;
  }

  #returnWaiting(): void {
    const waiting = this.#waiting.slice(this.#next);
    const sources = this.#sources.slice(this.#next);
    this.#clearWaiting();
    for (const [index, received] of waiting.entries()) sources[index]!.returned(received);
  }

  #clearWaiting(): void {
    this.#waiting = [];
    this.#routes = [];
    this.#sources = [];
    this.#next = 0;
    this.#waitingBytes = 0;
  }

  #closeIfDone(): void {
    if (this.#state !== "leaving" || this.#held > 0) return;
    this.#state = "closed";
    this.#stream.closed(this, this.#failure);
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
