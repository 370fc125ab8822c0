/** A member of a group that gives out events in the order in which they come. */
import type { Call } from "../../blocks/call.ts";
import type { DriverSubscription, Lag, Received, Settlement } from "../../blocks/pubsub/driver.ts";
import { WakeUp } from "../../wake-up.ts";
import { again, Channel, done, type Reply } from "./channel.ts";
import { fromMessage } from "./events.ts";
import type { Group } from "./group.ts";
import type { Held, Uncounted } from "./held.ts";

/** How long requests are left open when nobody receives; after it the server gives events to others. */
const parkAfterMs = 100;

/** See the head of this file. */
export class Member implements DriverSubscription {
  readonly #channel: Channel;
  readonly #raw: boolean;
  readonly #onClose: () => void;
  readonly #park: NodeJS.Timeout;
  /** Came, and nobody has them yet. */
  #buffer: Held[] = [];
  readonly #wake = new WakeUp();
  #receiving = false;
  #closed = false;

  constructor(group: Group, uncounted: Uncounted, raw: boolean, onClose: () => void) {
    this.#raw = raw;
    this.#onClose = onClose;
    this.#channel = new Channel(group, uncounted, {
      onArrival: (held) => {
        this.#buffer.push(held);
        this.#wake.ring();
      },
      onReset: () => {
        this.#buffer = [];
      },
      onChange: () => this.#wake.ring(),
    });
    this.#park = setTimeout(() => void this.#parkIdle(), parkAfterMs).unref();
  }

  async receive(max: number, { signal }: Call): Promise<readonly Received[]> {
    if (this.#closed || signal.aborted) return [];
    this.#receiving = true;
    try {
      while (!this.#closed && !signal.aborted) {
        if (this.#buffer.length > 0) return this.#buffer.splice(0, max).map((held) => this.#toReceived(held));
        if (this.#channel.broken) await this.#channel.repair();
        this.#channel.want(max);
        if (this.#closed || signal.aborted || this.#buffer.length > 0) continue;
        await this.#wake.wait(signal);
      }
      return [];
    } finally {
      this.#receiving = false;
      if (!this.#closed) this.#park.refresh();
    }
  }

  async settle(settlements: readonly Settlement[], call: Call): Promise<void> {
    const { held, uncounted, group } = this.#channel;
    const replies: Reply[] = [];
    for (const settlement of settlements) {
      const receipt = settlement.receipt as Held;
      if (held.get(receipt.sequence) !== receipt || receipt.settling) continue;
      if (settlement.kind === "done") replies.push({ held: receipt, payload: done });
      else {
        if (settlement.kind === "returned") uncounted.add(group.consumer, receipt.sequence);
        const delayMs = settlement.kind === "again" ? settlement.delayMs : 0;
        replies.push({ held: receipt, payload: again(delayMs) });
      }
    }
    await this.#channel.settle(replies, call);
  }

  lag(call: Call): Promise<Lag> {
    return this.#channel.lag(call);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#park);
    this.#wake.ring();
    this.#onClose();
    await this.#channel.close();
  }

  /** What the server has sent to somebody who does not receive is for others. */
  async #parkIdle(): Promise<void> {
    if (this.#closed || this.#receiving) return;
    if (this.#channel.outstanding === 0 && this.#buffer.length === 0) return;
    await this.#channel.park();
    if (this.#closed || this.#receiving || this.#buffer.length === 0) return;
    await this.#channel.giveBack(this.#buffer.splice(0));
  }

  #toReceived(held: Held): Received {
    const { group, uncounted } = this.#channel;
    return {
      ...fromMessage(held.message, held.position, this.#raw),
      receipt: held,
      attempt: uncounted.attempt(group.consumer, held),
    };
  }
}
