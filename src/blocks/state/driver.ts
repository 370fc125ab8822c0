/** What a state store must do, and no more. What is the same for all stores is in `store.ts`. */
import type { Call, ErrorClass, Hints } from "../call.ts";

/**
 * A state store.
 *
 * Drivers throw what their library throws. They never wrap errors, retry, log
 * or read the environment. Methods may be called concurrently, in any order,
 * until `close`. Keys arrive with their prefix and checked.
 *
 * An item whose `expiresAtMs` has passed is not there, for every method.
 */
export interface StateDriver {
  /** Fixed for the driver's life. The conformance suite holds it to every claim and every absence. */
  readonly supports: StateSupports;

  /**
   * Reads items, one result for each key in order; undefined where there is none. Sees every answered write.
   * Values past `maxBytes`, of all of them together, are of no use to the caller: a store that can do without reading them
   * leaves them out.
   */
  get(keys: readonly string[], call: Call, maxBytes?: number): Promise<readonly (Item | undefined)[]>;

  /**
   * Applies the writes in order and returns an etag for each, "" for a deletion.
   * All or none; without `supports.transactions` there is exactly one. No key twice.
   * Resolves when they are durable. Throws EtagMismatch when a precondition fails.
   * `needsEtags` false: the caller has no use for the etags, so a store that would have to read them answers "".
   */
  write(writes: readonly Write[], call: Call, needsEtags?: boolean): Promise<readonly string[]>;

  /**
   * Several sets, or several deletions, each by itself, in one request to the store. Throws when any of them failed.
   * Stores that answer many requests at once do without it.
   */
  writeEach?(writes: readonly Write[], call: Call): Promise<void>;

  /** How many writes can be made together; undefined: as many as anybody asks for. */
  readonly maxWrites?: number | undefined;

  /** Items by what is in them, in the words of Dapr's query API. */
  query?(query: StateQuery, call: Call): Promise<QueryPage>;

  /** With `supports.list`: items in ascending order of their keys' UTF-8 bytes. */
  list?(range: ListRange, call: Call): Promise<ListPage>;

  /**
   * With `supports.watch`: batches of changes, never empty except to carry
   * `snapshotComplete`. Waits for changes; changes of one key may be merged
   * into the last. Ends when the signal aborts. Throws PositionExpired when
   * `resumeAfter` is too old.
   */
  watch?(selector: WatchSelector, call: Call): AsyncIterable<WatchBatch>;

  /** With `supports.chunks`: one item and its value in pieces; undefined when there is none. */
  read?(key: string, call: Call): Promise<ChunkedItem | undefined>;

  /**
   * With `supports.chunks`: writes one item of any size; the item changes all
   * at once when the last chunk has come. Holds no more than a few chunks in memory.
   * When `chunks` throws, or the signal aborts, nothing has changed and the
   * error is thrown on. Throws EtagMismatch.
   */
  writeChunks?(write: ChunkedWrite, chunks: AsyncIterable<Uint8Array>, call: Call): Promise<string>;

  /**
   * Where not any keys can be in one transaction: `key`, changed so that it and `other` can. It still
   * begins as it did. Without this method, any two can.
   */
  beside?(key: string, other: string): string;

  /** Resolves when the store answers. */
  ping(call: Call): Promise<void>;

  /** Classifies an error that this driver threw; undefined when it is unknown. */
  classify(error: unknown): ErrorClass | undefined;

  /** Releases every resource. No other call follows. */
  close(): Promise<void>;
}

/** What a state store can do beyond get and write. */
export interface StateSupports {
  /** Several writes, all or none. */
  readonly transactions: boolean;
  /** `expiresAtMs`. */
  readonly timeToLive: boolean;
  /** `list`. */
  readonly list: boolean;
  /** `watch`. */
  readonly watch: boolean;
  /** `resumeAfter` in `watch`. */
  readonly watchResume: boolean;
  /** `read` and `writeChunks`. */
  readonly chunks: boolean;
  /** Etags and preconditions; without them every etag is "". Absent: yes. */
  readonly etags?: boolean;
  /** `ItemOptions.metadata`. Absent: yes. */
  readonly metadata?: boolean;
}

