/** The members of groups in this process, and those of them that wait for events. */
import { StoreError } from "../errors.ts";
import type { Plain } from "../messages.ts";
import type { DeliveryTable } from "./deliveries.ts";
import type { Group, GroupTable } from "./groups.ts";
import type { Answering } from "./watchers.ts";

interface Waiter {
  readonly id: number;
  readonly member: number;
  readonly max: number;
  readonly answer: Answering<readonly Plain[]>;
}

/** The waiting members of one group. */
interface Queue {
  readonly group: Group;
  waiters: Waiter[];
  /** Whether there may be something for them. */
  due: boolean;
  /** When a delivery is due that waits for its time. */
  nextDueMs: number | undefined;
}

/** A waiter that has been given something, in a transaction that is not committed yet. */
interface Served {
  readonly queue: Queue;
  readonly waiter: Waiter;
  /** Undefined: the group was forgotten. */
  readonly events: readonly Plain[] | undefined;
  readonly blobs: readonly Uint8Array[];
}

/** Knows who waits for what. */
export class Receivers {
  readonly #groups: GroupTable;
  readonly #deliveries: DeliveryTable;
  readonly #members = new Map<number, Group>();
  readonly #queues = new Map<number, Queue>();
  readonly #waiterIds = new Set<number>();
  readonly #byTopic = new Map<number, Set<Queue>>();
  readonly #patterns = new Set<Queue>();
  readonly #due = new Set<Queue>();
  readonly #timed = new Set<Queue>();
  readonly #served: Served[] = [];

  constructor(groups: GroupTable, deliveries: DeliveryTable) {
    this.#groups = groups;
    this.#deliveries = deliveries;
  }

  addMember(member: number, group: Group): void {
    this.#members.set(member, group);
  }

  removeMember(member: number): void {
    this.#members.delete(member);
  }

  /** The group of a member. Throws StoreError when there is no such member. */
  groupOf(member: number): Group {
    const group = this.#members.get(member);
    if (!group) throw new StoreError("refused", "the subscription is closed");
    return group;
  }

  /** Lets a member wait. It will be served with the next transaction. */
  add(waiter: Waiter): void {
    const group = this.groupOf(waiter.member);
    let queue = this.#queues.get(group.id);
    if (!queue) {
      queue = { group, waiters: [], due: false, nextDueMs: undefined };
      this.#queues.set(group.id, queue);
      this.#index(queue);
    }
    queue.waiters.push(waiter);
    this.#waiterIds.add(waiter.id);
    this.#due.add(queue);
  }

  /** Whether a call waits. */
  has(id: number): boolean {
    return this.#waiterIds.has(id);
  }

  /** Answers a member that does not wait any more. */
  cancel(id: number): void {
    if (!this.#waiterIds.has(id)) return;
    for (const queue of this.#queues.values()) {
      const waiter = queue.waiters.find((candidate) => candidate.id === id);
      if (!waiter) continue;
      this.#remove(queue, waiter);
      waiter.answer([], []);
      return;
    }
  }

  /** Takes the waiting call of a member that leaves. */
  cancelMember(member: number): void {
    const queue = this.#queues.get(this.#members.get(member)?.id ?? 0);
    for (const waiter of queue?.waiters ?? []) if (waiter.member === member) this.cancel(waiter.id);
  }

  get waiting(): boolean {
    return this.#queues.size > 0;
  }

  /** Whether somebody waits who may be served. */
  get due(): boolean {
    return this.#due.size > 0;
  }

  /** When the next delivery is due that somebody waits for, milliseconds since 1970. */
  nextDueMs(): number | undefined {
    let next: number | undefined;
    for (const { nextDueMs } of this.#timed) {
      if (nextDueMs !== undefined && (next === undefined || nextDueMs < next)) next = nextDueMs;
    }
    return next;
  }

  /** Says that a topic has new events. */
  markTopic(topic: number): void {
    for (const queue of this.#byTopic.get(topic) ?? []) this.#due.add(queue);
    for (const queue of this.#patterns) if (this.#groups.reads(queue.group, topic)) this.#due.add(queue);
  }

  /** Says that a group has deliveries that are free, or other times to wait for. */
  markGroup(id: number): void {
    const queue = this.#queues.get(id);
    if (queue) this.#due.add(queue);
  }

  markAll(): void {
    for (const queue of this.#queues.values()) this.#due.add(queue);
  }

  /** Marks those whose time has come. */
  markTimed(nowMs: number): void {
    for (const queue of this.#timed) if ((queue.nextDueMs ?? nowMs) <= nowMs) this.#due.add(queue);
  }

  /** Gives those who wait what there is. Within a transaction; nothing is told before `commit`. */
  serve(): void {
    for (const queue of this.#due) {
      let more = false;
      let left = queue.waiters.length;
      for (const waiter of queue.waiters) {
        const claimed = this.#deliveries.claim(queue.group, waiter.member, waiter.max);
        more = claimed?.more ?? false;
        if (claimed && claimed.blobs.length === 0) break;
        this.#served.push({ queue, waiter, events: claimed?.events, blobs: claimed?.blobs ?? [] });
        left -= 1;
      }
      queue.due = more && left > 0;
      queue.nextDueMs = left > 0 ? this.#deliveries.nextDue(queue.group.id) : undefined;
    }
  }

  /** The transaction is committed: answers those who were served. */
  commit(): void {
    const looked = [...this.#due];
    this.#due.clear();
    for (const queue of looked) {
      if (queue.due) this.#due.add(queue);
      if (queue.nextDueMs === undefined) this.#timed.delete(queue);
      else this.#timed.add(queue);
    }
    for (const { queue, waiter, events, blobs } of this.#served.splice(0)) {
      this.#remove(queue, waiter);
      if (events) waiter.answer(events, blobs);
      else {
        const text =
          "the subscription was given up, because this process showed no signs of life for too long";
        waiter.answer(new StoreError("unavailable", text), []);
      }
    }
  }

  /** The transaction was taken back. */
  rollback(): void {
    this.#served.length = 0;
  }

  /** Fails those who would have been served. */
  fail(error: Error): void {
    for (const queue of [...this.#due]) {
      for (const waiter of [...queue.waiters]) {
        this.#remove(queue, waiter);
        waiter.answer(error, []);
      }
    }
    this.#due.clear();
  }

  #index(queue: Queue): void {
    const { topicId } = queue.group;
    if (topicId === undefined) {
      this.#patterns.add(queue);
      return;
    }
    const queues = this.#byTopic.get(topicId);
    if (queues) queues.add(queue);
    else this.#byTopic.set(topicId, new Set([queue]));
  }

  #remove(queue: Queue, waiter: Waiter): void {
    queue.waiters = queue.waiters.filter((other) => other !== waiter);
    this.#waiterIds.delete(waiter.id);
    if (queue.waiters.length > 0) return;
    this.#queues.delete(queue.group.id);
    this.#patterns.delete(queue);
    this.#due.delete(queue);
    this.#timed.delete(queue);
    const { topicId } = queue.group;
    const queues = topicId === undefined ? undefined : this.#byTopic.get(topicId);
    queues?.delete(queue);
    if (queues?.size === 0) this.#byTopic.delete(topicId!);
  }
}
