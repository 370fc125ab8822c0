/** Kafka's record batches, version 2: what a produce request sends and a fetch answers with. */
import type { Codecs } from "./compression/codecs.ts";
import { crc32c } from "./crc32c.ts";
import { KafkaError } from "./errors.ts";
import { VarintReader, varintBytes, writeVarint } from "./varint.ts";

/** Bytes of a batch before its records. */
export const batchHeaderBytes = 61;
/** Bytes that a record can have beside its tail, at most. */
export const recordOverheadBytes = 5 + 1 + 8 + 5;

const codecMask = 0x07;
const logAppendTimeFlag = 0x08;
const transactionalFlag = 0x10;
const controlFlag = 0x20;

/** What is to be written; a key or value of null is none. */
export interface RecordFields {
  readonly key: string | Uint8Array | null;
  readonly value: string | Uint8Array | null;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** How large it may be is for the broker alone to say. */
  readonly anySize?: boolean;
}

/** A batch as it goes over the wire. */
export interface EncodedBatch {
  readonly bytes: Buffer;
}

/** A record that is there to be read. */
export interface FetchedRecord {
  readonly offset: number;
  readonly timestampMs: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly (readonly [name: string, value: Buffer | null])[];
}

/** What one answer had of a partition. */
export interface FetchedRecords {
  readonly records: readonly FetchedRecord[];
  /** Where to go on; undefined when the answer had no whole batch. */
  readonly nextOffset: number | undefined;
  /** Bytes of the answer. */
  readonly bytes: number;
}

/** Transactions that were given up, as a fetch names them. */
export interface AbortedTransaction {
  readonly producerId: bigint;
  readonly firstOffset: number;
}

/** The part of a record that does not depend on its batch: key, value and headers. */
export function encodeTail({ key, value, headers }: RecordFields): Buffer {
  const keyBytes = key === null ? -1 : byteLength(key);
  const valueBytes = value === null ? -1 : byteLength(value);
  let size = varintBytes(keyBytes) + Math.max(0, keyBytes);
  size += varintBytes(valueBytes) + Math.max(0, valueBytes) + varintBytes(headers.length);
  for (const [name, text] of headers) {
    const [nameBytes, textBytes] = [Buffer.byteLength(name), Buffer.byteLength(text)];
    size += varintBytes(nameBytes) + nameBytes + varintBytes(textBytes) + textBytes;
  }
  const tail = Buffer.allocUnsafe(size);
  let at = writeField(tail, key, keyBytes, 0);
  at = writeField(tail, value, valueBytes, at);
  at = writeVarint(tail, headers.length, at);
  for (const [name, text] of headers) {
    at = writeField(tail, name, Buffer.byteLength(name), at);
    at = writeField(tail, text, Buffer.byteLength(text), at);
  }
  return tail;
}

/** How a batch is to be written. */
export interface BatchOptions {
  readonly producerId: bigint;
  readonly producerEpoch: number;
  /** Of the first record; -1 when the producer has no identity. */
  readonly sequence: number;
  /** A number of Kafka's; 0 is none. */
  readonly codec: number;
}

/** Writes a batch. Every record has its tail and its time in milliseconds since 1970. */
export async function encodeBatch(
  tails: readonly Buffer[],
  timesMs: readonly number[],
  options: BatchOptions,
  codecs: Codecs,
): Promise<EncodedBatch> {
  const baseTimeMs = timesMs[0]!;
  let maxTimeMs = baseTimeMs;
  let size = 0;
  for (let i = 0; i < tails.length; i += 1) {
    maxTimeMs = Math.max(maxTimeMs, timesMs[i]!);
    const body = 1 + varintBytes(timesMs[i]! - baseTimeMs) + varintBytes(i) + tails[i]!.length;
    size += varintBytes(body) + body;
  }
  const plain = Buffer.allocUnsafe(batchHeaderBytes + size);
  let at = batchHeaderBytes;
  for (let i = 0; i < tails.length; i += 1) {
    const tail = tails[i]!;
    const deltaMs = timesMs[i]! - baseTimeMs;
    at = writeVarint(plain, 1 + varintBytes(deltaMs) + varintBytes(i) + tail.length, at);
    plain[at++] = 0;
    at = writeVarint(plain, deltaMs, at);
    at = writeVarint(plain, i, at);
    at += tail.copy(plain, at);
  }
  const bytes =
    options.codec === 0
      ? plain
      : Buffer.concat([
          plain.subarray(0, batchHeaderBytes),
          await codecs.compress(options.codec, plain.subarray(batchHeaderBytes)),
        ]);
  bytes.writeBigInt64BE(0n, 0);
  bytes.writeInt32BE(bytes.length - 12, 8);
  bytes.writeInt32BE(-1, 12);
  bytes[16] = 2;
  bytes.writeInt16BE(options.codec, 21);
  bytes.writeInt32BE(tails.length - 1, 23);
  bytes.writeBigInt64BE(BigInt(baseTimeMs), 27);
  bytes.writeBigInt64BE(BigInt(maxTimeMs), 35);
  bytes.writeBigInt64BE(options.producerId, 43);
  bytes.writeInt16BE(options.producerEpoch, 51);
  bytes.writeInt32BE(options.sequence, 53);
  bytes.writeInt32BE(tails.length, 57);
  bytes.writeUInt32BE(crc32c(bytes, 21), 17);
  return { bytes };
}