/** An item as a store has it. */
export interface Item {
  readonly key: string;
  /** Undefined where the store left it out: `keysOnly`, or it is longer than `maxValueBytes`. */
  readonly value: Uint8Array | undefined;
  readonly valueBytes: number;
  /** Never given twice by the store, not even to another item or after a deletion. */
  readonly etag: string;
  readonly contentType: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Milliseconds since 1970; undefined: never. */
  readonly expiresAtMs: number | undefined;
}

/** The largest value, in bytes, that `get`, `list` and `watch` put into `Item.value`. */
export const maxValueBytes = 16 * 1024 * 1024;

/** What must be true for a write to happen. */
export type Precondition = { readonly kind: "etag"; readonly etag: string } | { readonly kind: "absent" };

/** One write. */
export type Write = {
  readonly key: string;
  readonly precondition: Precondition | undefined;
  /** As in a Call, for this write. */
  readonly hints?: Hints | undefined;
} & (SetWrite | { readonly kind: "delete" });

/** What a write sets. */
export interface SetWrite extends ItemOptions {
  readonly kind: "set";
  readonly value: Uint8Array;
  /** True: the value is a JSON text, although the content type need not say so. */
  readonly isJson?: boolean | undefined;
}

/** What is stored beside a value. */
export interface ItemOptions {
  readonly contentType: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Milliseconds since 1970; undefined: never. */
  readonly expiresAtMs: number | undefined;
}

/** A write whose value comes in chunks. */
export interface ChunkedWrite extends ItemOptions {
  readonly key: string;
  readonly precondition: Precondition | undefined;
}

/** An item whose value is read in pieces. */
export interface ChunkedItem {
  readonly item: Item;
  /** The value in order, pieces of at most 256 KiB. Throws ValueChanged when it was overwritten meanwhile. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** Which items to list. */
export interface ListRange {
  readonly prefix: string;
  /** Only keys after this one. */
  readonly after: string | undefined;
  /** Items at most, 1 to 1,000. */
  readonly limit: number;
  /** True: values are left out. */
  readonly keysOnly: boolean;
}

/** A page of items. */
export interface ListPage {
  readonly items: readonly Item[];
  /** Whether there are more after the last of `items`. */
  readonly more: boolean;
}

/** What to watch: one key, or a prefix. */
export type WatchSelector = (
  | { readonly kind: "key"; readonly key: string }
  | { readonly kind: "prefix"; readonly prefix: string }
) & {
  /** A position of an earlier batch: no snapshot, what came after it. Only with `supports.watchResume`. */
  readonly resumeAfter: string | undefined;
};

/** Changes, in the order in which they happened for each key. */
export interface WatchBatch {
  readonly changes: readonly Change[];
  /** Where to resume after this batch; undefined within the snapshot and where the store cannot. */
  readonly position: string | undefined;
  /** True in exactly one batch of a watch that began with a snapshot: the last of the snapshot. */
  readonly snapshotComplete: boolean;
}

/** A change: the item as it is now, or undefined when it is gone. */
export interface Change {
  readonly key: string;
  readonly item: Item | undefined;
}

/** Which items a store is asked for, and in which order. */
export interface StateQuery {
  /** The operators at the top and what they are given, as JSON. */
  readonly filter: Readonly<Record<string, string>>;
  readonly sort: readonly { readonly key: string; readonly descending: boolean }[];
  /** Items at most; 0: as the store likes. */
  readonly limit: number;
  /** Of the page before; "" for the first. */
  readonly token: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What a store found. */
export interface QueryPage {
  readonly items: readonly QueriedItem[];
  /** For the next page; "" after the last. */
  readonly token: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** An item that a store found. */
export interface QueriedItem extends Pick<Item, "key" | "etag"> {
  readonly value: Uint8Array;
  /** Why it could not be read; "" otherwise. */
  readonly error: string;
}

/** A precondition failed; nothing was written. */
export class EtagMismatch extends Error {
  override readonly name = "EtagMismatch";
  /** The key of the write at fault. */
  readonly key: string;

  constructor(key: string) {
    super("the precondition of a write is not met");
    this.key = key;
  }
}

/** `resumeAfter` is older than what the store remembers. */
export class PositionExpired extends Error {
  override readonly name = "PositionExpired";
}

/** A value was overwritten while it was being read in chunks. */
export class ValueChanged extends Error {
  override readonly name = "ValueChanged";
}
