/** state.redis: items as hashes, in the layout that Dapr has. */
import { randomBytes, randomUUID } from "node:crypto";
import type { Call } from "../../blocks/call.ts";
import {
  type ChunkedItem,
  type ChunkedWrite,
  EtagMismatch,
  type Item,
  type ListPage,
  type ListRange,
  type StateDriver,
  type StateSupports,
  ValueChanged,
  type WatchBatch,
  type WatchSelector,
  type Write,
} from "../../blocks/state/driver.ts";
import { notePrefix } from "../../blocks/state/keys.ts";
import type { OpenContext } from "../../component.ts";
import { fault } from "../../faults.ts";
import { rechunk } from "../rechunk.ts";
import { classify } from "./errors.ts";
import {
  describe,
  describingFields,
  longestPlainBytes,
  pieceBytes,
  type StoredItem,
  toItem,
} from "./item-fields.ts";
import { keysAfter, noteIndex, uploadMark } from "./key-scan.ts";
import { type Argument, Link, type Reply } from "./link.ts";
import { NoteIndex } from "./note-index.ts";
import type { ConnectionSettings } from "./settings.ts";
import { slotOf, slotTag } from "./slots.ts";
import { finishUploadScript, writeScript } from "./state-scripts.ts";
import { Watches } from "./watches.ts";

/** How long the pieces of a value that nobody finishes stay, in milliseconds. */
const uploadLifeMs = 60 * 60 * 1000;

/** A state store in Redis. */
export class RedisState implements StateDriver {
  readonly supports: StateSupports;
  readonly classify = classify;
  readonly watch?: (selector: WatchSelector, call: Call) => AsyncIterable<WatchBatch>;
  readonly beside?: (key: string, other: string) => string;
  readonly #link: Link;
  readonly #component: string;
  readonly #watches: Watches;
  readonly #notes: NoteIndex | undefined;
  /** With a number it makes an etag that nobody else gives. */
  readonly #origin = randomBytes(6).toString("base64url");
  #count = 0;

  private constructor(link: Link, component: string) {
    this.#link = link;
    this.#component = component;
    this.#watches = new Watches(link, (keys, call) => this.get(keys, call));
    // Invalidations come from each node of a cluster by itself, and are lost when a slot moves.
    const watch = !link.cluster;
    this.supports = {
      transactions: true,
      timeToLive: true,
      list: true,
      watch,
      watchResume: false,
      chunks: true,
    };
    if (watch) this.watch = (selector, call) => this.#watches.watch(selector, call);
    if (link.cluster) this.beside = (key, other) => `${key}{${slotTag(other)}}`;
    else this.#notes = new NoteIndex(link);
  }

  /** Connects. Throws RedisFailure when it cannot. */
  static async open(settings: ConnectionSettings, context: OpenContext): Promise<RedisState> {
    return new RedisState(await Link.open(settings, context), context.name);
  }

