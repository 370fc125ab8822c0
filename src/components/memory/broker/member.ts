import type { Event } from "../../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Call } from "../../../blocks/call.ts";
import type { DriverSubscription, Lag, Received, Settlement } from "../../../blocks/pubsub/driver.ts";
import type { Group, Slot } from "./group.ts";
import { dataOnly } from "./topic.ts";

/** A slot as a member received it; it is its own receipt. */
export class Delivery implements Received {
  readonly receipt: Delivery;
  readonly event: Event;
  readonly topic: string;
  readonly key: string;
  readonly position: string;
  readonly publishedAtMs: number;
  readonly expiresAtMs: number | undefined;
  readonly attempt: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly #slot: Slot;
  readonly #member: Member;
  /** The place among what the member holds. */
  heldIndex = -1;

  constructor(slot: Slot, member: Member) {
    const { entry } = slot;
    this.receipt = this;
    this.event = member.raw && !entry.raw ? dataOnly(entry.event) : entry.event;
    this.topic = entry.topic.name;
    this.key = entry.key;
    this.position = entry.position;
    this.publishedAtMs = entry.publishedAtMs;
    this.expiresAtMs = entry.expiresAtMs;
    this.attempt = slot.attempts;
    this.headers = entry.headers;
    this.#slot = slot;
    this.#member = member;
    member.hold(this);
  }

  /** The slot, when a receipt is still this member's. */
  static slotOf(receipt: unknown, member: Member): Slot | undefined {
    if (!(receipt instanceof Delivery) || receipt.#member !== member) return undefined;
    return receipt.#slot.delivery === receipt ? receipt.#slot : undefined;
  }
}

const none: readonly Received[] = Object.freeze([]);
/** Everything here is done when it is asked for: one promise serves all. */
const settled = Promise.resolve();

/** A membership of a group. */
export class Member implements DriverSubscription {
  /** True: events without their attributes. */
  readonly raw: boolean;
  readonly #group: Group;
  readonly #onClose: (member: Member) => void;
  #held: Delivery[] = [];
  #closed = false;
  #resolve: ((received: readonly Received[]) => void) | undefined;
  #wanted = 0;
  #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.#stopWaiting();

  constructor(group: Group, raw: boolean, onClose: (member: Member) => void) {
    this.#group = group;
    this.raw = raw;
    this.#onClose = onClose;
  }

  /** How many events it waits for at most. */
  get wanted(): number {
    return this.#wanted;
  }

  receive(max: number, { signal }: Call): Promise<readonly Received[]> {
    if (this.#resolve) return Promise.reject(new Error("another receive of this subscription waits"));
    if (this.#closed || signal.aborted) return Promise.resolve(none);
    const taken = this.#group.take(this, max);
    if (taken.length > 0) return Promise.resolve(taken);
    this.#listen(signal);
    this.#wanted = max;
    return new Promise((resolve) => {
      this.#resolve = resolve;
      this.#group.wait(this);
    });
  }

  /** Ends the wait with these events. */
  give(received: readonly Received[]): void {
    const resolve = this.#resolve!;
    this.#resolve = undefined;
    resolve(received);
  }

  hold(delivery: Delivery): void {
    delivery.heldIndex = this.#held.push(delivery) - 1;
  }

  settle(settlements: readonly Settlement[]): Promise<void> {
    for (const settlement of settlements) {
      const slot = Delivery.slotOf(settlement.receipt, this);
      if (!slot) continue;
      this.#release(slot.delivery!);
      if (settlement.kind === "done") this.#group.done(slot);
      else if (settlement.kind === "again") this.#group.again(slot, settlement.delayMs);
      else this.#group.returned(slot);
    }
    this.#group.wake();
    return settled;
  }

  lag(): Promise<Lag> {
    return Promise.resolve({
      events: this.#group.unsettled,
      trimmedUnsettled: this.#group.trimmedUnsettled,
    });
  }

  close(): Promise<void> {
    if (this.#closed) return settled;
    this.#closed = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#stopWaiting();
    const held = this.#held;
    this.#held = [];
    for (const delivery of held) this.#group.returned(Delivery.slotOf(delivery, this)!);
    this.#group.leave();
    this.#onClose(this);
    this.#group.wake();
    return settled;
  }

  #release(delivery: Delivery): void {
    const last = this.#held.pop()!;
    if (last === delivery) return;
    this.#held[delivery.heldIndex] = last;
    last.heldIndex = delivery.heldIndex;
  }

  #stopWaiting(): void {
    if (!this.#resolve) return;
    this.#group.stopWaiting(this);
    this.give(none);
  }

  /** Callers mostly come again with the same signal; listening to it once is far cheaper than each time. */
  #listen(signal: AbortSignal): void {
    if (signal === this.#signal) return;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort);
  }
}
