import { OrderConflict } from "../../../blocks/pubsub/driver.ts";
import { Heap } from "./heap.ts";
import { Delivery, type Member } from "./member.ts";
import { Ring } from "./ring.ts";
import type { Due, Timers } from "./timers.ts";
import { type Entry, type Topic, withOwnData } from "./topic.ts";

/** Below this many, dead slots in the queue are not worth a clean-up. */
const minDead = 64;

/** Where the event of a slot is. */
type SlotState =
  /** In the queue, or behind others of its key. */
  | "ready"
  /** With a member. */
  | "out"
  /** Given back; goes before all that is ready. */
  | "back"
  /** For the time of its next attempt. */
  | "waiting"
  /** Settled, or trimmed. */
  | "gone";

/** One event as one group has it to settle. */
export class Slot implements Due {
  readonly entry: Entry;
  readonly feed: Feed;
  state: SlotState = "ready";
  /** How often it was received, and that counted. */
  attempts = 0;
  /** While it is out. An older one has lost its meaning. */
  delivery: Delivery | undefined = undefined;
  /** In an ordered group: the next event of the key. */
  next: Slot | undefined = undefined;
  /** The slot of another group for the same event. */
  sibling: Slot | undefined;
  heapIndex = -1;
  dueAt = 0;
  dueOrder = 0;

  constructor(entry: Entry, feed: Feed) {
    this.entry = entry;
    this.feed = feed;
    this.sibling = entry.slots;
  }

  get unsettled(): boolean {
    return this.state !== "gone";
  }

  fire(): void {
    this.feed.group.due(this);
  }
}

/** The events of one key that an ordered group has to settle. The first is the only one that may be received. */
interface Lane {
  head: Slot;
  tail: Slot;
}

/** What a group reads from one topic. */
export class Feed {
  readonly group: Group;
  readonly topic: Topic;
  readonly #lanes = new Map<string, Lane>();

  constructor(group: Group, topic: Topic) {
    this.group = group;
    this.topic = topic;
  }

  get idle(): boolean {
    return this.#lanes.size === 0;
  }

  add(entry: Entry): void {
    const slot = new Slot(entry, this);
    entry.slots = slot;
    entry.pending += 1;
    this.group.added(slot);
  }

  /** In an ordered group: true when nothing of its key is before it. */
  enqueue(slot: Slot): boolean {
    const lane = this.#lanes.get(slot.entry.key);
    if (!lane) {
      this.#lanes.set(slot.entry.key, { head: slot, tail: slot });
      return true;
    }
    lane.tail.next = slot;
    lane.tail = slot;
    return false;
  }

  /** In an ordered group: takes out a slot that is gone, and returns the one that may be received now. */
  dequeue(slot: Slot): Slot | undefined {
    const lane = this.#lanes.get(slot.entry.key)!;
    const next = slot.next;
    slot.next = undefined;
    if (lane.head === slot) {
      if (next) lane.head = next;
      else this.#lanes.delete(slot.entry.key);
      return next;
    }
    // What is trimmed is the oldest in the topic but for what is out, and that is the head.
    lane.head.next = next;
    if (!next) lane.tail = lane.head;
    return undefined;
  }

  /** True: it is not behind others of its key. */
  isHead(slot: Slot): boolean {
    return this.#lanes.get(slot.entry.key)?.head === slot;
  }

  forgetLanes(): void {
    this.#lanes.clear();
  }
}

/** A consumer group: what it has still to settle, and who of it waits. */
export class Group {
  /** Undefined: a broadcast, which has one member and goes with it. */
  readonly name: string | undefined;
  /** A topic, or a pattern. */
  readonly topic: string;
  readonly isPattern: boolean;
  readonly feeds: Feed[] = [];
  readonly #timers: Timers;
  readonly #ready = new Ring<Slot>();
  /** Slots in `#ready` that are gone. */
  #dead = 0;
  readonly #back = new Heap<Slot>((one, other) => one.entry.sequence < other.entry.sequence);
  readonly #waiting: Member[] = [];
  #members = 0;
  #ordered: boolean;
  #unsettled = 0;
  #trimmedUnsettled = 0;

  constructor(
    definition: { readonly name: string | undefined; readonly topic: string; readonly isPattern: boolean },
    ordered: boolean,
    timers: Timers,
  ) {
    this.name = definition.name;
    this.topic = definition.topic;
    this.isPattern = definition.isPattern;
    this.#ordered = ordered;
    this.#timers = timers;
  }

  /** True: it stays when nobody is there. */
  get durable(): boolean {
    return this.name !== undefined;
  }

  get unsettled(): number {
    return this.#unsettled;
  }

  get trimmedUnsettled(): number {
    return this.#trimmedUnsettled;
  }

