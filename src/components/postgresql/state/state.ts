/** state.postgresql: items in Dapr's tables. */
import type { Call } from "../../../blocks/call.ts";
import {
  type ChunkedItem,
  type ChunkedWrite,
  EtagMismatch,
  type Item,
  type ListPage,
  type ListRange,
  type Precondition,
  type SetWrite,
  type StateDriver,
  ValueChanged,
  type WatchBatch,
  type WatchSelector,
  type Write,
} from "../../../blocks/state/driver.ts";
import type { Log } from "../../../telemetry/log.ts";
import { rechunk } from "../../rechunk.ts";
import type { Database } from "../database.ts";
import { classify, detailOf, PostgresError, raised } from "../errors.ts";
import { chunkBytes } from "./chunks.ts";
import { Cleanup } from "./cleanup.ts";
import { afterPrefix, isBefore } from "./key-range.ts";
import type { Layout } from "./layout.ts";
import { type Beside, type ItemRow, type Statements, statementsOf } from "./statements.ts";
import { Watch } from "./watch.ts";
import type { WriteRow } from "./write-function.ts";

const none = Buffer.alloc(0);
const jsonTypes = /^application\/(?:[^;]+\+)?json\s*(;|$)/i;

/** A state store on a server. */
export class PostgresState implements StateDriver {
  readonly supports = {
    transactions: true,
    timeToLive: true,
    list: true,
    watch: true,
    watchResume: true,
    chunks: true,
  };
  readonly classify = classify;
  readonly #database: Database;
  readonly #layout: Layout;
  readonly #statements: Statements;
  readonly #watch: Watch;
  readonly #cleanup: Cleanup;

  /** Works on tables that are there. */
  constructor(
    database: Database,
    layout: Layout,
    cleanupIntervalMs: number | undefined,
    metadataTable: string,
    log: Log,
  ) {
    this.#database = database;
    this.#layout = layout;
    this.#statements = statementsOf(layout);
    const reader = { get: this.get.bind(this), list: this.list.bind(this) };
    this.#watch = new Watch(database, layout, this.#statements, reader, log);
    this.#cleanup = new Cleanup(database, this.#statements, cleanupIntervalMs, metadataTable, layout, log);
  }

  /** Begins what goes on beside the calls. */
  async start(call: Call): Promise<void> {
    await this.#database.query(this.#statements.renew, [], call);
    this.#cleanup.start();
  }

  /** The tables were gone, and are there again: nobody has told what was in them. */
  madeAgain(): void {
    this.#watch.endAll();
  }

  async get(keys: readonly string[], call: Call): Promise<readonly (Item | undefined)[]> {
    const rows = await this.#read<ItemRow>(this.#statements.get, [keys], call);
    const items = new Map(rows.map((row) => [row.key, toItem(row)]));
    return keys.map((key) => items.get(key));
  }

