/**
 * One (component, topic, group) in this sidecar: what its streams share.
 *
 * Demand flows down: the free places of its consumers are what it asks the
 * driver for. Settlements flow up in batches. In between it decides what is
 * the same on every broker: expiry, routes, attempts, backoff, dead letters.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { backoffMs } from "../../backoff.ts";
import { pause } from "../../pause.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { Span } from "../../telemetry/tracing.ts";
import { WakeUp } from "../../wake-up.ts";
import type { Call } from "../call.ts";
import { settledOrAborted } from "../settled-or-aborted.ts";
import { DeadLetterPost } from "./dead-letter-post.ts";
import { type DeadLetterReason, redriveGroupExtension } from "./dead-letters.ts";
import { type DeliveryMetrics, deliveryMetrics } from "./delivery-metrics.ts";
import type { DriverSubscription, Lag, Outgoing, Received } from "./driver.ts";
import { traceOfEvent, withTrace } from "./event-trace.ts";
import type { EngineSettlement } from "./inbox.ts";
import { retryDelayMs, type SharedOptions } from "./options.ts";
import { joinTroubles } from "./troubles.ts";

/** Somebody who takes deliveries: a subscription open on a stream. */
export interface Consumer {
  /** Deliveries it would take now. */
  free(): number;
  /** Takes deliveries, never more than `free`, each with its route. */
  deliver(received: readonly Received[], routes: readonly string[]): void;
}

/** What a subscription needs of the bus that makes it. */
export interface SubscriptionContext {
  readonly component: string;
  readonly options: SharedOptions;
  readonly telemetry: Telemetry;
  /** Records that are no CloudEvents go to the dead-letter topic if there is one. */
  readonly deadLetterNonCloudEvents: boolean;
  /** Joins the group at the broker; waits for the component. */
  openDriver(call: Call): Promise<DriverSubscription>;
  /** Whether what `openDriver` threw says that the broker is away, so that it may be there later. */
  isUnavailable(error: unknown): boolean;
  /** Publishes to the dead-letter topic; resolves when the broker has it. Throws DeadLetterRefused when it says no. */
  publishDeadLetter(letter: Outgoing, call: Call): Promise<void>;
  /** Called once, when the last consumer has left and everything is settled or given back. */
  onClosed(): void;
}

/** Events asked for in one receive at most: bounds the time until a settlement gets its turn. */
const maxReceive = 1024;
/** Settlements that the broker has not confirmed, and dead letters on their way, until no more events are taken. */
const maxUnconfirmed = 10_000;
const pauses = { firstMs: 100, lastMs: 5000 };
/** Failures in a row until the group is joined anew. */
const failuresUntilReopen = 3;
/** How long the broker may take for settlements, in milliseconds; half as long at least. */
const settleWithinMs = 60_000;
/** How long closing waits for the broker to take the last settlements. */
const closeWithinMs = 5000;

/** See the head of this file. */
export class Subscription {
  readonly options: SharedOptions;
  /** What is counted of it. */
  readonly metrics: DeliveryMetrics;
  readonly #context: SubscriptionContext;
  readonly #consumers: Consumer[] = [];
  readonly #closing = new AbortController();
  readonly #call: Call = { signal: this.#closing.signal };
  #driver: DriverSubscription | undefined;
  #opened: Promise<void> | undefined;
  #pumping: Promise<void> | undefined;
  #closed: Promise<void> | undefined;
  readonly #ended = Promise.withResolvers<void>();
  readonly #wake = new WakeUp();
  #nextConsumer = 0;
  #held = 0;
  /** Consumers that wait until the group is joined. */
  #waiting = 0;
  readonly #letters: DeadLetterPost;
  #settlements: EngineSettlement[] = [];
  #unconfirmed = 0;
  #flushing: Promise<void> | undefined;
  #sharedSettleCall: Call = { signal: new AbortController().signal };
  /** By performance.now(). */
  #settleCallUntil = 0;

