/** Zigzag varints as in Kafka's records. Numbers up to 2^53 are kept exactly. */

/** How many bytes a value takes. */
export function varintBytes(value: number): number {
  let rest = value >= 0 ? value * 2 : -value * 2 - 1;
  let bytes = 1;
  while (rest >= 0x80) {
    rest = Math.floor(rest / 0x80);
    bytes += 1;
  }
  return bytes;
}

/** Writes a value and says where it ends. */
export function writeVarint(buffer: Buffer, value: number, at: number): number {
  let rest = value >= 0 ? value * 2 : -value * 2 - 1;
  let position = at;
  while (rest >= 0x80) {
    buffer[position++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  buffer[position++] = rest;
  return position;
}

/** Reads values one after the other. Throws RangeError at the end of the bytes. */
export class VarintReader {
  readonly #buffer: Buffer;
  at: number;

  constructor(buffer: Buffer, at: number) {
    this.#buffer = buffer;
    this.at = at;
  }

  next(): number {
    let value = 0;
    let factor = 1;
    for (;;) {
      const byte = this.#buffer[this.at++];
      if (byte === undefined) throw new RangeError("the record ends too early");
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) break;
      factor *= 0x80;
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** The bytes of a length and what follows it; null when the length is negative. */
  bytes(): Buffer | null {
    const length = this.next();
    if (length < 0) return null;
    const begin = this.at;
    this.at += length;
    if (this.at > this.#buffer.length) throw new RangeError("the record ends too early");
    return this.#buffer.subarray(begin, this.at);
  }
}
