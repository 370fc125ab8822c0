/**
 * A member of a group whose events are given out in the order of each key.
 *
 * JetStream knows no keys, so one member of the group at a time, which holds its lease, reads for all its streams and
 * lets one event of a key out at a time. Before a new one begins, it recalls everything that the one before it had, and
 * waits until it has come: what it could not see might be earlier than what it sees.
 */
import type { Call } from "../../blocks/call.ts";
import type { DriverSubscription, Lag, Received, Settlement } from "../../blocks/pubsub/driver.ts";
import { pause } from "../../pause.ts";
import { WakeUp } from "../../wake-up.ts";
import { again, Channel, done, type Reply } from "./channel.ts";
import { until } from "./connection.ts";
import { NatsError } from "./errors.ts";
import { fromMessage } from "./events.ts";
import type { Group } from "./group.ts";
import type { Held, Uncounted } from "./held.ts";
import { Lanes } from "./lanes.ts";
import { challengeEveryMs, type Lease, renewEveryMs } from "./lease.ts";

/** Messages that are held at most, given out or waiting for their keys: how far apart those out can be. */
const window = 4096;
/** Messages asked for at a time. */
const ahead = 256;
/** How long leaving waits for the server, in milliseconds: then others find out by themselves. */
const leaveWithinMs = 3000;
/** Failures in a row after which an operator should look: half a minute. */
const failuresToWarnOf = 60;
/** The pause after a failure. */
const retryMs = 500;
/** How often a new leader looks whether everything has come here, and how often it asks the server what there is. */
const soonMs = 10;
const laterMs = 250;
/** How often what has not come is recalled, at most. */
const recallEveryMs = 1000;

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
  readonly #wake = new WakeUp();
  /** Rings when something is missing. */
  readonly #gap = new WakeUp();
  /** The consumer's count of deliveries as of the last one that is known to have come here. */
  #lastDelivery = 0;

  constructor(group: Group, uncounted: Uncounted, lease: Lease, raw: boolean, onClose: () => void) {
    this.#group = group;
    this.#lease = lease;
    this.#raw = raw;
    this.#onClose = onClose;
    this.#lanes = new Lanes(
      () => this.#wake.ring(),
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
          if (this.#channel.outstanding < ahead / 2) this.#wake.ring();
        },
        onGivenUp: (sequence) => this.#lanes.gone(sequence),
        onReset: () => {
          this.#lanes.clear();
          this.#out.clear();
          this.#lastDelivery = 0;
          this.#gap.ring();
        },
        onChange: () => {
          if (this.#channel.broken) this.#regather();
          this.#wake.ring();
        },
      },
      true,
    );
    this.#leading = this.#lead();
  }

  async receive(max: number, { signal }: Call): Promise<readonly Received[]> {
    const closing = this.#closing.signal;
    while (!closing.aborted && !signal.aborted) {
      if (this.#lanes.isOpen && this.#lease.valid) {
        const room = Math.min(ahead, window - this.#channel.held.size);
        this.#channel.want(Math.max(room, this.#lanes.coming));
        const taken = this.#lanes.take(max);
        if (taken.length > 0) return taken.map((held) => this.#toReceived(held));
      }
      if (closing.aborted || signal.aborted) break;
      await this.#wake.wait(signal);
    }
    return [];
  }

  async settle(settlements: readonly Settlement[], call: Call): Promise<void> {
    const replies: Reply[] = [];
    const ours = settlements.filter(({ receipt }) => this.#isOut(receipt as Held));
    if (ours.length === 0) return;
    if (!this.#lease.valid) {
      this.#gap.ring();
      throw new NatsError("unavailable", "another sidecar may have begun to read for the group");
    }
    for (const settlement of ours) {
      const held = settlement.receipt as Held;
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
      for (const { held, payload } of replies) {
        if (payload === done) continue;
        if (this.#channel.held.get(held.sequence) === held) this.#lanes.notAgain(held);
        // The server has heard it: it is here again, as another.
        else this.#out.delete(held);
      }
      throw error;
    }
    // Not if it became somebody else's meanwhile: then it may be here again, as another.
    for (const { held, payload } of replies)
      if (this.#out.delete(held) && payload === done) this.#lanes.done(held);
    this.#wake.ring();
  }

  lag(call: Call): Promise<Lag> {
    return this.#channel.lag(call);
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#wake.ring();
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
    // It may be won, or renewed, after that.
    void this.#leading.then(() => this.#lease.release()).catch(() => undefined);
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
          if (!this.#lanes.isOpen || this.#channel.broken) await this.#gather();
          await this.#gap.wait(this.#closing.signal, renewEveryMs);
          if (this.#closing.signal.aborted) break;
          if (!(await this.#lease.renew())) await this.#stepDown();
          else if (this.#lanes.isOverdue(this.#group.ackWaitMs)) this.#regather();
          // Whoever receives may have waited for the lease to be good again.
          this.#wake.ring();
        }
        failures = 0;
      } catch (error) {
        failures += 1;
        const { stream, consumer } = this.#group;
        const fields = { stream, consumer, failures, err: error };
        const text = "leading an ordered group failed; trying again";
        if (failures % failuresToWarnOf === 0) log.warn(fields, text);
        else log.debug(fields, text);
        await this.#pause(retryMs);
      }
    }
  }

  /** Recalls every event that is out of the server, waits until it is here, and lets them go. */
  async #gather(): Promise<void> {
    const closing = this.#closing.signal;
    const channel = this.#channel;
    const group = this.#group;
    const { connection, log } = group.context;
    const startedAtMs = performance.now();
    // Longer than it takes until what nobody keeps alive comes by itself.
    const patienceMs = 3 * (group.ackWaitMs + laterMs);
    let renewedAtMs = startedAtMs;
    let recalledAtMs = Number.NEGATIVE_INFINITY;
    let recalls = 0;
    let isStuck = false;
    while (!closing.aborted && connection.connected) {
      if (performance.now() - renewedAtMs >= renewEveryMs) {
        if (!(await this.#lease.renew())) return this.#stepDown();
        renewedAtMs = performance.now();
        continue;
      }
      if (channel.broken) {
        await channel.repair();
        recalledAtMs = Number.NEGATIVE_INFINITY;
      }
      const certain = channel.certain();
      const info = await channel.look();
      if (closing.aborted || channel.broken || !info) continue;
      // What is settled while the server is asked may be out still for its answer, or not.
      const missing = info.num_ack_pending - certain.filter((held) => channel.isCertain(held)).length;
      const isLate = performance.now() - startedAtMs > patienceMs;
      if (missing <= 0 || isLate) {
        if (missing > 0) {
          const fields = { stream: group.stream, consumer: group.consumer, missing };
          log.warn(fields, "events are missing; their keys may be out of order");
        }
        this.#lastDelivery = Math.max(this.#lastDelivery, info.delivered.consumer_seq);
        break;
      }
      // What went to one that is frozen, and still has requests at the server, is recalled sooner.
      const pauseMs = isStuck ? Math.min(recallEveryMs, recalls * laterMs) : recallEveryMs;
      if (performance.now() - recalledAtMs >= pauseMs) {
        recalls += 1;
        await channel.recall(info, recalls);
        recalledAtMs = performance.now();
      }
      const here = channel.certain().length;
      // Not more: what is recalled comes first, and the rest of a request would be filled with new events.
      channel.want(info.num_ack_pending - here);
      await this.#arrival(info.num_ack_pending);
      isStuck = channel.certain().length === here;
    }
    channel.endRecall();
    if (closing.aborted || channel.broken || !connection.connected) return;
    this.#lanes.open(channel.held);
    this.#wake.ring();
  }

  /** Waits until so many events are certainly here, but not for long. */
  async #arrival(count: number): Promise<void> {
    const until = performance.now() + laterMs;
    do await this.#pause(soonMs);
    while (
      !this.#closing.signal.aborted &&
      !this.#channel.broken &&
      performance.now() < until &&
      this.#channel.certain().length < count
    );
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
    this.#gap.ring();
  }

  /** Somebody else leads: what is here will come to them. */
  async #stepDown(): Promise<void> {
    this.#lanes.clear();
    this.#out.clear();
    await this.#channel.park();
    this.#channel.forgetAll();
    this.#lanes.clear();
  }

  async #pause(ms: number): Promise<void> {
    await pause(ms, this.#closing.signal, { ref: false });
  }

  /** Whether somebody has it who has not said what became of it. */
  #isOut(held: Held): boolean {
    return this.#out.has(held) && !held.settling;
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
