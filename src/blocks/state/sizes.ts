/** How much of a message items take, so that none gets longer than a server sends. */
import type { Item } from "./driver.ts";

/** Tags and lengths of an item's fields, its time, and its place in a list. */
const itemOverheadBytes = 64;
/** The same of one entry of metadata. */
const entryOverheadBytes = 16;

/** What an item takes without its value: at least that, in bytes. */
export function envelopeBytes(item: Item): number {
  let bytes =
    itemOverheadBytes +
    Buffer.byteLength(item.key) +
    Buffer.byteLength(item.etag) +
    Buffer.byteLength(item.contentType);
  for (const name in item.metadata) {
    bytes += entryOverheadBytes + Buffer.byteLength(name) + Buffer.byteLength(item.metadata[name]!);
  }
  return bytes;
}

/** Whether an item and its value fit by themselves. */
export function fits(item: Item, maxBytes: number): boolean {
  return envelopeBytes(item) + item.valueBytes <= maxBytes;
}

/** What an item takes with its value, or without where that does not fit by itself. */
export function fittedBytes(item: Item, maxBytes: number): number {
  const bytes = envelopeBytes(item);
  return bytes + item.valueBytes <= maxBytes ? bytes + item.valueBytes : bytes;
}

/** How many of the items, from the first on, fit together: one at least. */
export function countFitting(items: readonly Item[], maxBytes: number, keysOnly: boolean): number {
  let bytes = 0;
  for (const [index, item] of items.entries()) {
    bytes += keysOnly ? envelopeBytes(item) : fittedBytes(item, maxBytes);
    if (bytes > maxBytes && index > 0) return index;
  }
  return items.length;
}

/** The item without its value. */
export function withoutValue({ key, valueBytes, etag, contentType, metadata, expiresAtMs }: Item): Item {
  return { key, value: undefined, valueBytes, etag, contentType, metadata, expiresAtMs };
}

/** The longest piece of a value that is read in pieces, in bytes. */
const maxPieceBytes = 256 * 1024;

/** A value in pieces. */
export function* pieces(value: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < value.byteLength; at += maxPieceBytes) yield value.subarray(at, at + maxPieceBytes);
}