  async get(keys: readonly string[], call: Call): Promise<readonly (Item | undefined)[]> {
    return Promise.all(keys.map((key) => this.#item(key, call)));
  }

  async write(writes: readonly Write[], call: Call): Promise<readonly string[]> {
    if (this.#link.cluster) this.#checkSlots(writes);
    const keys = writes.map(({ key }) => key);
    if (this.#notes && keys.some((key) => key.startsWith(notePrefix))) keys.push(noteIndex);
    const answer = await this.#link.run(
      writeScript,
      keys,
      writes.flatMap((write) => this.#arguments(write)),
      call,
    );
    if (typeof answer === "number") throw new EtagMismatch(writes[answer]!.key);
    await this.#link.replicated(call);
    return (answer as readonly Reply[]).map(String);
  }

  async list({ prefix, after, limit, keysOnly }: ListRange, call: Call): Promise<ListPage> {
    if (this.#notes && prefix.startsWith(notePrefix))
      return this.#listNotes(this.#notes, { prefix, after, limit, keysOnly }, call);
    const keys = await keysAfter(this.#link, prefix, after, call);
    const items: Item[] = [];
    // What has expired or is no item shortens no page.
    for (let next = 0; next < keys.length; ) {
      const slice = keys.slice(next, next + limit + 1 - items.length);
      const found = await this.#found(slice, keysOnly, call);
      next += slice.length;
      for (const item of found) if (item) items.push(item);
      if (items.length > limit) return { items: items.slice(0, limit), more: true };
    }
    return { items, more: false };
  }

  async read(key: string, call: Call): Promise<ChunkedItem | undefined> {
    const stored = await this.#stored(key, false, call);
    if (!stored) return undefined;
    const item = await this.#withExpiry(stored, call);
    if (!item) return undefined;
    return { item, chunks: stored.inPieces ? this.#pieces(item, call) : this.#whole(item, call) };
  }

  async writeChunks(write: ChunkedWrite, chunks: AsyncIterable<Uint8Array>, call: Call): Promise<string> {
    const { key } = write;
    const upload = this.#link.cluster
      ? `outrider:{${slotTag(key)}}${uploadMark}${randomUUID()}`
      : // A user may be kept from keys that begin otherwise.
        `${key}${uploadMark}${randomUUID()}`;
    let pieces = 0;
    let bytes = 0;
    try {
      for await (const { chunk, last } of rechunk(chunks, pieceBytes, call.signal)) {
        bytes += chunk.length;
        if (last && pieces === 0) {
          const [etag] = await this.write([{ ...write, kind: "set", value: chunk }], call);
          return etag!;
        }
        if (chunk.length === 0) continue;
        await this.#link.send(["HSET", upload, `data.${pieces}`, toBuffer(chunk)], call, { repeat: true });
        if (pieces === 0) await this.#link.send(["PEXPIRE", upload, uploadLifeMs], call, { repeat: true });
        pieces += 1;
      }
      call.signal.throwIfAborted();
      const precondition = write.precondition;
      const answer = await this.#link.run(
        finishUploadScript,
        [key, upload],
        [
          precondition?.kind ?? "",
          precondition?.kind === "etag" ? precondition.etag : "",
          this.#unique(),
          ...describe(write),
          pieces,
          bytes > longestPlainBytes ? bytes : "",
        ],
        call,
      );
      if (answer === 0) throw new EtagMismatch(key);
      await this.#link.replicated(call);
      return String(answer);
    } catch (error) {
      // The signal may have aborted: the pieces are to go all the same. They go by themselves if this fails.
      if (pieces > 0)
        this.#link.send(["UNLINK", upload], { signal: AbortSignal.timeout(5000) }).catch(() => {});
      throw call.signal.aborted ? call.signal.reason : error;
    }
  }

  async ping(call: Call): Promise<void> {
    await this.#link.send(["PING"], call);
  }

  async close(): Promise<void> {
    this.#watches.close();
    this.#link.close();
  }

  async #listNotes(
    notes: NoteIndex,
    { prefix, after, limit, keysOnly }: ListRange,
    call: Call,
  ): Promise<ListPage> {
    const items: Item[] = [];
    for (let last = after; ; ) {
      const keys = await notes.after(prefix, last, limit + 1 - items.length, call);
      if (keys.length === 0) return { items, more: false };
      last = keys.at(-1);
      const found = await this.#found(keys, keysOnly, call);
      for (const item of found) if (item) items.push(item);
      await notes.forget(
        keys.filter((_, index) => !found[index]),
        call,
      );
      if (items.length > limit) return { items: items.slice(0, limit), more: true };
    }
  }

  #found(keys: readonly string[], keysOnly: boolean, call: Call): Promise<readonly (Item | undefined)[]> {
    return Promise.all(keys.map((key) => (keysOnly ? this.#describe(key, call) : this.#item(key, call))));
  }

  async #item(key: string, call: Call): Promise<Item | undefined> {
    const stored = await this.#stored(key, true, call);
    return stored && this.#withExpiry(stored, call);
  }

  /** The item without its value. */
  async #describe(key: string, call: Call): Promise<Item | undefined> {
    const stored = await this.#stored(key, false, call);
    return stored && this.#withExpiry(stored, call);
  }

  async #stored(key: string, value: boolean, call: Call): Promise<StoredItem | undefined> {
    const repeat = { repeat: true };
    if (value) {
      const [data, ...rest] = (await this.#link.send(
        ["HMGET", key, "data", ...describingFields],
        call,
        repeat,
      )) as [Buffer | null, ...Reply[]];
      return toItem(key, data ?? Buffer.alloc(0), data?.length ?? 0, rest);
    }
    const [fields, bytes] = await Promise.all([
      this.#link.send(["HMGET", key, ...describingFields], call, repeat),
      this.#link.send(["HSTRLEN", key, "data"], call, repeat),
    ]);
    return toItem(key, undefined, Number(bytes), fields as Reply[]);
  }

  /** Of an item that somebody else wrote, Redis alone knows when it expires. */
  async #withExpiry({ item, foreign }: StoredItem, call: Call): Promise<Item | undefined> {
    if (!foreign) return item;
    const left = Number(await this.#link.send(["PTTL", item.key], call, { repeat: true }));
    if (left === -2) return undefined;
    return left < 0 ? item : { ...item, expiresAtMs: Date.now() + left };
  }

  #arguments(write: Write): Argument[] {
    const { kind, precondition } = write;
    const condition: Argument[] = [
      kind,
      precondition?.kind ?? "",
      precondition?.kind === "etag" ? precondition.etag : "",
    ];
    if (write.kind === "delete") return [...condition, "", "", "", "", "", ""];
    const { value } = write;
    const long = value.byteLength > longestPlainBytes ? value.byteLength : "";
    return [...condition, this.#unique(), ...describe(write), toBuffer(value), long];
  }

  #unique(): string {
    this.#count += 1;
    return `${this.#origin}${this.#count.toString(36)}`;
  }

  /** A cluster does in one go what is in one slot, and nothing else. */
  #checkSlots(writes: readonly Write[]): void {
    const [first, ...rest] = writes;
    const slot = slotOf(first!.key);
    const other = rest.find(({ key }) => slotOf(key) !== slot);
    if (!other) return;
    throw fault(
      "NOT_SUPPORTED",
      `state store "${this.#component}" is a Redis Cluster: the keys of a transaction must be in one slot; ` +
        "give them a part in braces in common, such as {order-1}/items and {order-1}/total",
      { metadata: { component: this.#component, capability: "cross-slot-transactions" } },
    );
  }

  async *#whole({ key, etag }: Item, call: Call): AsyncIterable<Uint8Array> {
    const item = await this.#stored(key, true, call);
    if (!item || item.item.etag !== etag) throw new ValueChanged("the item was overwritten");
    const value = item.item.value ?? ((await this.#link.send(["HGET", key, "data"], call)) as Buffer | null);
    if (!value) return;
    for (let at = 0; at < value.length; at += pieceBytes) yield value.subarray(at, at + pieceBytes);
  }

  async *#pieces({ key, etag, valueBytes }: Item, call: Call): AsyncIterable<Uint8Array> {
    const count = Math.ceil(valueBytes / pieceBytes);
    for (let index = 0; index < count; index++) {
      const [version, found, piece] = (await this.#link.send(
        ["HMGET", key, "version", "etag", `data.${index}`],
        call,
        { repeat: true },
      )) as [Buffer | null, Buffer | null, Buffer | null];
      const same = found !== null && String(found) === etag && etag.startsWith(`${version}.`);
      if (!same || piece === null) throw new ValueChanged("the item was overwritten");
      yield piece;
    }
  }
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
