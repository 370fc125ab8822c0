/** What a heap holds: an item is in one heap at most, and knows its place. */
export interface HeapItem {
  /** Belongs to the heap; -1 when the item is in none. */
  heapIndex: number;
}

/** A binary heap that can also remove an item from its middle. */
export class Heap<T extends HeapItem> {
  readonly #items: T[] = [];
  readonly #before: (one: T, other: T) => boolean;

  /** `before` says which of two items comes out first. */
  constructor(before: (one: T, other: T) => boolean) {
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  first(): T | undefined {
    return this.#items[0];
  }

  push(item: T): void {
    item.heapIndex = this.#items.push(item) - 1;
    this.#rise(item);
  }

  pop(): T | undefined {
    const first = this.#items[0];
    if (first) this.remove(first);
    return first;
  }

  /** The item must be in this heap. */
  remove(item: T): void {
    const last = this.#items.pop()!;
    const index = item.heapIndex;
    item.heapIndex = -1;
    if (last === item) return;
    this.#place(last, index);
    this.#rise(last);
    this.#sink(last);
  }

  #rise(item: T): void {
    while (item.heapIndex > 0) {
      const parent = this.#items[(item.heapIndex - 1) >> 1]!;
      if (!this.#before(item, parent)) return;
      const index = parent.heapIndex;
      this.#place(parent, item.heapIndex);
      this.#place(item, index);
    }
  }

  #sink(item: T): void {
    for (;;) {
      const left = this.#items[2 * item.heapIndex + 1];
      const right = this.#items[2 * item.heapIndex + 2];
      const child = right && this.#before(right, left!) ? right : left;
      if (!child || !this.#before(child, item)) return;
      const index = child.heapIndex;
      this.#place(child, item.heapIndex);
      this.#place(item, index);
    }
  }

  #place(item: T, index: number): void {
    this.#items[index] = item;
    item.heapIndex = index;
  }
}
