/**
 * One subscribe stream: what the application opened on it, and what it holds.
 *
 * Frames are made when the server asks for them, so that a client that reads
 * slowly holds back the stream and nothing else. A delivery gets its id when
 * its frame is made: what a client settles up to some id it has been sent.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import type {
  DeliveryRange,
  Open,
  Settle,
  SubscribeRequest,
  SubscribeResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { Outcome } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { fault, invalidRequest, type Reason, reasonOf } from "../../faults.ts";
import { durationMs, timestampFromMs } from "../../protobuf/times.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { WakeUp } from "../../wake-up.ts";
import { type Held, HeldDeliveries, idRangeOf } from "./held.ts";
import { Membership } from "./membership.ts";
import { maxWaitMs, minSettleWithinMs } from "./options.ts";
import type { ParsedOpen } from "./parsed-open.ts";

/** What a session asks of the buses. */
export interface SessionContext {
  readonly telemetry: Telemetry;
  /** Checks an Open, and says how to join. Throws a fault. */
  parse(open: Open): ParsedOpen;
  /** Called when the server begins to read the frames of a session, and when that ends. */
  count(session: Session, isOpen: boolean): void;
}

/** Subscriptions open on one stream at most. */
const maxSubscriptions = 1000;
/** Ranges in one Settle or Extend at most. */
const maxRanges = 1000;
/** Answers that wait to be read, past which the client is not heard: what it says stays with it. */
const maxWaitingAnswers = 1000;
const maxReasonBytes = 1024;
/** Data of one frame, in bytes, past which no further delivery is put in: well under the 4 MiB that clients take. */
const maxFrameBytes = 1024 * 1024;

/** See the head of this file. */
export class Session {
  readonly #context: SessionContext;
  readonly #memberships = new Map<number, Membership>();
  readonly #held = new HeldDeliveries();
  readonly #answers: SubscribeResponse[] = [];
  readonly #ended = new AbortController();
  #lastId = 0;
  #nextMembership = 0;
  readonly #wake = new WakeUp();
  /** Rings when there is room for answers. */
  readonly #room = new WakeUp();
  /** True: nothing new is taken, and the stream ends when nothing is held. */
  #leaving = false;
  #stuck = false;
  #failure: ConnectError | undefined;
  #sweep: NodeJS.Timeout | undefined;
  #sweepMs = Number.POSITIVE_INFINITY;

  constructor(context: SessionContext) {
    this.#context = context;
  }

