/** Writes the parts of protobuf messages. (https://protobuf.dev/programming-guides/encoding/) */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { lengthDelimited, tag, varint } from "./reader.ts";

/** Up to this length a loop over characters beats a call into native code. */
const shortString = 48;

/** A buffer that is filled from its end. Fields with the default value are left out, as proto3 has it. */
export class ReverseWriter {
  #buffer: Buffer;
  #position: number;
  /** What growing has added in front: `left` must not jump by it. */
  #added = 0;

  constructor(bytes: number) {
    this.#buffer = Buffer.allocUnsafe(bytes);
    this.#position = bytes;
  }

  /** A mark: what has been written since is `mark - left` bytes long. */
  get left(): number {
    return this.#position - this.#added;
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(this.#position);
  }

  /** Makes what was written since the mark a nested message. */
  nested(fieldTag: number, mark: number): void {
    this.#length(mark - this.left);
    this.#byte(fieldTag);
  }

  /** 0 to 2^53 - 1. */
  uint(fieldTag: number, value: number): void {
    if (value === 0) return;
    this.#length(value);
    this.#byte(fieldTag);
  }

  /** An int64, or an int32, which has the same bytes; written also when it is 0. */
  bigint(fieldTag: number, value: bigint): void {
    let rest = BigInt.asUintN(64, value);
    const groups: number[] = [];
    do {
      groups.push(Number(rest & 0x7fn));
      rest >>= 7n;
    } while (rest > 0n);
    this.#reserve(groups.length);
    for (let i = groups.length - 1; i >= 0; i--) {
      this.#buffer[--this.#position] = i === groups.length - 1 ? groups[i]! : groups[i]! | 0x80;
    }
    this.#byte(fieldTag);
  }

  text(fieldTag: number, text: string): void {
    if (text !== "") this.string(fieldTag, text);
  }

  data(fieldTag: number, data: Uint8Array): void {
    if (data.length === 0) return;
    this.#reserve(data.length);
    this.#position -= data.length;
    this.#buffer.set(data, this.#position);
    this.#length(data.length);
    this.#byte(fieldTag);
  }

  timestamp(fieldTag: number, timestamp: Timestamp | undefined): void {
    if (!timestamp) return;
    const mark = this.left;
    const { nanos } = timestamp;
    if (nanos < 0) this.bigint(tag(2, varint), BigInt(nanos));
    else this.uint(tag(2, varint), nanos);
    const seconds = Number(timestamp.seconds);
    if (seconds < 0 || seconds > Number.MAX_SAFE_INTEGER) this.bigint(tag(1, varint), timestamp.seconds);
    else this.uint(tag(1, varint), seconds);
    this.nested(fieldTag, mark);
  }

  map(fieldTag: number, entries: Readonly<Record<string, string>>): void {
    // What is written last is read first: so they keep their order.
    const keys = Object.keys(entries);
    for (let i = keys.length - 1; i >= 0; i--) {
      const key = keys[i]!;
      const mark = this.left;
      this.string(tag(2, lengthDelimited), entries[key]!);
      this.string(tag(1, lengthDelimited), key);
      this.nested(fieldTag, mark);
    }
  }

  /** Written also when it is empty. */
  string(fieldTag: number, text: string): void {
    const { length } = text;
    this.#reserve(length);
    let bytes = length;
    if (length > shortString || !this.#ascii(text)) {
      bytes = Buffer.byteLength(text);
      this.#reserve(bytes);
      this.#position -= bytes;
      this.#buffer.write(text, this.#position, bytes);
    }
    this.#length(bytes);
    this.#byte(fieldTag);
  }

  /** Writes a text if all of it is ASCII; nothing otherwise. */
  #ascii(text: string): boolean {
    const buffer = this.#buffer;
    const start = this.#position - text.length;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) return false;
      buffer[start + i] = code;
    }
    this.#position = start;
    return true;
  }

  /** A varint of 0 to 2^53 - 1. */
  #length(value: number): void {
    this.#reserve(8);
    if (value < 0x80) {
      this.#buffer[--this.#position] = value;
    } else if (value < 0x4000) {
      this.#buffer[--this.#position] = value >> 7;
      this.#buffer[--this.#position] = (value & 0x7f) | 0x80;
    } else {
      let size = 2;
      for (let rest = Math.floor(value / 0x4000); rest > 0; rest = Math.floor(rest / 0x80)) size += 1;
      let rest = value;
      const start = this.#position - size;
      for (let i = 0; i < size; i++) {
        this.#buffer[start + i] = i === size - 1 ? rest : (rest % 0x80) | 0x80;
        rest = Math.floor(rest / 0x80);
      }
      this.#position = start;
    }
  }

  #byte(value: number): void {
    this.#reserve(1);
    this.#buffer[--this.#position] = value;
  }

  #reserve(bytes: number): void {
    if (this.#position >= bytes) return;
    const added = Math.max(this.#buffer.length, bytes);
    const grown = Buffer.allocUnsafeSlow(this.#buffer.length + added);
    this.#buffer.copy(grown, this.#position + added, this.#position);
    this.#buffer = grown;
    this.#position += added;
    this.#added += added;
  }
}
