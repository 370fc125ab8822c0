import { randomBytes } from "node:crypto";
import * as z from "zod";
import type { Call, ErrorClass } from "../../blocks/call.ts";
import type {
  ChunkedItem,
  ChunkedWrite,
  Item,
  ItemOptions,
  ListPage,
  ListRange,
  Precondition,
  StateDriver,
  WatchBatch,
  WatchSelector,
  Write,
} from "../../blocks/state/driver.ts";
import { EtagMismatch, maxValueBytes } from "../../blocks/state/driver.ts";
import { untilAborted } from "../../blocks/until-aborted.ts";
import { component } from "../../component.ts";
import { timerMs } from "../../timer.ts";
import { ExpiryQueue } from "./expiry-queue.ts";
import { SortedKeys } from "./sorted-keys.ts";
import { Watchers } from "./watchers.ts";

/** Keeps state in this process: for development, tests and caches. Nothing survives the process. */
export const memoryState = component({
  type: "state.in-memory",
  versions: ["v1"],
  schema: z.strictObject({}),
  open: async () => new MemoryState(),
});

/** The longest pieces that `read` gives. */
const maxPieceBytes = 256 * 1024;

/** Values in chunks are held in memory whole, like all values here. */
class MemoryState implements StateDriver {
  readonly supports = {
    transactions: true,
    timeToLive: true,
    list: true,
    watch: true,
    watchResume: false,
    chunks: true,
  };

  readonly #items = new Map<string, Entry>();
  readonly #keys = new SortedKeys();
  readonly #expiring = new ExpiryQueue<Entry>();
  readonly #watchers = new Watchers();
  /** Another in each life of a store, so that an etag of an earlier one matches nothing. */
  readonly #etagPrefix = `${randomBytes(6).toString("base64url")}-`;
  #etagCount = 0;
  #timer: NodeJS.Timeout | undefined;
  /** When the timer fires, milliseconds since 1970. */
  #timerAtMs = Number.POSITIVE_INFINITY;

  get(keys: readonly string[]): Promise<readonly (Item | undefined)[]> {
    if (keys.length === 1) return Promise.resolve([this.#current(keys[0]!)]);
    return Promise.resolve(keys.map((key) => this.#current(key)));
  }

  async write(writes: readonly Write[]): Promise<readonly string[]> {
    for (const { key, precondition } of writes) {
      if (precondition !== undefined) this.#check(key, precondition);
    }
    if (writes.length === 1) return [this.#apply(writes[0]!)];
    return writes.map((write) => this.#apply(write));
  }

  async list(range: ListRange): Promise<ListPage> {
    const { items, more } = this.#page(range.prefix, range.after, range.limit);
    return { items: range.keysOnly ? items.map(withoutValue) : items, more };
  }

  watch(selector: WatchSelector, call: Call): AsyncIterable<WatchBatch> {
    const store = {
      current: (key: string) => this.#current(key),
      page: (prefix: string, after: string | undefined, limit: number) => this.#page(prefix, after, limit),
    };
    return this.#watchers.watch(store, selector, call.signal);
  }

  async read(key: string): Promise<ChunkedItem | undefined> {
    const item = this.#current(key);
    return item && { item, chunks: pieces(item.parts) };
  }

  async writeChunks(write: ChunkedWrite, chunks: AsyncIterable<Uint8Array>, call: Call): Promise<string> {
    const { key, precondition } = write;
    if (precondition !== undefined) this.#check(key, precondition);
    const parts: Uint8Array[] = [];
    for await (const chunk of untilAborted(chunks, call.signal)) {
      if (chunk.byteLength > 0) parts.push(new Uint8Array(chunk));
    }
    call.signal.throwIfAborted();
    // Again, because the item may have changed while the chunks came.
    if (precondition !== undefined) this.#check(key, precondition);
    const valueBytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
    return this.#put(
      key,
      valueBytes > maxValueBytes ? parts : [joined(parts, valueBytes)],
      valueBytes,
      write,
    );
  }

  async ping(): Promise<void> {}

  classify(error: unknown): ErrorClass | undefined {
    return error instanceof Error && error.name === "AbortError" ? "cancelled" : undefined;
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#watchers.endAll();
    this.#items.clear();
    this.#keys.clear();
    this.#expiring.clear();
  }

  #current(key: string): Entry | undefined {
    const entry = this.#items.get(key);
    if (entry?.expiresAtMs !== undefined && entry.expiresAtMs <= Date.now()) return undefined;
    return entry;
  }

  #check(key: string, precondition: Precondition): void {
    const entry = this.#current(key);
    const met = precondition.kind === "absent" ? entry === undefined : entry?.etag === precondition.etag;
    if (!met) throw new EtagMismatch(key);
  }

  #apply(write: Write): string {
    if (write.kind === "delete") {
      const entry = this.#items.get(write.key);
      if (entry !== undefined) this.#remove(entry);
      return "";
    }
    // A copy: the value may be a small part of a large network buffer that would stay with it.
    const value = new Uint8Array(write.value);
    return this.#put(write.key, [value], value.byteLength, write);
  }

  #put(key: string, parts: readonly Uint8Array[], valueBytes: number, options: ItemOptions): string {
    const etag = this.#etagPrefix + (this.#etagCount++).toString(36);
    const entry = new Entry(key, parts, valueBytes, etag, options);
    const before = this.#items.get(key);
    if (before === undefined) this.#keys.add(key);
    else this.#expiring.remove(before);
    this.#items.set(key, entry);
    if (entry.expiresAtMs !== undefined) {
      this.#expiring.add(entry);
      this.#wakeAt(entry.expiresAtMs);
    }
    this.#watchers.changed(key, before !== undefined);
    return etag;
  }

  #remove(entry: Entry): void {
    this.#items.delete(entry.key);
    this.#keys.remove(entry.key);
    this.#expiring.remove(entry);
    this.#watchers.changed(entry.key, true);
  }

