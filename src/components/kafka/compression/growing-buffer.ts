/** A buffer that grows as it is written to: what decompression makes of bytes whose size nobody said. */

/** More than any batch of records decompresses to, in bytes: beyond it the bytes are an attack or damaged. */
const maxBytes = 256 * 1024 * 1024;

/** See the head of this file. */
export class GrowingBuffer {
  #bytes: Buffer;
  length = 0;

  constructor(expectedBytes: number) {
    this.#bytes = Buffer.allocUnsafe(Math.max(64, Math.min(expectedBytes, maxBytes)));
  }

  append(from: Buffer, begin: number, end: number): void {
    if (end > from.length) throw new RangeError("the compressed bytes end too early");
    this.#reserve(end - begin);
    this.length += from.copy(this.#bytes, this.length, begin, end);
  }

  /** Repeats bytes that were written `distance` bytes ago; they may overlap with what is being written. */
  repeat(distance: number, count: number): void {
    const from = this.length - distance;
    if (distance <= 0 || from < 0) throw new RangeError("the compressed bytes make no sense");
    this.#reserve(count);
    if (distance >= count) this.#bytes.copy(this.#bytes, this.length, from, from + count);
    else for (let i = 0; i < count; i += 1) this.#bytes[this.length + i] = this.#bytes[from + i]!;
    this.length += count;
  }

  /** What was written. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }

  #reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.#bytes.length) return;
    if (needed > maxBytes)
      throw new RangeError("the compressed bytes are too many when they are decompressed");
    const larger = Buffer.allocUnsafe(Math.min(maxBytes, Math.max(needed, this.#bytes.length * 2)));
    this.#bytes.copy(larger, 0, 0, this.length);
    this.#bytes = larger;
  }
}