  /** Reads what the application says until it stops. Never rejects. */
  async listen(requests: AsyncIterable<SubscribeRequest>): Promise<void> {
    try {
      for await (const request of requests) {
        this.#take(request);
        if (this.#answers.length >= maxWaitingAnswers) await this.#room.wait(this.#ended.signal);
      }
      // Who says no more settles no more: what it holds need not wait for its deadlines.
      this.#end("abandoned");
      this.wake();
    } catch (error) {
      // The stream broke, or a message was no protobuf: there is nobody left to tell.
      this.#context.telemetry.log.debug({ err: error }, "a subscribe stream broke");
      this.#fail(ConnectError.from(error));
    }
  }

  /** What the sidecar says, frame by frame. Returning it early abandons what is held. */
  async *frames(): AsyncGenerator<SubscribeResponse, void, undefined> {
    this.#context.count(this, true);
    try {
      for (;;) {
        const frame = this.#answers.shift() ?? this.#nextDeliver();
        if (frame) {
          yield frame;
          this.#reading();
          if (this.#answers.length < maxWaitingAnswers) this.#room.ring();
          continue;
        }
        if (this.#failure) throw this.#failure;
        if (this.#leaving && this.#held.size === 0 && this.#memberships.size === 0) return;
        await this.#wake.wait();
      }
    } finally {
      this.#end("abandoned");
      this.#context.count(this, false);
    }
  }

  /** Tells the application that the sidecar goes away; nothing new is delivered. */
  drain(deadlineMs: number): void {
    if (this.#leaving) return;
    const deadline = timestampFromMs(deadlineMs);
    this.#answer({ case: "drain", value: { $typeName: "outrider.pubsub.v1.Drain", deadline } });
    this.#leave();
  }

  /** Ends the stream; what is held is given back as if it had not been delivered. */
  giveBack(): void {
    this.#end("returned");
    this.#fail(fault("SHUTTING_DOWN", "the sidecar is going away"));
  }

  /** Ends the stream of a client that has gone; what it held is delivered again, and the attempt has counted. */
  abandon(): void {
    this.#fail(fault("CANCELLED", "the client has ended the stream"));
  }

  /**
   * To be called when components or declared subscriptions have changed. Subscriptions go on where their Opens lead
   * now, or wait; one that may not go on is closed, and its client told why. Resolves when all have joined.
   */
  async reconcile(): Promise<void> {
    const joining = [...this.#memberships.values()].map((membership) => {
      if (membership.leaving) return undefined;
      try {
        const parsed = this.#context.parse(membership.open);
        return membership.isIn(parsed) ? undefined : this.#join(membership, parsed);
      } catch (error) {
        return isGone(error) ? this.#wait(membership) : membership.leave(error);
      }
    });
    await Promise.all(joining);
  }

  /** Deliveries that the application holds. */
  get held(): number {
    return this.#held.size;
  }

  /** The open subscriptions. */
  get memberships(): Iterable<Membership> {
    return this.#memberships.values();
  }

  /** Has the server ask for the next frame. */
  wake(): void {
    this.#wake.ring();
  }

  #take(request: SubscribeRequest): void {
    const { message } = request;
    switch (message.case) {
      case "open":
        return this.#open(message.value);
      case "settle":
        return this.#settle(message.value);
      case "extend": {
        const { by, deliveries } = message.value;
        const byMs = by ? durationMs(by) : undefined;
        if (byMs !== undefined && !(byMs >= minSettleWithinMs && byMs <= maxWaitMs)) {
          return this.#complain("INVALID_REQUEST", "extend.by: must be 100 ms to 24 h");
        }
        const now = performance.now();
        return this.#each("extend", deliveries, (held) => {
          held.deadlineAt = now + (byMs ?? held.membership.options.settleWithinMs);
        });
      }
      case "close": {
        const membership = this.#memberships.get(message.value.subscription);
        if (membership) return membership.leave();
        return this.#complain(
          "UNKNOWN_SUBSCRIPTION",
          `close.subscription: ${message.value.subscription} is not open on this stream`,
        );
      }
      default:
        return this.#complain("INVALID_REQUEST", "message: must be one of open, settle, extend and close");
    }
  }

