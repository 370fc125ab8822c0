/**
 * What a member of a group and the server say to each other: pulls, signs of life for what is held, settlements.
 * A channel mends itself when the connection or the consumer was away; what is handed out when is not its business.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { ConsumerInfo } from "@nats-io/jetstream";
import type { Msg } from "@nats-io/transport-node";
import type { Call } from "../../blocks/call.ts";
import type { Lag } from "../../blocks/pubsub/driver.ts";
import { until } from "./connection.ts";
import { classify, isAbsent, NatsError } from "./errors.ts";
import { ackSubjectOf } from "./events.ts";
import type { Group } from "./group.ts";
import { type Held, heldOf, type Uncounted } from "./held.ts";
import { Pull } from "./pull.ts";

/** How long the server may take to confirm settlements. */
const confirmWithinMs = 5000;
/** How often it is noted what a group has settled without a gap. */
const noteFloorEveryMs = 10_000;
/** How often a repair is tried before it is given up for the time being, and the pause between. */
const maxRepairs = 10;
const repairPauseMs = 200;

/** Messages that are remembered to be done. */
const maxDone = 16_384;

/** Sequences that are recalled at most, and how many until the server has to confirm. */
const maxRecalled = 100_000;
const recalledAtOnce = 4096;

/** How often the lag is asked for until two answers agree, and the pause between. */
const maxLagAsks = 5;
const lagPauseMs = 2;

const keepAlive = "+WPI";
const giveUp = "+TERM";
const giveBackNow = "-NAK";

/** Who uses a channel. */
export interface ChannelUser {
  /** The consumer's count of deliveries, with each of them. Before `onArrival`. */
  onDelivery?(count: number): void;
  /** A message that the channel did not hold yet. */
  onArrival(held: Held): void;
  /** A message that was to come again does not: it was delivered too often. */
  onGivenUp?(sequence: number): void;
  /** What was held is no more. */
  onReset?(): void;
  /** A request has ended, or the channel is broken or well again. */
  onChange(): void;
}

/** What becomes of a message that is held. */
export interface Reply {
  readonly held: Held;
  readonly payload: string;
}

/** A message is done. */
export const done = "+ACK";

/** A message comes again after a delay. */
export function again(delayMs: number): string {
  return delayMs > 0 ? `-NAK {"delay":${Math.ceil(delayMs * 1e6)}}` : giveBackNow;
}

/** See the head of this file. */
export class Channel {
  readonly group: Group;
  /** By their sequence in the stream. */
  readonly held = new Map<number, Held>();
  readonly uncounted: Uncounted;
  /** The latest that were settled for good. */
  readonly #done = new Set<number>();
  readonly #user: ChannelUser;
  readonly #onlyCertain: boolean;
  readonly #keepAlive: NodeJS.Timeout;
  readonly #endFollowing: () => void;
  #pull: Pull | undefined;
  #broken: string | undefined;
  #lastSeen = 0;
  /** What was given back and has not come again, where that has to be known. */
  readonly #away = new Set<number>();
  #recalls = 0;
  #closed = false;
  /** Another for every connection. */
  #epoch = 0;
  #floorNotedAtMs = performance.now();

  /** `onlyCertain`: what may not be out any more for the server is not kept alive, so that it comes again if it is. */
  constructor(group: Group, uncounted: Uncounted, user: ChannelUser, onlyCertain = false) {
    this.#onlyCertain = onlyCertain;
    this.group = group;
    this.uncounted = uncounted;
    this.#user = user;
    const { connection } = group.context;
    this.#keepAlive = setInterval(() => this.#signOfLife(), group.ackWaitMs / 3).unref();
    this.#endFollowing = connection.onChange(() => this.#break("the connection was lost"));
  }

  /** Whether `repair` is to be called before more messages can come. */
  get broken(): boolean {
    return this.#broken !== undefined;
  }

  /** Messages that the server may still send. */
  get outstanding(): number {
    return this.#pull?.outstanding ?? 0;
  }

