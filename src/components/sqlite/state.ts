/** state.sqlite: items in the embedded store. The work is done in its thread. */
import type { Call } from "../../blocks/call.ts";
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
import { rechunk } from "../rechunk.ts";
import { chunkBytes } from "./chunks.ts";
import type { Lease } from "./databases.ts";
import { classify } from "./errors.ts";
import type { ItemRow, PlainSelector, WriteRow } from "./messages.ts";

/** Items in one message of a snapshot. */
const snapshotPageItems = 500;

/** A state store in a file. */
export class SqliteState implements StateDriver {
  readonly supports = {
    transactions: true,
    timeToLive: true,
    list: true,
    watch: true,
    watchResume: true,
    chunks: true,
  };
  readonly classify = classify;
  readonly #lease: Lease<"attachState">;
  readonly #timeoutMs: number;

  /** Calls may take `timeoutMs`, after which they are given up. */
  constructor(lease: Lease<"attachState">, timeoutMs: number) {
    this.#lease = lease;
    this.#timeoutMs = timeoutMs;
  }

  async get(
    keys: readonly string[],
    call: Call,
    maxBytes = Number.POSITIVE_INFINITY,
  ): Promise<readonly (Item | undefined)[]> {
    const { database, answer: store } = await this.#lease.opened();
    const ask = { store, keys, maxBytes };
    const { answer, blobs } = await database.ask("get", ask, call, [], this.#timeoutMs);
    const values = blobs.values();
    return answer.map((row) => row && toItem(row, values));
  }

  async write(writes: readonly Write[], call: Call): Promise<readonly string[]> {
    const rows = writes.map((write) => toRow(write, write.kind === "set" ? write : undefined));
    const values = writes.flatMap((write) => (write.kind === "set" ? [write.value] : []));
    const { database, answer: store } = await this.#lease.opened();
    return (await database.ask("write", { store, writes: rows }, call, values, this.#timeoutMs)).answer;
  }

  async list(range: ListRange, call: Call): Promise<ListPage> {
    const { database, answer: store } = await this.#lease.opened();
    const ask = { ...range, store };
    const { answer, blobs } = await database.ask("list", ask, call, [], this.#timeoutMs);
    const values = blobs.values();
    return { items: answer.items.map((row) => toItem(row, values)), more: answer.more };
  }

  async *watch(selector: WatchSelector, call: Call): AsyncIterable<WatchBatch> {
    const { resumeAfter } = selector;
    const plain: PlainSelector =
      selector.kind === "key"
        ? { kind: "key", key: selector.key }
        : { kind: "prefix", prefix: selector.prefix };
    const { database, answer: store } = await this.#lease.opened();
    // What changes while the snapshot is read comes once more, after it.
    let position: string;
    try {
      ({ answer: position } = await database.ask("position", { store, resumeAfter }, call));
      if (resumeAfter === undefined) yield* this.#snapshot(plain, position, call);
    } catch (error) {
      if (call.signal.aborted) return;
      throw error;
    }
    while (!call.signal.aborted) {
      const ask = { store, selector: plain, after: position };
      const { answer, blobs } = await database.wait("changes", ask, call);
      position = answer.position;
      const values = blobs.values();
      const changes = answer.changes.map(([key, row]) => ({ key, item: row && toItem(row, values) }));
      if (changes.length > 0) yield { changes, position, snapshotComplete: false };
    }
  }

  async read(key: string, call: Call): Promise<ChunkedItem | undefined> {
    const { database, answer: store } = await this.#lease.opened();
    const { answer } = await database.ask("stat", { store, key }, call, [], this.#timeoutMs);
    if (!answer) return undefined;
    const item = toItem(answer, [].values());
    return { item, chunks: this.#chunks(item, call) };
  }

  async writeChunks(write: ChunkedWrite, chunks: AsyncIterable<Uint8Array>, call: Call): Promise<string> {
    const row = toRow({ ...write, kind: "set" }, write);
    const { database, answer: store } = await this.#lease.opened();
    let blob: number | undefined;
    let index = 0;
    let bytes = 0;
    try {
      for await (const { chunk, last } of rechunk(chunks, chunkBytes, call.signal)) {
        bytes += chunk.length;
        if (last && blob === undefined) {
          const ask = { store, writes: [row] };
          return (await database.ask("write", ask, call, [chunk])).answer[0]!;
        }
        blob ??= (await database.ask("beginBlob", undefined, call)).answer;
        if (chunk.length > 0) await database.ask("putChunk", { blob, index }, call, [chunk]);
        index += 1;
      }
      call.signal.throwIfAborted();
      const ask = { store, blob: blob!, bytes, write: row };
      return (await database.ask("finishBlob", ask, call)).answer;
    } catch (error) {
      // The signal may have aborted: the chunks are to go all the same.
      const drop = { signal: new AbortController().signal };
      if (blob !== undefined) await database.ask("dropBlob", { blob }, drop).catch(() => undefined);
      throw error;
    }
  }

  async ping(call: Call): Promise<void> {
    const { database } = await this.#lease.opened();
    await database.ask("ping", undefined, call, [], this.#timeoutMs);
  }

  async close(): Promise<void> {
    await this.#lease.release();
  }

  async *#snapshot(selector: PlainSelector, position: string, call: Call): AsyncIterable<WatchBatch> {
    if (selector.kind === "key") {
      const [item] = await this.get([selector.key], call);
      yield { changes: item ? [{ key: item.key, item }] : [], position, snapshotComplete: true };
      return;
    }
    const { prefix } = selector;
    let after: string | undefined;
    for (;;) {
      const page = await this.list({ prefix, after, limit: snapshotPageItems, keysOnly: false }, call);
      const changes = page.items.map((item) => ({ key: item.key, item }));
      if (!page.more) {
        yield { changes, position, snapshotComplete: true };
        return;
      }
      yield { changes, position: undefined, snapshotComplete: false };
      after = page.items.at(-1)?.key;
    }
  }

  async *#chunks({ key, etag, valueBytes }: Item, call: Call): AsyncIterable<Uint8Array> {
    const { database, answer: store } = await this.#lease.opened();
    const pieces = Math.ceil(valueBytes / chunkBytes);
    for (let index = 0; index < pieces; index += 1) {
      const ask = { store, key, etag, index };
      const { blobs } = await database.ask("readChunk", ask, call, [], this.#timeoutMs);
      if (blobs[0]) yield blobs[0];
    }
  }
}

function toItem(row: ItemRow, values: Iterator<Uint8Array, unknown>): Item {
  const value = row.hasValue ? (values.next().value as Uint8Array) : undefined;
  return {
    key: row.key,
    value,
    valueBytes: row.bytes,
    etag: row.etag,
    contentType: row.contentType,
    metadata: row.metadata === undefined ? {} : (JSON.parse(row.metadata) as Record<string, string>),
    expiresAtMs: row.expiresAtMs,
  };
}

function toRow(
  { key, kind, precondition }: { key: string; kind: Write["kind"]; precondition: Precondition | undefined },
  options: ItemOptions | undefined,
): WriteRow {
  const metadata = options?.metadata ?? {};
  return {
    key,
    set: kind === "set",
    precondition,
    contentType: options?.contentType ?? "",
    metadata: Object.keys(metadata).length === 0 ? undefined : JSON.stringify(metadata),
    expiresAtMs: options?.expiresAtMs,
  };
}