  /** Throws OrderConflict when the members that are there want the other order. */
  join(ordered: boolean): void {
    if (ordered !== this.#ordered) {
      if (this.#members > 0) throw new OrderConflict("the members of a group must agree in `ordered`");
      this.#reorder(ordered);
    }
    this.#members += 1;
  }

  leave(): void {
    this.#members -= 1;
  }

  /** Up to `max` events that are the member's from now on. */
  take(member: Member, max: number): Delivery[] {
    const taken: Delivery[] = [];
    while (taken.length < max) {
      const slot = this.#back.size > 0 ? this.#back.pop() : this.#nextReady();
      if (!slot) break;
      slot.state = "out";
      slot.attempts += 1;
      slot.delivery = new Delivery(slot, member);
      taken.push(slot.delivery);
    }
    return taken;
  }

  /** The member is given events as soon as there are any. */
  wait(member: Member): void {
    this.#waiting.push(member);
  }

  /** The member does not wait any more. */
  stopWaiting(member: Member): void {
    const index = this.#waiting.indexOf(member);
    if (index >= 0) this.#waiting.splice(index, 1);
  }

  /** Gives what can be received to those who wait. */
  wake(): void {
    while (this.#waiting.length > 0 && (this.#ready.length > 0 || this.#back.size > 0)) {
      const member = this.#waiting[0]!;
      const taken = this.take(member, member.wanted);
      if (taken.length === 0) return;
      this.#waiting.shift();
      member.give(taken);
    }
  }

  added(slot: Slot): void {
    this.#unsettled += 1;
    if (!this.#ordered || slot.entry.key === "" || slot.feed.enqueue(slot)) this.#ready.push(slot);
  }

  /** The event of a slot that is out was handled. */
  done(slot: Slot): void {
    this.#finish(slot);
    slot.entry.topic.settled(slot.entry);
  }

  /** The event of a slot that is out comes again. What was trimmed meanwhile cannot, or memory had no bound. */
  again(slot: Slot, delayMs: number): void {
    slot.delivery = undefined;
    if (slot.entry.index < 0) this.#lose(slot);
    else if (delayMs > 0) {
      slot.state = "waiting";
      withOwnData(slot.entry.event);
      this.#timers.schedule(slot, delayMs);
    } else this.#giveBack(slot);
  }

  /** The event of a slot that is out comes again, as if it had not been received. */
  returned(slot: Slot): void {
    slot.attempts -= 1;
    this.again(slot, 0);
  }

  /** The time of a slot that waits has come. */
  due(slot: Slot): void {
    this.#giveBack(slot);
    this.wake();
  }

  /** The event of a slot has left its topic. */
  trimmed(slot: Slot): void {
    if (slot.state === "out" || slot.state === "gone") return;
    if (slot.state === "back") this.#back.remove(slot);
    else if (slot.state === "waiting") this.#timers.cancel(slot);
    else if (!this.#ordered || slot.entry.key === "" || slot.feed.isHead(slot)) this.#dead += 1;
    this.#lose(slot);
    if (this.#dead > minDead && this.#dead * 2 > this.#ready.length) this.#clean();
  }

  /** Nobody will ever ask for this group again. */
  forget(): void {
    for (const feed of this.feeds) {
      for (const slot of this.#slotsOf(feed)) if (slot.state === "waiting") this.#timers.cancel(slot);
      feed.topic.detach(feed);
    }
  }

  #nextReady(): Slot | undefined {
    for (let slot = this.#ready.shift(); slot; slot = this.#ready.shift()) {
      if (slot.state === "ready") return slot;
      this.#dead -= 1;
    }
    return undefined;
  }

  #giveBack(slot: Slot): void {
    slot.state = "back";
    this.#back.push(slot);
  }

  #lose(slot: Slot): void {
    this.#trimmedUnsettled += 1;
    this.#finish(slot);
    slot.entry.pending -= 1;
  }

  /** A slot is gone; the next of its key may be received. */
  #finish(slot: Slot): void {
    slot.state = "gone";
    slot.delivery = undefined;
    this.#unsettled -= 1;
    if (!this.#ordered || slot.entry.key === "") return;
    const next = slot.feed.dequeue(slot);
    if (next) this.#ready.push(next);
  }

  #clean(): void {
    this.#ready.replace(this.#ready.values().filter((slot) => slot.state === "ready"));
    this.#dead = 0;
  }

  /** Queues everything anew in the other order. Nothing is out: there is no member. */
  #reorder(ordered: boolean): void {
    this.#ordered = ordered;
    for (const feed of this.feeds) feed.forgetLanes();
    const slots = this.feeds.flatMap((feed) => this.#slotsOf(feed));
    slots.sort((one, other) => one.entry.sequence - other.entry.sequence);
    const ready: Slot[] = [];
    for (const slot of slots) {
      slot.next = undefined;
      const first = !ordered || slot.entry.key === "" || slot.feed.enqueue(slot);
      if (slot.state === "waiting" && first) continue;
      if (slot.state === "waiting") this.#timers.cancel(slot);
      else if (slot.state === "back") this.#back.remove(slot);
      slot.state = "ready";
      if (first) ready.push(slot);
    }
    this.#ready.replace(ready);
    this.#dead = 0;
  }

  #slotsOf(feed: Feed): Slot[] {
    const slots: Slot[] = [];
    for (const entry of feed.topic.entries()) {
      for (let slot = entry.slots; slot; slot = slot.sibling) {
        if (slot.feed === feed && slot.unsettled) slots.push(slot);
      }
    }
    return slots;
  }
}