/**
 * Reads the batches of one partition, from `fromOffset` on. A batch that is cut off at the end is left out, and so are
 * control records and those of aborted transactions.
 */
export async function decodeBatches(
  bytes: Buffer,
  fromOffset: number,
  aborted: readonly AbortedTransaction[],
  codecs: Codecs,
): Promise<FetchedRecords> {
  const records: FetchedRecord[] = [];
  const abortedNow = new Set<bigint>();
  const toAbort = aborted.toSorted((a, b) => a.firstOffset - b.firstOffset);
  let nextOffset: number | undefined;
  let at = 0;
  while (at + batchHeaderBytes <= bytes.length) {
    const end = at + 12 + bytes.readInt32BE(at + 8);
    if (end > bytes.length) break;
    const baseOffset = Number(bytes.readBigInt64BE(at));
    if (bytes[at + 16] !== 2) {
      throw new KafkaError("refused", "the topic has records in a format from before Kafka 0.11");
    }
    const attributes = bytes.readInt16BE(at + 21);
    const lastOffset = baseOffset + bytes.readInt32BE(at + 23);
    const producerId = bytes.readBigInt64BE(at + 43);
    while (toAbort.length > 0 && toAbort[0]!.firstOffset <= lastOffset) {
      abortedNow.add(toAbort.shift()!.producerId);
    }
    const batch = bytes.subarray(at, end);
    if ((attributes & controlFlag) !== 0) abortedNow.delete(producerId);
    else if ((attributes & transactionalFlag) === 0 || !abortedNow.has(producerId)) {
      await decodeRecords(batch, attributes, baseOffset, fromOffset, codecs, records);
    }
    nextOffset = lastOffset + 1;
    at = end;
  }
  return { records, nextOffset, bytes: bytes.length };
}

async function decodeRecords(
  batch: Buffer,
  attributes: number,
  baseOffset: number,
  fromOffset: number,
  codecs: Codecs,
  into: FetchedRecord[],
): Promise<void> {
  if (crc32c(batch, 21) !== batch.readUInt32BE(17)) {
    throw new KafkaError("unavailable", "a batch of records was damaged on its way", "CORRUPT_MESSAGE");
  }
  const codec = attributes & codecMask;
  const packed = batch.subarray(batchHeaderBytes);
  const body = codec === 0 ? packed : await codecs.decompress(codec, packed);
  const baseTimeMs = Number(batch.readBigInt64BE(27));
  const appendTimeMs = (attributes & logAppendTimeFlag) === 0 ? undefined : Number(batch.readBigInt64BE(35));
  const reader = new VarintReader(body, 0);
  for (let left = batch.readInt32BE(57); left > 0; left -= 1) {
    const length = reader.next();
    const end = reader.at + length;
    reader.at += 1;
    const timestampMs = baseTimeMs + reader.next();
    const offset = baseOffset + reader.next();
    if (offset >= fromOffset) {
      const key = reader.bytes();
      const value = reader.bytes();
      const count = reader.next();
      const headers: (readonly [string, Buffer | null])[] = [];
      for (let i = 0; i < count; i += 1)
        headers.push([(reader.bytes() ?? noBytes).toString(), reader.bytes()]);
      into.push({ offset, timestampMs: appendTimeMs ?? timestampMs, key, value, headers });
    }
    reader.at = end;
  }
}

const noBytes = Buffer.alloc(0);

function byteLength(value: string | Uint8Array): number {
  return typeof value === "string" ? Buffer.byteLength(value) : value.byteLength;
}

function writeField(into: Buffer, value: string | Uint8Array | null, bytes: number, at: number): number {
  let position = writeVarint(into, bytes, at);
  if (value === null) return position;
  if (typeof value === "string") position += into.write(value, position);
  else {
    into.set(value, position);
    position += value.byteLength;
  }
  return position;
}
