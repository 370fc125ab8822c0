import { Heap, type HeapItem } from "./heap.ts";

/** The longest wait that setTimeout knows, in milliseconds. */
const maxTimeoutMs = 2 ** 31 - 1;

/** What happens at a time. */
export interface Due extends HeapItem {
  /** Milliseconds since 1970. Belongs to Timers. */
  dueMs: number;
  /** Among those due at the same time, the order in which they were scheduled. Belongs to Timers. */
  dueOrder: number;
  fire(): void;
}

/** Everything that waits for a time, behind one timer of the runtime. */
export class Timers {
  readonly #heap = new Heap<Due>((one, other) =>
    one.dueMs === other.dueMs ? one.dueOrder < other.dueOrder : one.dueMs < other.dueMs,
  );
  #order = 0;
  #running = false;
  #timer: NodeJS.Timeout | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;

  /** Something may be scheduled, and cancelled, also while the timers are stopped. */
  start(): void {
    this.#running = true;
    this.#arm();
  }

  /** Nothing fires until the next start. */
  stop(): void {
    this.#running = false;
    this.#disarm();
  }

  /** An item must not be scheduled twice. */
  schedule(item: Due, dueMs: number): void {
    item.dueMs = dueMs;
    item.dueOrder = this.#order;
    this.#order += 1;
    this.#heap.push(item);
    this.#arm();
  }

  /** The item must be scheduled. */
  cancel(item: Due): void {
    this.#heap.remove(item);
  }

  #arm(): void {
    const first = this.#heap.first();
    if (!first || !this.#running || this.#armedForMs <= first.dueMs) return;
    this.#disarm();
    this.#armedForMs = first.dueMs;
    const waitMs = Math.min(Math.max(first.dueMs - Date.now(), 1), maxTimeoutMs);
    this.#timer = setTimeout(() => this.#fire(), waitMs);
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#armedForMs = Number.POSITIVE_INFINITY;
  }

  /** A timer may come a moment early, or for an item that was cancelled: the clock decides. */
  #fire(): void {
    this.#armedForMs = Number.POSITIVE_INFINITY;
    const nowMs = Date.now();
    for (let first = this.#heap.first(); first && first.dueMs <= nowMs; first = this.#heap.first()) {
      this.#heap.remove(first);
      first.fire();
    }
    this.#arm();
  }
}