  #open(open: Open): void {
    const id = open.subscription;
    if (id === 0) return this.#complain("INVALID_REQUEST", "open.subscription: must be 1 or more");
    if (this.#memberships.has(id))
      return this.#complain("INVALID_REQUEST", `open.subscription: ${id} is open on this stream already`);
    try {
      if (this.#leaving) throw fault("SHUTTING_DOWN", "the stream takes no new subscriptions");
      if (this.#memberships.size >= maxSubscriptions)
        throw invalidRequest({
          field: "open",
          description: `at most ${maxSubscriptions} subscriptions share a stream`,
        });
      const parsed = this.#context.parse(open);
      const membership = new Membership(id, open, parsed.stream, this);
      this.#memberships.set(id, membership);
      void this.#join(membership, parsed);
    } catch (error) {
      this.#closed(id, error);
    }
  }

  /** Joins what an Open says now, and leaves what the membership was in before. Never rejects. */
  async #join(membership: Membership, parsed: ParsedOpen): Promise<void> {
    const { signal, consumer } = membership.move(parsed);
    try {
      const subscription = await parsed.join(consumer, signal);
      if (signal.aborted) return subscription.leave(consumer);
      if (membership.opening) this.#opened(membership, parsed);
      membership.begin(subscription, consumer);
    } catch (error) {
      if (signal.aborted) return;
      if (membership.opening || !isGone(error)) membership.leave(error);
      else this.#wait(membership);
    }
  }

  #opened({ id }: Membership, { agreed, stream }: ParsedOpen): void {
    this.#answer({
      case: "opened",
      value: { $typeName: "outrider.pubsub.v1.Opened", subscription: id, agreed },
    });
    this.#sweepMs = Math.min(this.#sweepMs, Math.max(10, Math.min(stream.settleWithinMs / 10, 1000)));
  }

  /** What it was in is not there any more; it goes on when it is there again. */
  #wait(membership: Membership): void {
    if (!membership.wait()) return;
    const { component, declared, topic } = membership.open;
    this.#context.telemetry.log.warn(
      { component, declared, topic, subscription: membership.id },
      "what a stream subscribes to is not there any more; the subscription waits for it",
    );
  }

  #settle({ deliveries, outcome, delay, reason }: Settle): void {
    const delayMs = delay ? durationMs(delay) : undefined;
    if (outcome !== Outcome.ACK && outcome !== Outcome.RETRY && outcome !== Outcome.REJECT) {
      return this.#complain("INVALID_REQUEST", "settle.outcome: must be ACK, RETRY or REJECT");
    }
    if (delayMs !== undefined && !(delayMs >= 0 && delayMs <= maxWaitMs)) {
      return this.#complain("INVALID_REQUEST", "settle.delay: must be 0 to 24 h");
    }
    if (reason !== "" && Buffer.byteLength(reason) > maxReasonBytes) {
      return this.#complain("INVALID_REQUEST", `settle.reason: must have at most ${maxReasonBytes} bytes`);
    }
    const name = outcome === Outcome.ACK ? "ack" : outcome === Outcome.RETRY ? "retry" : "reject";
    const now = performance.now();
    this.#each("settle", deliveries, (held) => this.#release(held, name, now, delayMs, reason));
    if (this.#leaving) this.wake();
  }

  /** Does something with each delivery that is held and named by a range; complains of ranges that name none. */
  #each(field: string, ranges: readonly DeliveryRange[], work: (held: Held) => void): void {
    if (ranges.length === 0)
      return this.#complain("INVALID_REQUEST", `${field}.deliveries: must not be empty`);
    if (ranges.length > maxRanges)
      return this.#complain("INVALID_REQUEST", `${field}.deliveries: must be at most ${maxRanges}`);
    for (const range of ranges) {
      const ids = idRangeOf(range);
      if (!ids) {
        this.#complain(
          "INVALID_REQUEST",
          `${field}.deliveries: first must be 1 or more, and last not before it`,
        );
      } else if (this.#held.each(ids, work) === 0) {
        const name = ids.first === ids.last ? `${ids.first} is` : `${ids.first} to ${ids.last} are`;
        this.#complain("UNKNOWN_DELIVERY", `${field}.deliveries: ${name} not held on this stream`);
      }
    }
  }

  /** Lets go of one delivery: the place is free, and its fate is the subscription's business. */
  #release(
    held: Held,
    outcome: "ack" | "retry" | "reject" | "timeout" | "abandoned" | "returned",
    now: number,
    delayMs?: number,
    detail = "",
  ): void {
    this.#held.delete(held);
    const { membership, received, subscription } = held;
    subscription.metrics.duration.observe((now - held.sentAt) / 1000);
    held.span?.set("outrider.outcome", outcome);
    held.span?.end(outcome === "ack" ? undefined : new Error(outcome));
    if (outcome === "returned") subscription.returned(received);
    else subscription.settled(received, outcome, delayMs, detail);
    membership.released();
  }

  /** Takes the next deliveries into a frame: turn by turn from the subscriptions that have some. */
  #nextDeliver(): SubscribeResponse | undefined {
    const memberships = [...this.#memberships.values()];
    const deliveries: Held["delivery"][] = [];
    let bytes = 0;
    for (let i = 0; i < memberships.length && bytes < maxFrameBytes; i++) {
      const membership = memberships[(this.#nextMembership + i) % memberships.length]!;
      for (let n = 0; n < membership.options.maxBatch && bytes < maxFrameBytes; n++) {
        const size = membership.nextBytes();
        if (size === undefined || (bytes > 0 && bytes + size > maxFrameBytes)) break;
        bytes += size;
        const held = membership.take(++this.#lastId);
        this.#held.add(held);
        deliveries.push(held.delivery);
      }
    }
    if (deliveries.length === 0) return undefined;
    this.#nextMembership += 1;
    this.watchDeadlines();
    return {
      $typeName: "outrider.pubsub.v1.SubscribeResponse",
      message: { case: "deliver", value: { $typeName: "outrider.pubsub.v1.Deliver", deliveries } },
    };
  }

  /** Looks at the deadlines from time to time, as long as anything is held or waits to be sent. */
  watchDeadlines(): void {
    this.#sweep ??= setTimeout(() => {
      this.#sweep = undefined;
      this.#passDeadlines();
      if (this.#held.size > 0 || [...this.#memberships.values()].some((m) => m.nextBytes() !== undefined))
        this.watchDeadlines();
    }, this.#sweepMs);
  }

  /** The client reads: subscriptions that had been given up for stuck take events again. */
  #reading(): void {
    if (!this.#stuck) return;
    this.#stuck = false;
    for (const membership of this.#memberships.values()) membership.unstick();
  }

  #passDeadlines(): void {
    const now = performance.now();
    for (const held of this.#held.all()) {
      if (held.deadlineAt <= now) this.#release(held, "timeout", now);
    }
    for (const membership of this.#memberships.values()) {
      if (membership.returnStuck(now)) this.#stuck = true;
    }
    if (this.#leaving) this.wake();
  }

  /** Called by a membership that has left and holds nothing any more. */
  closed({ id }: Membership, failure: unknown): void {
    this.#memberships.delete(id);
    if (!this.#ended.signal.aborted && (!this.#leaving || failure !== undefined)) this.#closed(id, failure);
    this.wake();
  }

  #leave(): void {
    this.#leaving = true;
    for (const membership of [...this.#memberships.values()]) membership.leave();
    this.wake();
  }

  #fail(error: ConnectError): void {
    this.#failure ??= error;
    this.#end("abandoned");
    this.wake();
  }

  #end(outcome: "abandoned" | "returned"): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    this.#leaving = true;
    clearTimeout(this.#sweep);
    const now = performance.now();
    for (const membership of [...this.#memberships.values()]) membership.leave();
    for (const held of this.#held.all()) this.#release(held, outcome, now);
  }

  #closed(subscription: number, error: unknown): void {
    const known = error === undefined || (error instanceof ConnectError && error.code !== Code.Internal);
    if (!known)
      this.#context.telemetry.log.error({ err: error, subscription }, "opening a subscription failed");
    const why = error === undefined ? undefined : ConnectError.from(error);
    this.#answer({
      case: "closed",
      value: {
        $typeName: "outrider.pubsub.v1.Closed",
        subscription,
        code: why?.code ?? 0,
        reason: reasonOf(error) ?? "",
        message: why ? (known || reasonOf(error) ? why.rawMessage : "internal error") : "",
      },
    });
  }

  #complain(reason: Reason, message: string): void {
    this.#answer({
      case: "complaint",
      value: { $typeName: "outrider.pubsub.v1.Complaint", reason, message },
    });
  }

  #answer(message: SubscribeResponse["message"]): void {
    this.#answers.push({ $typeName: "outrider.pubsub.v1.SubscribeResponse", message });
    this.wake();
  }
}

/** Whether an error says that a component, or a declared subscription, is not there. */
function isGone(error: unknown): boolean {
  const reason = reasonOf(error);
  return reason === "COMPONENT_NOT_FOUND" || reason === "UNKNOWN_SUBSCRIPTION";
}
