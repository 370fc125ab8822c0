/** How an item is laid out in a hash, and read again. */
import { type Item, type ItemOptions, maxValueBytes } from "../../blocks/state/driver.ts";
import type { Reply } from "./link.ts";

/** What `HMGET` is asked for. The value comes first, where it is asked for at all. */
export const describingFields = ["version", "etag", "contentType", "metadata", "expires", "bytes"] as const;

/** Values longer than this are kept in pieces of `pieceBytes`, in fields of their own. */
export const longestPlainBytes = maxValueBytes;
export const pieceBytes = 256 * 1024;

/** An item as it was read. */
export interface StoredItem {
  readonly item: Item;
  /** True: the value is in pieces. */
  readonly inPieces: boolean;
  /** True: somebody else wrote it, so that only Redis knows when it expires. */
  readonly foreign: boolean;
}

/** Reads what `HMGET` answered for `describingFields`. Undefined when there is no item. */
export function toItem(
  key: string,
  data: Buffer | undefined,
  dataBytes: number,
  fields: readonly Reply[],
): StoredItem | undefined {
  const [version, etagField, contentType, metadata, expires, bytes] = fields.map((field) =>
    field === null || field === undefined ? undefined : String(field),
  );
  if (version === undefined) return undefined;
  const ours = etagField?.startsWith(`${version}.`) ?? false;
  const inPieces = ours && bytes !== undefined;
  const valueBytes = inPieces ? Number(bytes) : dataBytes;
  const item: Item = {
    key,
    value: inPieces || data === undefined || valueBytes > maxValueBytes ? undefined : data,
    valueBytes,
    etag: ours ? etagField! : etagField === undefined ? version : `${version}@${etagField}`,
    contentType: (ours && contentType) || "",
    metadata: ours && metadata ? (JSON.parse(metadata) as Record<string, string>) : {},
    expiresAtMs: ours && expires ? Number(expires) : undefined,
  };
  return { item, inPieces, foreign: !ours };
}

/** What is stored beside a value: content type, metadata, expiry. */
export function describe({ contentType, metadata, expiresAtMs }: ItemOptions): [string, string, string] {
  const json = Object.keys(metadata).length === 0 ? "" : JSON.stringify(metadata);
  return [contentType, json, expiresAtMs === undefined ? "" : String(Math.ceil(expiresAtMs))];
}