  #page(prefix: string, after: string | undefined, limit: number): { items: Entry[]; more: boolean } {
    const items: Entry[] = [];
    for (const key of this.#keys.from(prefix, after, (known) => this.#items.has(known))) {
      if (!key.startsWith(prefix)) break;
      const entry = this.#current(key);
      if (entry === undefined) continue;
      if (items.length === limit) return { items, more: true };
      items.push(entry);
    }
    return { items, more: false };
  }

  #wakeAt(timeMs: number): void {
    if (timeMs >= this.#timerAtMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = timeMs;
    // What is too far away for a timer is looked at again when it fires.
    this.#timer = setTimeout(() => this.#expire(), timerMs(timeMs - Date.now())).unref();
  }

  #expire(): void {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const nowMs = Date.now();
    let first = this.#expiring.first;
    for (; first?.expiresAtMs !== undefined && first.expiresAtMs <= nowMs; first = this.#expiring.first) {
      this.#remove(first);
    }
    if (first?.expiresAtMs !== undefined) this.#wakeAt(first.expiresAtMs);
  }
}

/** An item as it is kept, and as it is given away: no reader may change it. */
class Entry implements Item {
  readonly key: string;
  readonly value: Uint8Array | undefined;
  readonly valueBytes: number;
  readonly etag: string;
  readonly contentType: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly expiresAtMs: number | undefined;
  /** The whole value, also where `value` is left out. */
  readonly parts: readonly Uint8Array[];
  queueIndex = -1;

  constructor(
    key: string,
    parts: readonly Uint8Array[],
    valueBytes: number,
    etag: string,
    options: ItemOptions,
  ) {
    this.key = key;
    this.value = valueBytes > maxValueBytes ? undefined : parts[0];
    this.valueBytes = valueBytes;
    this.etag = etag;
    this.contentType = options.contentType;
    this.metadata = options.metadata;
    this.expiresAtMs = options.expiresAtMs;
    this.parts = parts;
  }
}

function withoutValue(entry: Entry): Item {
  const { key, valueBytes, etag, contentType, metadata, expiresAtMs } = entry;
  return { key, value: undefined, valueBytes, etag, contentType, metadata, expiresAtMs };
}

function joined(parts: readonly Uint8Array[], valueBytes: number): Uint8Array {
  const value = new Uint8Array(valueBytes);
  let at = 0;
  for (const part of parts) {
    value.set(part, at);
    at += part.byteLength;
  }
  return value;
}

async function* pieces(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    for (let at = 0; at < part.byteLength; at += maxPieceBytes) yield part.subarray(at, at + maxPieceBytes);
  }
}
