/** Beyond this many places, an empty ring gives its memory back. */
const keptCapacity = 4096;

/**
 * A queue in an array whose length is a power of two. Every value has an index
 * for life, counted from the first that was ever pushed, so that it can be
 * cleared in the middle.
 */
export class Ring<T> {
  #places: (T | undefined)[] = new Array<T | undefined>(16);
  #head = 0;
  #tail = 0;

  /** Values from the first to the last, those that were cleared included. */
  get length(): number {
    return this.#tail - this.#head;
  }

  /** Appends a value and returns its index. */
  push(value: T): number {
    if (this.#tail - this.#head === this.#places.length) this.#grow();
    this.#places[this.#tail & (this.#places.length - 1)] = value;
    this.#tail += 1;
    return this.#tail - 1;
  }

  /** Removes and returns the first value; undefined when there is none, or it was cleared. */
  shift(): T | undefined {
    if (this.#head === this.#tail) return undefined;
    const place = this.#head & (this.#places.length - 1);
    const value = this.#places[place];
    this.#places[place] = undefined;
    this.#head += 1;
    if (this.#head === this.#tail && this.#places.length > keptCapacity) {
      this.#places = new Array<T | undefined>(16);
    }
    return value;
  }

  /** Empties one place, and removes those at the front that are empty. */
  clear(index: number): void {
    const mask = this.#places.length - 1;
    this.#places[index & mask] = undefined;
    while (this.#head < this.#tail && this.#places[this.#head & mask] === undefined) this.#head += 1;
    if (this.#head === this.#tail && this.#places.length > keptCapacity) {
      this.#places = new Array<T | undefined>(16);
    }
  }

  /** The first value; undefined when there is none, or it was cleared. */
  first(): T | undefined {
    return this.#head === this.#tail ? undefined : this.#places[this.#head & (this.#places.length - 1)];
  }

  /** What was not cleared, in order. */
  values(): T[] {
    const values: T[] = [];
    for (let index = this.#head; index < this.#tail; index += 1) {
      const value = this.#places[index & (this.#places.length - 1)];
      if (value !== undefined) values.push(value);
    }
    return values;
  }

  /** Takes other values instead; their indices are new. */
  replace(values: readonly T[]): void {
    let capacity = 16;
    while (capacity < values.length) capacity *= 2;
    this.#places = new Array<T | undefined>(capacity);
    this.#head = 0;
    this.#tail = 0;
    for (const value of values) this.push(value);
  }

  #grow(): void {
    const old = this.#places;
    this.#places = new Array<T | undefined>(old.length * 2);
    for (let index = this.#head; index < this.#tail; index += 1) {
      this.#places[index & (this.#places.length - 1)] = old[index & (old.length - 1)];
    }
  }
}
