/** What was acknowledged, and who has seen it. */

/** Events of one publisher in one group: each is seen never, once or more often. */
class Seen {
  #bits = new Uint8Array(1024);
  count = 0;

  /** True: for the first time. */
  add(number: number): boolean {
    const byte = number >> 3;
    const bit = 1 << (number & 7);
    if (byte >= this.#bits.length) {
      const longer = new Uint8Array(Math.max(byte + 1, 2 * this.#bits.length));
      longer.set(this.#bits);
      this.#bits = longer;
    }
    if (this.#bits[byte]! & bit) return false;
    this.#bits[byte]! |= bit;
    this.count += 1;
    return true;
  }

  /** How many of the events before `end` were never seen. */
  missingBefore(end: number): number {
    let missing = 0;
    for (let number = 0; number < end; number++) {
      if (!((this.#bits[number >> 3] ?? 0) & (1 << (number & 7)))) missing += 1;
    }
    return missing;
  }
}

/** The data of an event: who sent it, and which it is; filled up to `bytes`. */
export function eventData(publisher: number, number: number, bytes: number): Uint8Array {
  const data = Buffer.alloc(bytes, 46);
  data.writeUInt32BE(publisher, 0);
  data.writeUInt32BE(number, 4);
  return data;
}

/** See the head of this file. */
export class Ledger {
  /** Events that their publisher was told are published, by publisher: all with smaller numbers. */
  readonly acknowledged = new Map<number, number>();
  /** Deliveries of events that the group had settled before. */
  duplicates = 0;
  readonly #seen = new Map<string, Map<number, Seen>>();

  constructor(groups: readonly string[]) {
    for (const group of groups) this.#seen.set(group, new Map());
  }

  /** Takes down that a group has an event and settles it. */
  see(group: string, data: Uint8Array): void {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const publisher = view.getUint32(0);
    const byPublisher = this.#seen.get(group)!;
    let seen = byPublisher.get(publisher);
    if (!seen) {
      seen = new Seen();
      byPublisher.set(publisher, seen);
    }
    if (!seen.add(view.getUint32(4))) this.duplicates += 1;
  }

  /** Different events that all groups together have seen. */
  get delivered(): number {
    let all = 0;
    for (const byPublisher of this.#seen.values()) for (const seen of byPublisher.values()) all += seen.count;
    return all;
  }

  /** Events that were acknowledged. */
  get published(): number {
    return [...this.acknowledged.values()].reduce((all, count) => all + count, 0);
  }

  /** Acknowledged events that a group has not seen, over all groups. */
  get missing(): number {
    let missing = 0;
    for (const byPublisher of this.#seen.values()) {
      for (const [publisher, count] of this.acknowledged) {
        const seen = byPublisher.get(publisher);
        missing += seen ? seen.missingBefore(count) : count;
      }
    }
    return missing;
  }
}
