/**
 * The keys of a store in the order of their UTF-8 bytes, sorted when somebody
 * asks and not before: writes only remember what is new.
 *
 * Keys that were removed stay until the next merge after as many have gone as
 * are left, so a reader skips those that the store does not have.
 */
export class SortedKeys {
  #sorted: string[] = [];
  #added = new Set<string>();
  #removed = 0;

  /** Remembers a key that the store did not have. */
  add(key: string): void {
    this.#added.add(key);
  }

  /** Forgets a key that the store had. */
  remove(key: string): void {
    if (!this.#added.delete(key)) this.#removed++;
  }

  clear(): void {
    this.#sorted = [];
    this.#added.clear();
    this.#removed = 0;
  }

  /**
   * Keys from `prefix` on, and after `after`, in order; a few of them may be
   * gone. Use it up at once: a change of the store makes it stale.
   */
  *from(prefix: string, after: string | undefined, has: (key: string) => boolean): Generator<string, void> {
    this.#merge(has);
    const sorted = this.#sorted;
    const behind = after !== undefined && compareUtf8(after, prefix) >= 0;
    let index = behind ? firstWhere(sorted, after, true) : firstWhere(sorted, prefix, false);
    for (; index < sorted.length; index++) yield sorted[index]!;
  }

  #merge(has: (key: string) => boolean): void {
    if (this.#added.size === 0 && this.#removed <= this.#sorted.length / 2) return;
    const added = [...this.#added].sort(compareUtf8);
    const merged: string[] = [];
    let next = 0;
    for (const key of this.#sorted) {
      for (; next < added.length && compareUtf8(added[next]!, key) < 0; next++) merged.push(added[next]!);
      // A key that was removed and added again is in both.
      if (added[next] === key) next++;
      if (has(key)) merged.push(key);
    }
    for (; next < added.length; next++) merged.push(added[next]!);
    this.#sorted = merged;
    this.#added.clear();
    this.#removed = 0;
  }
}

/** The index of the first key that is `bound` or greater, or with `beyond` only greater. */
function firstWhere(sorted: readonly string[], bound: string, beyond: boolean): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compareUtf8(sorted[middle]!, bound);
    if (order < 0 || (beyond && order === 0)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Compares well-formed text by its UTF-8 bytes. JavaScript's own order is by
 * UTF-16 units, which puts surrogates (characters beyond U+FFFF) before U+E000 to U+FFFF.
 */
export function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left !== right) return rank(left) - rank(right);
  }
  return a.length - b.length;
}

function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