  /** Has the server send up to `count` messages. Half of them is good enough: requests are few then. */
  want(count: number): void {
    const { connection } = this.group.context;
    if (this.#closed || this.#broken !== undefined || !connection.connected || connection.closed) return;
    this.#pull ??= this.#open();
    const missing = count - this.#pull.outstanding;
    if (missing >= Math.max(1, count / 2)) this.#pull.request(missing);
  }

  /** Takes requests back; what the server has sent for them has arrived when it resolves. */
  async park(): Promise<void> {
    const pull = this.#pull;
    this.#pull = undefined;
    await pull?.stop();
  }

  /** Has the consumer made again where it is gone. Does nothing without a connection. Throws what the library throws. */
  async repair(): Promise<void> {
    if (this.#closed || !this.group.context.connection.connected) return;
    const why = this.#broken;
    const same = await this.#ensure();
    // The connection was lost meanwhile: when it is back somebody calls again.
    if (same === undefined) return;
    if (!same) {
      // What is held is of a stream that is no more; its sequences will be those of other messages.
      this.#done.clear();
      this.#away.clear();
      this.held.clear();
      this.#lastSeen = 0;
      this.#user.onReset?.();
    }
    if (this.#broken !== why) return;
    this.#broken = undefined;
    this.#epoch += 1;
  }

  /**
   * Tells the server what became of messages. When it resolves the server has noted all of it. Throws when that is
   * not certain; then the messages are held as before, and it may be tried again.
   */
  async settle(replies: readonly Reply[], { signal }: Call): Promise<void> {
    const last = replies.at(-1);
    if (!last) return;
    const { connection } = this.group.context;
    if (!connection.connected)
      throw new NatsError("unavailable", "the connection to the NATS server is lost");
    for (const { held, payload } of replies) held.settling = payload === done ? "done" : "back";
    try {
      for (const { held, payload } of replies)
        if (held !== last.held) connection.nats.publish(held.reply, payload);
      // The server takes them one after the other, so that its answer to the last one is one for all.
      await until(
        connection.request(last.held.reply, last.payload, { timeout: confirmWithinMs }, false),
        signal,
      );
    } catch (error) {
      for (const { held } of replies) {
        held.settling = undefined;
        held.epoch = -1;
      }
      if (isAbsent(error)) {
        // Nobody asks for more while nothing can be settled: nobody else would notice.
        this.#break("nobody answers for the consumer");
        throw error;
      }
      const canAsk = connection.connected && !signal.aborted;
      const known = canAsk ? await this.#withoutForgotten(replies) : replies;
      if (known.length === replies.length) throw error;
      await this.settle(known, { signal });
    }
    this.#letGo(replies);
  }

  /** What is settled is not held any more. */
  #letGo(replies: readonly Reply[]): void {
    for (const { held, payload } of replies) {
      if (this.held.get(held.sequence) === held) this.held.delete(held.sequence);
      if (payload !== done) {
        if (this.group.ephemeral && !this.held.has(held.sequence)) this.#away.add(held.sequence);
        continue;
      }
      this.uncounted.forget(this.group.consumer, held.sequence);
      this.#done.add(held.sequence);
      if (this.#done.size > maxDone) this.#done.delete(this.#done.values().next().value!);
    }
  }

  /**
   * A server that was killed may not know that it has delivered a message. It says nothing to its settlement, and sends it
   * again when it is asked for more, which nobody does who waits for the settlement. So what was done is remembered, and
   * settled when it comes again. Resolves to the others.
   */
  async #withoutForgotten(replies: readonly Reply[]): Promise<readonly Reply[]> {
    const info = await this.group.info().catch(() => undefined);
    return replies.filter(({ held }) => info === undefined || held.sequence <= info.delivered.stream_seq);
  }

  /** Messages that are held here, and that are out for the server too. */
  certain(): Held[] {
    return [...this.held.values()].filter((held) => this.isCertain(held));
  }

  /** Whether a message is still held here, and still out for the server. */
  isCertain(held: Held): boolean {
    return held.epoch === this.#epoch && !held.settling && this.held.get(held.sequence) === held;
  }

  /** The consumer as it is now; undefined when it is gone and `repair` is to be called. Throws what the library throws. */
  async look(): Promise<ConsumerInfo | undefined> {
    try {
      return await this.group.info();
    } catch (error) {
      if (!isAbsent(error)) throw error;
      this.#break("the consumer is gone");
      return undefined;
    }
  }

  /**
   * Has the server send again, before anything else, what is out and not certainly here: whoever has it has lost its place in
   * the group. The server takes that from anybody who names the message. Resolves when it has heard it, or will not. What
   * is not sent again comes when nobody has kept it alive for `ackWait`. `times`: the how manieth time in a row it is.
   */
  async recall({ ack_floor: floor, delivered }: ConsumerInfo, times: number): Promise<void> {
    const { stream, consumer } = this.group;
    this.#recalls = times;
    const subjects: string[] = [];
    const last = Math.min(delivered.stream_seq, floor.stream_seq + maxRecalled);
    for (let sequence = floor.stream_seq + 1; sequence <= last; sequence++) {
      const held = this.held.get(sequence);
      if (held && (held.settling || this.isCertain(held))) continue;
      subjects.push(ackSubjectOf(stream, consumer, sequence, delivered.consumer_seq));
    }
    try {
      for (let at = 0; at < subjects.length; at += recalledAtOnce)
        await this.#giveBackAt(subjects.slice(at, at + recalledAtOnce));
    } catch (error) {
      this.group.context.log.debug({ stream, consumer, err: error }, "recalling events failed");
    }
  }

  /** What comes from now on was not recalled. */
  endRecall(): void {
    this.#recalls = 0;
  }

  async #giveBackAt(subjects: readonly string[]): Promise<void> {
    const { connection } = this.group.context;
    for (const subject of subjects.slice(0, -1)) connection.nats.publish(subject, giveBackNow);
    await connection.request(subjects.at(-1)!, giveBackNow, { timeout: confirmWithinMs }, false);
  }

  /** Gives messages back untouched, in order. Not knowing whether the server heard it is good enough. */
  async giveBack(messages: readonly Held[]): Promise<void> {
    const sorted = messages.toSorted((a, b) => a.sequence - b.sequence);
    for (const { sequence } of sorted) this.uncounted.add(this.group.consumer, sequence);
    const replies = sorted.map((held) => ({ held, payload: giveBackNow }));
    await this.settle(replies, { signal: AbortSignal.timeout(confirmWithinMs) }).catch(() => undefined);
    // Some have come again already.
    for (const held of sorted) if (this.held.get(held.sequence) === held) this.held.delete(held.sequence);
  }

  /** Forgets what is held without a word: it is somebody else's now. */
  forgetAll(): void {
    this.held.clear();
  }

  async lag({ signal }: Call): Promise<Lag> {
    let events = await this.#behind(signal);
    for (let asked = 1; asked < maxLagAsks; asked++) {
      // The server tells its consumers of what it has stored a moment after it tells the publisher.
      await delay(lagPauseMs, undefined, { ref: false });
      const now = await this.#behind(signal);
      if (now === events) break;
      events = now;
    }
    return { events, trimmedUnsettled: 0 };
  }

  /** Ends it, giving back what is held. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#endFollowing();
    clearInterval(this.#keepAlive);
    await this.park();
    const { connection } = this.group.context;
    if (!connection.connected || connection.closed) return;
    if (this.group.ephemeral) await this.group.remove().catch(() => undefined);
    else await this.giveBack([...this.held.values()]);
  }

  /** A server that is about to be well again says no for a while. */
  async #ensure(): Promise<boolean | undefined> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.group.ensure(this.group.ephemeral ? this.#firstUnsettled() : undefined);
      } catch (error) {
        if (!this.group.context.connection.connected) return undefined;
        if (classify(error) !== "unavailable" || tries === maxRepairs) throw error;
        await delay(repairPauseMs, undefined, { ref: false });
      }
    }
  }

  async #behind(signal: AbortSignal): Promise<number> {
    const info = await until(this.group.info(), signal);
    return info.num_pending + info.num_ack_pending;
  }

  #open(): Pull {
    const { context, stream, consumer } = this.group;
    const pull: Pull = new Pull(context.connection, stream, consumer, {
      onMessage: (message) => this.#arrived(message),
      onExpired: () => this.#user.onChange(),
      onLost: (why) => {
        if (this.#pull !== pull) return;
        this.#pull = undefined;
        this.#break(why);
      },
    });
    return pull;
  }

  #arrived(message: Msg): void {
    const held = heldOf(message);
    if (!held) return;
    this.#user.onDelivery?.(held.delivery);
    const { consumer } = this.group;
    const { sequence } = held;
    const known = this.held.get(sequence);
    if (this.#done.has(sequence)) {
      // It crossed with its settlement.
      this.group.context.connection.nats.publish(held.reply, done);
      return;
    }
    if (known && known.settling !== "back") {
      // The server missed the signs of life: it is still the same attempt.
      this.uncounted.add(consumer, sequence);
      known.reply = held.reply;
      known.deliveries = held.deliveries;
      known.epoch = this.#epoch;
      this.#user.onChange();
      return;
    }
    if (sequence > this.#lastSeen) this.#lastSeen = sequence;
    this.#away.delete(sequence);
    // It has gone to somebody who cannot give it out, once or more: those were no attempts.
    for (let times = 1; times < Math.min(this.#recalls, held.deliveries); times++)
      this.uncounted.add(consumer, sequence);
    const { connection, fields, log } = this.group.context;
    const attempt = this.uncounted.attempt(consumer, held);
    if (fields.maxDeliver > 0 && attempt > fields.maxDeliver) {
      connection.nats.publish(held.reply, giveUp);
      const { stream } = this.group;
      log.warn({ stream, consumer, sequence, attempt }, "event given up: it was delivered maxDeliver times");
      this.#user.onGivenUp?.(sequence);
      return;
    }
    held.epoch = this.#epoch;
    this.held.set(sequence, held);
    this.#user.onArrival(held);
  }

  #signOfLife(): void {
    const { connection } = this.group.context;
    if (!connection.connected || connection.closed) return;
    for (const held of this.held.values()) {
      if (held.settling || (this.#onlyCertain && !this.isCertain(held))) continue;
      connection.nats.publish(held.reply, keepAlive);
    }
    if (performance.now() - this.#floorNotedAtMs < noteFloorEveryMs) return;
    this.#floorNotedAtMs = performance.now();
    // Only noted: if it fails, something else will tell.
    this.group.info().catch(() => undefined);
  }

  #firstUnsettled(): number | undefined {
    let first = this.#lastSeen > 0 ? this.#lastSeen + 1 : undefined;
    for (const sequences of [this.held.keys(), this.#away])
      for (const sequence of sequences) if (first === undefined || sequence < first) first = sequence;
    return first;
  }

  /** Nothing more comes until `repair`. */
  #break(why: string): void {
    void this.#drop();
    this.#broken = why;
    this.#user.onChange();
  }

  async #drop(): Promise<void> {
    const pull = this.#pull;
    this.#pull = undefined;
    await pull?.stop();
  }
}
