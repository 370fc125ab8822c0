/**
 * A member of a group whose events are given out in the order of each key.
 *
 * JetStream knows no keys, so one member of the group at a time, which holds its lease, reads for all its streams and
 * lets one event of a key out at a time. Before a new one begins, it waits until everything that the one
 * before it had has come to it: what it could not see might be earlier than what it sees.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Call } from "../../blocks/call.ts";
import type { DriverSubscription, Lag, Received, Settlement } from "../../blocks/pubsub/driver.ts";
import { again, Channel, done, type Reply } from "./channel.ts";
import { until } from "./connection.ts";
import { fromMessage } from "./events.ts";
import type { Group } from "./group.ts";
import type { Held, Uncounted } from "./held.ts";
import { Lanes } from "./lanes.ts";
import { type Lease, renewEveryMs } from "./lease.ts";

/** Messages that are held at most, given out or waiting for their keys: how far apart those out can be. */
const window = 4096;
/** Messages asked for at a time. */
const ahead = 256;
/** How often a member that does not lead looks whether it can. */
const challengeEveryMs = 500;
/** How long leaving waits for the server, in milliseconds: then others find out by themselves. */
const leaveWithinMs = 3000;
/** Failures in a row after which an operator should look: half a minute. */
const failuresToWarnOf = 60;
/** How often a new leader looks whether everything has come, at first and later. */
const soonMs = 25;
const laterMs = 250;

/** See the head of this file. */
export class OrderedMember implements DriverSubscription {
  readonly #group: Group;
  readonly #channel: Channel;
  readonly #lease: Lease;
  readonly #lanes: Lanes;
  readonly #raw: boolean;
  readonly #onClose: () => void;
  readonly #closing = new AbortController();
  readonly #leading: Promise<void>;
  readonly #out = new Set<Held>();
  #wake: (() => void) | undefined;
  #nudge: (() => void) | undefined;
  /** The consumer's count of deliveries as of the last one that is known to have come here. */
  #lastDelivery = 0;

  constructor(group: Group, uncounted: Uncounted, lease: Lease, raw: boolean, onClose: () => void) {
    this.#group = group;
    this.#lease = lease;
    this.#raw = raw;
    this.#onClose = onClose;
    this.#lanes = new Lanes(
      () => this.#wake?.(),
      (held) => uncounted.addAllBefore(group.consumer, held),
    );
    this.#channel = new Channel(
      group,
      uncounted,
      {
        onDelivery: (count) => this.#follows(count),
        onArrival: (held) => {
          this.#lanes.add(held);
          // What came may all wait for its keys: there may be others behind it.
          if (this.#channel.outstanding < ahead / 2) this.#wake?.();
        },
        onReset: () => {
          this.#lanes.clear();
          this.#out.clear();
          this.#lastDelivery = 0;
          this.#nudge?.();
        },
        onChange: () => {
          if (this.#channel.broken) this.#regather();
          this.#wake?.();
        },
      },
      true,
    );
    this.#leading = this.#lead();
  }

