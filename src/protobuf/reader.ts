/** Reads the parts of protobuf messages. (https://protobuf.dev/programming-guides/encoding/) */
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

export const varint = 0;
export const lengthDelimited = 2;
export const noData = new Uint8Array(0);

/** What is before a field. */
export function tag(field: number, wireType: number): number {
  return (field << 3) | wireType;
}

/** Reads forwards until something is unusual; then it is at its end, and what it gave is worth nothing. */
export class Reader {
  readonly end: number;
  position = 0;
  /** True: the message is for protobuf-es. */
  unusual = false;
  readonly #bytes: Uint8Array;
  readonly #buffer: Buffer;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#buffer = Buffer.isBuffer(bytes)
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.end = bytes.byteLength;
  }

  giveUp(): void {
    this.unusual = true;
    this.position = this.end;
  }

  /** An unsigned varint below 2^53, in as few bytes as it needs: how many more are allowed differs from field to field. */
  varint(): number {
    const buffer = this.#buffer;
    let byte = buffer[this.position++];
    if (byte === undefined) return this.#nothing();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let factor = 0x80;
    for (let i = 0; i < 6; i++) {
      byte = buffer[this.position++];
      if (byte === undefined) return this.#nothing();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return byte === 0 ? this.#nothing() : value;
      factor *= 0x80;
    }
    return this.#nothing();
  }

  /** Where a nested message ends. */
  nested(end: number): number {
    const length = this.varint();
    const nestedEnd = this.position + length;
    if (nestedEnd <= end) return nestedEnd;
    return this.#nothing();
  }

  data(end: number): Uint8Array {
    const dataEnd = this.nested(end);
    if (this.unusual) return noData;
    const begin = this.position;
    this.position = dataEnd;
    return this.#bytes.subarray(begin, dataEnd);
  }

  text(end: number): string {
    const textEnd = this.nested(end);
    if (this.unusual) return "";
    const start = this.position;
    this.position = textEnd;
    const text = this.#buffer.toString("utf8", start, textEnd);
    // What is no UTF-8 was replaced by this character.
    if (text.includes("\ufffd")) this.giveUp();
    return text;
  }

  /** An entry of a map of texts, which ends there. */
  entry(end: number, entries: Record<string, string>): void {
    if (this.varint() !== tag(1, lengthDelimited)) return this.giveUp();
    const key = this.text(end);
    if (this.varint() !== tag(2, lengthDelimited)) return this.giveUp();
    const value = this.text(end);
    // Setting this one would change the object, not add to it.
    if (this.position !== end || key === "__proto__") return this.giveUp();
    entries[key] = value;
  }

  /** A timestamp or a duration, which ends there. */
  time<T extends (Timestamp | Duration)["$typeName"]>(end: number, $typeName: T) {
    let seconds = 0;
    let nanos = 0;
    while (this.position < end) {
      switch (this.varint()) {
        case tag(1, varint):
          seconds = this.varint();
          break;
        case tag(2, varint):
          nanos = this.varint();
          // Beyond an int32 it is negative or wrong.
          if (nanos > 0x7fffffff) this.giveUp();
          break;
        default:
          this.giveUp();
      }
    }
    if (this.position > end) this.giveUp();
    return { $typeName, seconds: BigInt(seconds), nanos };
  }

  #nothing(): number {
    this.giveUp();
    return 0;
  }
}