  async write(writes: readonly Write[], call: Call): Promise<readonly string[]> {
    let bytes = 0;
    const values: Uint8Array[] = [];
    const rows = writes.map((write, index): WriteRow => {
      if (write.kind === "delete")
        return { i: index + 1, k: write.key, s: false, ...conditionOf(write.precondition) };
      const at = bytes;
      bytes += write.value.length;
      values.push(write.value);
      return { ...this.#setRow(index + 1, write), f: at, l: write.value.length };
    });
    // Copied, since what is given may change while the statement waits for a connection.
    return this.#write(rows, Buffer.concat(values), call);
  }

  async list({ prefix, after, limit, keysOnly }: ListRange, call: Call): Promise<ListPage> {
    const resumes = after !== undefined && !isBefore(after, prefix);
    const { list, listAfter, keys, keysAfter } = this.#statements;
    const text = keysOnly ? (resumes ? keysAfter : keys) : resumes ? listAfter : list;
    const values = [resumes ? after : prefix, afterPrefix(prefix), limit + 1];
    const rows = await this.#read<ItemRow & { fits: boolean }>(text, values, call);
    const full = rows.findIndex(({ fits }, index) => index === limit || !fits);
    const page = full < 0 ? rows : rows.slice(0, full);
    return { items: page.map(toItem), more: full >= 0 };
  }

  watch(selector: WatchSelector, call: Call): AsyncIterable<WatchBatch> {
    return this.#watch.watch(selector, call);
  }

  async read(key: string, call: Call): Promise<ChunkedItem | undefined> {
    const [row] = await this.#read<ItemRow>(this.#statements.stat, [key], call);
    if (!row) return undefined;
    const item = toItem(row);
    return { item, chunks: this.#pieces(item, besideOf(row)?.blob, call) };
  }

  async writeChunks(write: ChunkedWrite, chunks: AsyncIterable<Uint8Array>, call: Call): Promise<string> {
    const row = this.#setRow(1, write);
    let blob: number | undefined;
    let index = 0;
    let bytes = 0;
    try {
      for await (const { chunk, last } of rechunk(chunks, chunkBytes, call.signal)) {
        bytes += chunk.length;
        if (last && blob === undefined)
          return (await this.#write([{ ...row, f: 0, l: chunk.length }], Buffer.from(chunk), call))[0]!;
        if (blob === undefined) {
          const [made] = await this.#database.query<{ id: number }>(this.#statements.beginBlob, [], call);
          blob = made!.id;
        }
        if (chunk.length > 0)
          await this.#database.query(this.#statements.putChunk, [blob, index, chunk], call);
        index += 1;
      }
      call.signal.throwIfAborted();
      return (await this.#write([{ ...row, b: blob!, n: bytes }], none, call))[0]!;
    } catch (error) {
      // The signal may have aborted: the chunks are to go all the same. Cleaning up finds them if this fails.
      const drop = { signal: this.#database.closing };
      if (blob !== undefined)
        await this.#database.query(this.#statements.dropBlob, [blob], drop).catch(() => undefined);
      throw error;
    }
  }

  async ping(call: Call): Promise<void> {
    await this.#read("SELECT 1", [], call);
  }

  async close(): Promise<void> {
    await Promise.all([this.#watch.close(), this.#cleanup.close()]);
    await this.#database.close();
  }

  #setRow(
    index: number,
    write: Omit<SetWrite, "kind" | "value"> & {
      readonly key: string;
      readonly precondition: Precondition | undefined;
    },
  ): WriteRow {
    const { key, precondition, contentType, metadata, expiresAtMs } = write;
    let beside = "";
    if (contentType !== "") beside += `,"contentType":${JSON.stringify(contentType)}`;
    for (const _ in metadata) {
      beside += `,"metadata":${JSON.stringify(metadata)}`;
      break;
    }
    return {
      i: index,
      k: key,
      s: true,
      ...conditionOf(precondition),
      ...(beside !== "" && { o: beside }),
      ...(expiresAtMs !== undefined && { x: Math.ceil(expiresAtMs) }),
      ...(this.#layout.version === "v1" && (write.isJson || jsonTypes.test(contentType)) && { j: true }),
    };
  }

  async #write(rows: readonly WriteRow[], data: Uint8Array, call: Call): Promise<readonly string[]> {
    try {
      const values = [JSON.stringify(rows), data];
      type Answer = { etags: string[]; watched: boolean | null };
      const [answer] = await this.#database.query<Answer>(this.#statements.write, values, call);
      if (answer!.watched) this.#watch.ring();
      return answer!.etags;
    } catch (error) {
      if (error instanceof PostgresError && error.code === raised.etagMismatch)
        throw new EtagMismatch(detailOf(error));
      throw error;
    }
  }

  #read<Row extends object>(
    text: string,
    values: Parameters<Database["query"]>[1],
    call: Call,
  ): Promise<Row[]> {
    return this.#database.query<Row & Record<string, unknown>>(text, values, call, { idempotent: true });
  }

  async *#pieces(
    { key, etag, valueBytes }: Item,
    blob: number | undefined,
    call: Call,
  ): AsyncIterable<Uint8Array> {
    for (let index = 0; index * chunkBytes < valueBytes; index += 1) {
      const [row] =
        blob === undefined
          ? await this.#read<{ etag: string; data: Buffer }>(
              this.#statements.piece,
              [key, index * chunkBytes + 1, chunkBytes],
              call,
            )
          : await this.#read<{ etag?: string; data: Buffer }>(this.#statements.chunk, [blob, index], call);
      if (!row || (row.etag ?? etag) !== etag) {
        throw new ValueChanged("the value was overwritten while it was being read");
      }
      yield row.data;
    }
  }
}

function conditionOf(precondition: Precondition | undefined): { e?: string; a?: boolean } {
  if (!precondition) return {};
  return precondition.kind === "absent" ? { a: true } : { e: precondition.etag };
}

/** What is ours of an item; undefined when somebody else wrote the item since. */
function besideOf({ etag, outrider }: ItemRow): Beside | undefined {
  if (outrider === null) return undefined;
  const beside = JSON.parse(outrider) as Beside;
  return beside.etag === etag ? beside : undefined;
}

function toItem(row: ItemRow): Item {
  const beside = besideOf(row);
  return {
    key: row.key,
    value: beside?.blob === undefined ? (row.value ?? undefined) : undefined,
    valueBytes: beside?.bytes ?? row.bytes,
    etag: row.etag,
    contentType: beside?.contentType ?? "",
    metadata: beside?.metadata ?? {},
    expiresAtMs: row.expires ?? undefined,
  };
}
