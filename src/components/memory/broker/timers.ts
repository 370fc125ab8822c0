import { timerMs } from "../../../timer.ts";
import { Heap, type HeapItem } from "./heap.ts";

/** What happens at a time. */
export interface Due extends HeapItem {
  /** performance.now(), whatever becomes of the clock. Belongs to Timers. */
  dueAt: number;
  /** Among those due at the same time, the order in which they were scheduled. Belongs to Timers. */
  dueOrder: number;
  fire(): void;
}

/** Everything that waits for a time, behind one timer of the runtime. */
export class Timers {
  readonly #heap = new Heap<Due>((one, other) =>
    one.dueAt === other.dueAt ? one.dueOrder < other.dueOrder : one.dueAt < other.dueAt,
  );
  #order = 0;
  #running = false;
  #timer: NodeJS.Timeout | undefined;
  #armedFor = Number.POSITIVE_INFINITY;

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
  schedule(item: Due, delayMs: number): void {
    item.dueAt = performance.now() + delayMs;
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
    if (!first || !this.#running || this.#armedFor <= first.dueAt) return;
    this.#disarm();
    this.#armedFor = first.dueAt;
    const waitMs = timerMs(first.dueAt - performance.now());
    this.#timer = setTimeout(() => this.#fire(), waitMs);
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#armedFor = Number.POSITIVE_INFINITY;
  }

  /** A timer may come a moment early, or for an item that was cancelled: the clock decides. */
  #fire(): void {
    this.#armedFor = Number.POSITIVE_INFINITY;
    const now = performance.now();
    for (let first = this.#heap.first(); first && first.dueAt <= now; first = this.#heap.first()) {
      this.#heap.remove(first);
      first.fire();
    }
    this.#arm();
  }
}
