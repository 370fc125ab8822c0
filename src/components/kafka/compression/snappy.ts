/** Snappy as Kafka has it: blocks in the frame of xerial's library for Java, or one block without a frame. */
import { GrowingBuffer } from "./growing-buffer.ts";
import { findMatches } from "./matches.ts";

const magic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]);
const frameVersion = 1;
const blockBytes = 32 * 1024;
/** The longest repetition that one element can say. */
const maxCopy = 64;

/** Compresses into a frame. */
export function compressSnappy(bytes: Buffer): Buffer {
  const head = Buffer.alloc(16);
  magic.copy(head);
  head.writeInt32BE(frameVersion, 8);
  head.writeInt32BE(frameVersion, 12);
  const parts: Buffer[] = [head];
  for (let at = 0; at < bytes.length; at += blockBytes) {
    const block = compressBlock(bytes.subarray(at, at + blockBytes));
    const size = Buffer.allocUnsafe(4);
    size.writeInt32BE(block.length);
    parts.push(size, block);
  }
  return Buffer.concat(parts);
}

/** Decompresses a frame, or one block. Throws RangeError. */
export function decompressSnappy(bytes: Buffer): Buffer {
  const out = new GrowingBuffer(bytes.length * 3);
  if (!bytes.subarray(0, magic.length).equals(magic)) {
    decompressBlock(bytes, out);
    return out.bytes();
  }
  for (let at = 16; at < bytes.length; ) {
    const end = at + 4 + bytes.readInt32BE(at);
    if (end > bytes.length || end < at + 4) throw new RangeError("the compressed bytes end too early");
    decompressBlock(bytes.subarray(at + 4, end), out);
    at = end;
  }
  return out.bytes();
}

function compressBlock(bytes: Buffer): Buffer {
  const out = Buffer.allocUnsafe(32 + bytes.length + Math.ceil(bytes.length / 6));
  let at = 0;
  for (let length = bytes.length; ; length >>>= 7) {
    out[at++] = length < 0x80 ? length : (length & 0x7f) | 0x80;
    if (length < 0x80) break;
  }
  const literal = (begin: number, end: number): void => {
    const length = end - begin;
    if (length === 0) return;
    if (length <= 60) out[at++] = (length - 1) << 2;
    else {
      out[at++] = 61 << 2;
      at = out.writeUInt16LE(length - 1, at);
    }
    at += bytes.copy(out, at, begin, end);
  };
  const copy = (distance: number, length: number): void => {
    out[at++] = ((length - 1) << 2) | 2;
    at = out.writeUInt16LE(distance, at);
  };
  const rest = findMatches(bytes, 0, bytes.length, 4, (begin, end, distance, length) => {
    literal(begin, end);
    let left = length;
    for (; left > maxCopy; left -= maxCopy) copy(distance, maxCopy);
    copy(distance, left);
  });
  literal(rest, bytes.length);
  return out.subarray(0, at);
}

function decompressBlock(bytes: Buffer, out: GrowingBuffer): void {
  let at = 0;
  while ((bytes[at++] ?? 0) >= 0x80) {
    // The length that is said first is not needed.
  }
  while (at < bytes.length) {
    const tag = bytes[at++]!;
    const kind = tag & 3;
    if (kind === 0) {
      let length = tag >> 2;
      if (length >= 60) {
        const count = length - 59;
        length = bytes.readUIntLE(at, count);
        at += count;
      }
      out.append(bytes, at, at + length + 1);
      at += length + 1;
    } else if (kind === 1) {
      out.repeat(((tag & 0xe0) << 3) | bytes[at++]!, ((tag >> 2) & 7) + 4);
    } else {
      const width = kind === 2 ? 2 : 4;
      out.repeat(bytes.readUIntLE(at, width), (tag >> 2) + 1);
      at += width;
    }
  }
}
