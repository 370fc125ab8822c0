/** Something that ends at a time. */
export interface Expiring {
  /** Milliseconds since 1970; undefined: never, and then it is in no queue. */
  readonly expiresAtMs: number | undefined;
  /** Where the queue has it; -1: nowhere. Only the queue writes it. */
  queueIndex: number;
}

/**
 * Items in the order in which they end: a binary heap in which each item knows
 * its place, so that one that is overwritten or deleted leaves at once and the
 * queue never holds more than what is there.
 */
export class ExpiryQueue<T extends Expiring> {
  readonly #heap: T[] = [];

  /** The item that ends first. */
  get first(): T | undefined {
    return this.#heap[0];
  }

  get size(): number {
    return this.#heap.length;
  }

  add(item: T): void {
    this.#heap.push(item);
    this.#up(this.#heap.length - 1, item);
  }

  /** Does nothing with an item that is not in the queue. */
  remove(item: T): void {
    const index = item.queueIndex;
    if (index < 0) return;
    item.queueIndex = -1;
    const last = this.#heap.pop()!;
    if (last === item) return;
    if (index > 0 && endOf(last) < endOf(this.#heap[(index - 1) >> 1]!)) this.#up(index, last);
    else this.#down(index, last);
  }

  clear(): void {
    this.#heap.length = 0;
  }

  #up(from: number, item: T): void {
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (endOf(this.#heap[parent]!) <= endOf(item)) break;
      this.#place(index, this.#heap[parent]!);
      index = parent;
    }
    this.#place(index, item);
  }

  #down(from: number, item: T): void {
    let index = from;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= this.#heap.length) break;
      if (child + 1 < this.#heap.length && endOf(this.#heap[child + 1]!) < endOf(this.#heap[child]!)) child++;
      if (endOf(item) <= endOf(this.#heap[child]!)) break;
      this.#place(index, this.#heap[child]!);
      index = child;
    }
    this.#place(index, item);
  }

  #place(index: number, item: T): void {
    this.#heap[index] = item;
    item.queueIndex = index;
  }
}

function endOf(item: Expiring): number {
  return item.expiresAtMs ?? Number.POSITIVE_INFINITY;
}