  async receive(max: number, { signal }: Call): Promise<readonly Received[]> {
    const closing = this.#closing.signal;
    const onAbort = (): void => this.#wake?.();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      while (!closing.aborted && !signal.aborted) {
        if (this.#lanes.isOpen && this.#lease.valid) {
          const room = Math.min(ahead, window - this.#channel.held.size);
          this.#channel.want(Math.max(room, this.#lanes.coming));
          const taken = this.#lanes.take(max);
          if (taken.length > 0) return taken.map((held) => this.#toReceived(held));
        }
        if (closing.aborted || signal.aborted) break;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      return [];
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#wake = undefined;
    }
  }

  async settle(settlements: readonly Settlement[], call: Call): Promise<void> {
    const replies: Reply[] = [];
    for (const settlement of settlements) {
      const held = settlement.receipt as Held;
      if (!this.#out.has(held) || held.settling) continue;
      if (settlement.kind === "returned") {
        this.#out.delete(held);
        this.#lanes.returned(held);
      } else if (settlement.kind === "again") {
        // The server gives it back at once, which counts the attempt for whoever leads after this one.
        this.#lanes.again(held, settlement.delayMs);
        replies.push({ held, payload: again(0) });
      } else replies.push({ held, payload: done });
    }
    try {
      await this.#channel.settle(replies, call);
    } catch (error) {
      for (const { held, payload } of replies)
        if (payload !== done && this.#channel.held.get(held.sequence) === held) this.#lanes.notAgain(held);
      throw error;
    }
    for (const { held, payload } of replies) {
      this.#out.delete(held);
      if (payload === done) this.#lanes.done(held);
    }
    this.#wake?.();
  }

  lag(call: Call): Promise<Lag> {
    return this.#channel.lag(call);
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#wake?.();
    this.#onClose();
    this.#lanes.clear();
    this.#out.clear();
    const { connection } = this.#group.context;
    const soon = AbortSignal.timeout(leaveWithinMs);
    // It may wait for a server that is away.
    if (connection.connected) await until(this.#leading, soon).catch(() => undefined);
    await this.#channel.close();
    // Whoever leads next sees everything that was given back before.
    if (connection.connected) await until(this.#lease.release(), soon).catch(() => undefined);
  }

  /** Leads whenever nobody else does, until it is closed. */
  async #lead(): Promise<void> {
    const { log } = this.#group.context;
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      try {
        if (!this.#group.context.connection.connected) await this.#pause(challengeEveryMs);
        else if (!this.#lease.owned) {
          if (await this.#lease.acquire()) this.#lanes.shut();
          else await this.#pause(challengeEveryMs);
        } else {
          if (!this.#lanes.isOpen) await this.#gather();
          await this.#pauseUntilGap(renewEveryMs);
          if (!this.#closing.signal.aborted && !(await this.#lease.renew())) await this.#stepDown();
          // Whoever receives may have waited for the lease to be good again.
          this.#wake?.();
        }
        failures = 0;
      } catch (error) {
        failures += 1;
        const { stream, consumer } = this.#group;
        const fields = { stream, consumer, failures, err: error };
        const text = "leading an ordered group failed; trying again";
        if (failures % failuresToWarnOf === 0) log.warn(fields, text);
        else log.debug(fields, text);
        await this.#pause(challengeEveryMs);
      }
    }
  }

  /** Waits until every event that is out of the server is here, and lets them go. */
  async #gather(): Promise<void> {
    const startedAtMs = performance.now();
    // What nobody keeps alive comes again after this.
    const dueMs = this.#group.ackWaitMs + laterMs;
    let renewedAtMs = startedAtMs;
    let ascertained = false;
    for (;;) {
      if (this.#closing.signal.aborted || !this.#group.context.connection.connected) return;
      const elapsedMs = performance.now() - startedAtMs;
      if (this.#channel.broken) {
        await this.#channel.repair();
        ascertained = false;
      }
      if (!ascertained) this.#channel.ascertain();
      ascertained = true;
      const heldBefore = this.#channel.certain;
      const info = await this.#group.info();
      if (info.num_ack_pending <= heldBefore) {
        // What is held is out, and nothing else is.
        this.#lastDelivery = Math.max(this.#lastDelivery, info.delivered.consumer_seq);
        break;
      }
      if (elapsedMs > 3 * dueMs) {
        const { stream, consumer } = this.#group;
        const missing = info.num_ack_pending - heldBefore;
        this.#group.context.log.warn(
          { stream, consumer, missing },
          "events are missing; their keys may be out of order",
        );
        break;
      }
      // Requests between would be filled with new events, and not with those that are missing.
      if (elapsedMs < laterMs || elapsedMs > dueMs)
        this.#channel.want(info.num_ack_pending - this.#channel.certain);
      await this.#pause(elapsedMs < laterMs ? soonMs : laterMs);
      if (performance.now() - renewedAtMs < renewEveryMs) continue;
      if (!(await this.#lease.renew())) return this.#stepDown();
      renewedAtMs = performance.now();
    }
    if (this.#closing.signal.aborted) return;
    this.#lanes.open();
    this.#wake?.();
  }

  /** A gap in the count of deliveries: an event went to somebody who led before, and comes here later. */
  #follows(count: number): void {
    if (this.#lanes.isOpen && count > this.#lastDelivery + 1) this.#regather();
    if (count > this.#lastDelivery) this.#lastDelivery = count;
  }

  /** Gives out nothing more until everything that is out of the server is here. */
  #regather(): void {
    this.#lanes.shut();
    this.#lastDelivery = 0;
    this.#nudge?.();
  }

  /** Somebody else leads: what is here will come to them. */
  async #stepDown(): Promise<void> {
    this.#lanes.clear();
    this.#out.clear();
    await this.#channel.park();
    this.#channel.forgetAll();
    this.#lanes.clear();
  }

  /** Ends early when something is missing. */
  async #pauseUntilGap(ms: number): Promise<void> {
    const over = new AbortController();
    const gap = new Promise<void>((resolve) => {
      this.#nudge = resolve;
    });
    const signal = AbortSignal.any([over.signal, this.#closing.signal]);
    await Promise.race([gap, delay(ms, undefined, { signal, ref: false }).catch(() => undefined)]);
    over.abort();
    this.#nudge = undefined;
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#closing.signal, ref: false }).catch(() => undefined);
  }

  #toReceived(held: Held): Received {
    this.#out.add(held);
    return {
      ...fromMessage(held.message, held.position, this.#raw),
      receipt: held,
      attempt: this.#channel.uncounted.attempt(this.#group.consumer, held),
    };
  }
}