  constructor(context: SubscriptionContext) {
    this.#context = context;
    this.options = context.options;
    const { component, options, telemetry } = context;
    const { topic, group, deadLetterTopic } = options;
    this.#letters = new DeadLetterPost({
      publish: (letter) => context.publishDeadLetter(letter, this.#call),
      deserted: () => this.deserted,
      signal: this.#closing.signal,
      log: telemetry.log,
      fields: { component, topic, group, deadLetterTopic },
    });
    this.metrics = deliveryMetrics(
      telemetry.metrics,
      { component, topic, group: group ?? "" },
      {
        inFlight: () => this.#held,
        lettersWaiting: () => this.#letters.waiting,
        lag: () => this.lag(),
      },
    );
  }

  /**
   * Joins the group, and adds a consumer; its events come as soon as it has free places. The first caller joins for
   * all, and as long as the broker is away they wait. Throws what the driver throws, or the signal's reason.
   */
  async join(consumer: Consumer, signal: AbortSignal): Promise<void> {
    this.#opened ??= this.#open();
    this.#waiting += 1;
    try {
      await settledOrAborted(this.#opened, signal);
      if (!this.closing) this.#consumers.push(consumer);
    } finally {
      this.#waiting -= 1;
      this.#closeIfIdle();
    }
    this.wake();
  }

  /** Removes a consumer. What it holds is still settled through this subscription. */
  leave(consumer: Consumer): void {
    const index = this.#consumers.indexOf(consumer);
    if (index >= 0) this.#consumers.splice(index, 1);
    if (this.deserted) this.#letters.giveBackRefused();
    this.#closeIfIdle();
  }

  /** Says that a consumer may have more free places than before. */
  wake(): void {
    this.#wake.ring();
  }

  /** Settles a delivery that a consumer held. `delayMs` overrides the backoff of a retry. */
  settled(
    received: Received,
    outcome: "ack" | "retry" | "reject" | "timeout" | "abandoned",
    delayMs: number | undefined,
    detail: string,
  ): void {
    this.#held -= 1;
    this.metrics.outcome[outcome].add();
    if (outcome === "ack") this.#settle({ receipt: received.receipt, kind: "done", acked: true });
    else if (outcome === "reject") this.#giveUp(received, "rejected", detail);
    else if (outcome !== "abandoned" && received.attempt >= this.options.retry.maxAttempts) {
      this.#giveUp(
        received,
        "attempts",
        detail || (outcome === "timeout" ? "not settled before its deadline" : ""),
      );
    } else {
      const retryMs = outcome === "abandoned" ? 0 : retryDelayMs(this.options.retry, received.attempt);
      this.#settle({ receipt: received.receipt, kind: "again", delayMs: delayMs ?? retryMs });
    }
  }

  /** Gives back a delivery that the application never got, or could not settle because the sidecar goes away. */
  returned(received: Received): void {
    this.#held -= 1;
    this.#settle({ receipt: received.receipt, kind: "returned" });
  }

  /** The event as it is delivered: under a span of its own that ends at the settlement, when there is tracing. */
  traced(received: Received): { readonly event: Event; readonly span?: Span } {
    const { component, telemetry } = this.#context;
    if (!telemetry.tracing.enabled) return received;
    const { event, topic } = received;
    const span = telemetry.tracing.startSpan(`process ${topic}`, "consumer", traceOfEvent(event), {
      "messaging.system": "outrider",
      "messaging.operation.type": "process",
      "messaging.operation.name": "process",
      "messaging.destination.name": topic,
      "messaging.consumer.group.name": this.options.group ?? "",
      "messaging.message.id": event.id,
      "outrider.component": component,
      "outrider.attempt": received.attempt,
    });
    return { event: withTrace(event, span.headers), span };
  }

  /** What an operator should know of it; "" when all is well. */
  get trouble(): string {
    return joinTroubles([this.#lettersTrouble, this.#driver?.trouble]);
  }

  get #lettersTrouble(): string {
    const { refused } = this.#letters;
    if (refused === undefined) return "";
    const { topic, deadLetterTopic } = this.options;
    const letters = refused.count === 1 ? "a dead letter" : `${refused.count} dead letters`;
    return `"${deadLetterTopic}" does not take ${letters} of "${topic}": ${refused.why}`;
  }

  /** Deliveries that consumers hold. */
  get held(): number {
    return this.#held;
  }

  /** How far the group is behind; undefined when the broker does not tell. */
  async lag(): Promise<Lag | undefined> {
    try {
      return await this.#driver?.lag?.({ signal: AbortSignal.timeout(1000) });
    } catch {
      return undefined;
    }
  }

  /** Whether it is closing or closed: nobody can join any more. */
  get closing(): boolean {
    return this.#closed !== undefined;
  }

  /** Whether nobody is in it, or wants to be: it closes when what was handed out has been settled. */
  get deserted(): boolean {
    return this.#consumers.length + this.#waiting === 0;
  }

  /** Resolves when it is closed. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Stops taking events; those held may still be settled. */
  stopTaking(): void {
    this.#closing.abort();
    this.wake();
  }

  /** Leaves the group; what is not settled is given back. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #open(): Promise<void> {
    this.#driver = await this.#joinGroup((error) => this.#context.isUnavailable(error));
    this.#pumping = this.#pump();
  }

  async #pump(): Promise<void> {
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      const wanted = this.#demand();
      if (wanted === 0) {
        await this.#wake.wait();
        continue;
      }
      try {
        const events = await this.#driver!.receive(wanted, this.#call);
        failures = 0;
        if (events.length > 0) this.#dispatch(events);
      } catch (error) {
        failures += 1;
        await this.#recover(error, failures);
      }
    }
  }

  #demand(): number {
    if (this.#unconfirmed > maxUnconfirmed) return 0;
    let free = 0;
    for (const consumer of this.#consumers) free += consumer.free();
    return Math.min(free, maxReceive);
  }

  /** Waits, and joins the group anew when waiting alone did not help. */
  async #recover(error: unknown, failures: number): Promise<void> {
    const { component, telemetry } = this.#context;
    const { topic, group } = this.options;
    telemetry.log.warn({ component, topic, group, failures, err: error }, "receiving failed; trying again");
    await this.#pause(failures);
    if (this.#closing.signal.aborted || failures % failuresUntilReopen !== 0) return;
    try {
      await this.#driver!.close();
    } catch (closeError) {
      telemetry.log.debug({ component, topic, group, err: closeError }, "leaving a broken group failed");
    }
    // The old membership is closed: to receive from it would be an endless loop without a pause.
    await this.#joinGroup(() => true).then(
      (driver) => {
        this.#driver = driver;
      },
      () => {}, // It is closing.
    );
  }

  /** Joins the group at the broker, until that is done, it fails for good, or the subscription closes. */
  async #joinGroup(mayPass: (error: unknown) => boolean): Promise<DriverSubscription> {
    const { component, telemetry } = this.#context;
    const { topic, group } = this.options;
    for (let failures = 1; ; failures++) {
      try {
        return await this.#context.openDriver(this.#call);
      } catch (error) {
        if (this.#closing.signal.aborted || !mayPass(error)) throw error;
        const fields = { component, topic, group, failures, err: error };
        telemetry.log.warn(fields, "joining the group failed; trying again");
      }
      await this.#pause(failures);
      this.#closing.signal.throwIfAborted();
    }
  }

  #dispatch(events: readonly Received[]): void {
    if (this.#closing.signal.aborted) {
      for (const event of events) this.#settle({ receipt: event.receipt, kind: "returned" });
      return;
    }
    const ready: Received[] = [];
    const routes: string[] = [];
    for (const event of events) {
      const route = this.#admit(event);
      if (route === undefined) continue;
      ready.push(event);
      routes.push(route);
    }
    let next = 0;
    while (next < ready.length) {
      const takers = this.#consumers.filter((consumer) => consumer.free() > 0);
      if (takers.length === 0) break;
      const share = Math.ceil((ready.length - next) / takers.length);
      for (let i = 0; i < takers.length && next < ready.length; i++) {
        const taker = takers[(this.#nextConsumer + i) % takers.length]!;
        const end = Math.min(next + share, next + taker.free(), ready.length);
        this.#held += end - next;
        taker.deliver(ready.slice(next, end), routes.slice(next, end));
        next = end;
      }
      this.#nextConsumer += 1;
    }
    // A consumer that left while the driver was asked has taken its places with it.
    for (; next < ready.length; next++) this.#settle({ receipt: ready[next]!.receipt, kind: "returned" });
  }

  /** The route of an event that is to be delivered; undefined when it has been dealt with. */
  #admit(received: Received): string | undefined {
    const { event, attempt } = received;
    if (received.expiresAtMs !== undefined && received.expiresAtMs <= Date.now()) {
      this.metrics.outcome.expired.add();
      this.#giveUp(received, "expired", "");
      return undefined;
    }
    if (
      received.notCloudEvent !== undefined &&
      this.#context.deadLetterNonCloudEvents &&
      this.options.deadLetterTopic !== ""
    ) {
      this.#giveUp(received, "nocloudevent", received.notCloudEvent);
      return undefined;
    }
    if (attempt > this.options.retry.maxAttempts) {
      this.#giveUp(received, "attempts", "its stream ended before it was settled");
      return undefined;
    }
    const onlyFor = event.extensions[redriveGroupExtension];
    const route =
      onlyFor === undefined || onlyFor === this.options.group
        ? this.options.routing.routeOf(event)
        : undefined;
    if (route === undefined) {
      this.metrics.outcome.unrouted.add();
      this.#settle({ receipt: received.receipt, kind: "done" });
    }
    return route;
  }

  #giveUp(received: Received, reason: DeadLetterReason, detail: string): void {
    const { component, telemetry } = this.#context;
    const { topic, group, deadLetterTopic } = this.options;
    if (deadLetterTopic === "") {
      this.metrics.outcome.dropped.add();
      const { id, source } = received.event;
      telemetry.log.warn(
        { component, topic, group, id, source, attempt: received.attempt, reason, detail },
        "event dropped: there is no dead-letter topic",
      );
      this.#settle({ receipt: received.receipt, kind: "done" });
      return;
    }
    this.#unconfirmed += 1;
    void this.#letters.send(received, { reason, detail, group }).then((sent) => {
      if (sent) this.metrics.outcome.dead_lettered.add();
      this.#settle({ receipt: received.receipt, kind: sent ? "done" : "returned" });
      this.#unconfirmed -= 1;
      this.#closeIfIdle();
      this.wake();
    });
  }

  #settle(settlement: EngineSettlement): void {
    this.#settlements.push(settlement);
    this.#unconfirmed += 1;
    this.#flushing ??= this.#flush();
  }

  /** Sends what has gathered, one batch at a time: the next gathers while the broker is busy. */
  async #flush(): Promise<void> {
    await Promise.resolve();
    let failures = 0;
    while (this.#settlements.length > 0) {
      const batch = this.#settlements;
      this.#settlements = [];
      try {
        await this.#driver!.settle(batch, this.#settleCall());
        this.#unconfirmed -= batch.length;
        failures = 0;
      } catch (error) {
        failures += 1;
        const { component, telemetry } = this.#context;
        const { topic, group } = this.options;
        telemetry.log.warn(
          { component, topic, group, events: batch.length, failures, err: error },
          "settling failed; trying again",
        );
        if (this.#closing.signal.aborted && failures > failuresUntilReopen) {
          // The broker gives these to others when the driver leaves the group.
          this.#unconfirmed -= batch.length;
          continue;
        }
        this.#settlements = batch.concat(this.#settlements);
        await delay(backoffMs(failures, pauses));
      }
    }
    this.#flushing = undefined;
    this.wake();
    this.#closeIfIdle();
  }

  /** A call with a time limit. Many share one: to make it costs more than to settle in memory does. */
  #settleCall(): Call {
    const now = performance.now();
    if (now > this.#settleCallUntil) {
      this.#settleCallUntil = now + settleWithinMs / 2;
      this.#sharedSettleCall = { signal: AbortSignal.timeout(settleWithinMs) };
    }
    return this.#sharedSettleCall;
  }

  #pause(failures: number): Promise<void> {
    return pause(backoffMs(failures, pauses), this.#closing.signal, { ref: false });
  }

  #closeIfIdle(): void {
    const wanted = this.#consumers.length + this.#waiting + this.#held + this.#unconfirmed;
    if (wanted === 0) void this.close();
  }

  async #close(): Promise<void> {
    this.stopTaking();
    await this.#opened?.catch(() => {});
    await this.#pumping;
    const giveUp = AbortSignal.timeout(closeWithinMs);
    while (this.#unconfirmed > 0 && !giveUp.aborted) {
      await Promise.race([this.#flushing ?? delay(10), pause(closeWithinMs, giveUp)]);
    }
    try {
      await this.#driver?.close();
    } catch (error) {
      const { component, telemetry } = this.#context;
      telemetry.log.warn(
        { component, topic: this.options.topic, group: this.options.group, err: error },
        "leaving the group failed",
      );
    }
    this.metrics.close();
    this.#context.onClosed();
    this.#ended.resolve();
  }
}
