/** LZ4's frame format. */
import { GrowingBuffer } from "./growing-buffer.ts";
import { findMatches } from "./matches.ts";

const magic = 0x184d2204;
/** Version 1, blocks that do not refer to each other, no checksums of their own: Kafka's batches have one. */
const flags = 0x60;
const blockBytes = 64 * 1024;
/** The code for blocks of that size. */
const blockDescriptor = 0x40;
const storedFlag = 0x8000_0000;
/** The format wants the end of a block to be literal. */
const literalTail = 12;

/** Compresses into a frame. */
export function compressLz4(bytes: Buffer): Buffer {
  const head = Buffer.allocUnsafe(7);
  head.writeUInt32LE(magic, 0);
  head[4] = flags;
  head[5] = blockDescriptor;
  head[6] = headerChecksum(head.subarray(4, 6));
  const parts: Buffer[] = [head];
  for (let at = 0; at < bytes.length; at += blockBytes) {
    const end = Math.min(at + blockBytes, bytes.length);
    const packed = compressBlock(bytes, at, end);
    const size = Buffer.allocUnsafe(4);
    const smaller = packed.length < end - at;
    size.writeUInt32LE(smaller ? packed.length : (end - at + storedFlag) >>> 0);
    parts.push(size, smaller ? packed : bytes.subarray(at, end));
  }
  parts.push(Buffer.alloc(4));
  return Buffer.concat(parts);
}

/** Decompresses a frame. Throws RangeError. */
export function decompressLz4(bytes: Buffer): Buffer {
  if (bytes.readUInt32LE(0) !== magic) throw new RangeError("the bytes are no LZ4 frame");
  const given = bytes[4]!;
  const [blockChecksums, contentSize, dictionary] = [given & 0x10, given & 0x08, given & 0x01];
  let at = 6 + (contentSize ? 8 : 0) + (dictionary ? 4 : 0) + 1;
  const out = new GrowingBuffer(bytes.length * 3);
  for (;;) {
    const size = bytes.readUInt32LE(at);
    at += 4;
    if (size === 0) return out.bytes();
    const length = size & ~storedFlag;
    if (at + length > bytes.length) throw new RangeError("the compressed bytes end too early");
    if (size >= storedFlag) out.append(bytes, at, at + length);
    else decompressBlock(bytes.subarray(at, at + length), out);
    at += length + (blockChecksums ? 4 : 0);
  }
}

function compressBlock(bytes: Buffer, begin: number, end: number): Buffer {
  const out = Buffer.allocUnsafe(16 + (end - begin) + Math.ceil((end - begin) / 255));
  let at = 0;
  const more = (length: number): void => {
    let left = length - 15;
    for (; left >= 255; left -= 255) out[at++] = 255;
    out[at++] = left;
  };
  const literals = (from: number, to: number, low: number): void => {
    const length = to - from;
    out[at++] = (Math.min(length, 15) << 4) | low;
    if (length >= 15) more(length);
    at += bytes.copy(out, at, from, to);
  };
  const rest = findMatches(bytes, begin, end, literalTail, (from, to, distance, length) => {
    literals(from, to, Math.min(length - 4, 15));
    at = out.writeUInt16LE(distance, at);
    if (length - 4 >= 15) more(length - 4);
  });
  literals(rest, end, 0);
  return out.subarray(0, at);
}

function decompressBlock(bytes: Buffer, out: GrowingBuffer): void {
  let at = 0;
  const lengthFrom = (low: number): number => {
    let length = low;
    if (low === 15) {
      let byte: number;
      do {
        byte = bytes[at++] ?? 0;
        length += byte;
      } while (byte === 255);
    }
    return length;
  };
  while (at < bytes.length) {
    const token = bytes[at++]!;
    const literal = lengthFrom(token >> 4);
    out.append(bytes, at, at + literal);
    at += literal;
    if (at >= bytes.length) return;
    const distance = bytes.readUInt16LE(at);
    at += 2;
    out.repeat(distance, lengthFrom(token & 15) + 4);
  }
}

/** The second byte of xxHash32 of up to 15 bytes. */
function headerChecksum(bytes: Buffer): number {
  let hash = (0x165667b1 + bytes.length) | 0;
  let at = 0;
  for (; at + 4 <= bytes.length; at += 4) {
    hash = (hash + Math.imul(bytes.readInt32LE(at), 0xc2b2ae3d)) | 0;
    hash = Math.imul((hash << 17) | (hash >>> 15), 0x27d4eb2f);
  }
  for (; at < bytes.length; at += 1) {
    hash = (hash + Math.imul(bytes[at]!, 0x165667b1)) | 0;
    hash = Math.imul((hash << 11) | (hash >>> 21), 0x9e3779b1);
  }
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca77);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae3d);
  return ((hash ^ (hash >>> 16)) >>> 8) & 0xff;
}
