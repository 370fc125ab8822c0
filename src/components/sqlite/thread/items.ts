/** The items of state stores. */
import {
  EtagMismatch,
  maxValueBytes,
  type Precondition,
  ValueChanged,
} from "../../../blocks/state/driver.ts";
import { chunkBytes } from "../chunks.ts";
import { StoreError } from "../errors.ts";
import type { Ask, ItemRow, PlainSelector, WriteRow } from "../messages.ts";
import type { BlobTable } from "./blobs.ts";
import type { Counters } from "./counters.ts";
import type { StoreFile } from "./file.ts";

/** Values over this are kept in chunks, so that no page of items is slow because of one. */
const maxInlineBytes = 1024 * 1024;

/** Bytes of values in one answer to `list` or `changes`; the first item always goes in. */
const maxAnswerBytes = 8 * 1024 * 1024;

/** Changes in one answer to `changes`. */
const maxChanges = 1000;

/** Expired items that one transaction turns into deletions. */
const expirePerSweep = 500;

/** For how long a deletion is remembered, for watches that resume. */
const tombstoneMs = 60 * 60 * 1000;

/** Deletions that one transaction forgets. */
const forgetPerSweep = 500;

/** What the table has of an item. */
interface Row {
  readonly key: string;
  readonly revision: number;
  readonly bytes: number;
  readonly content_type: string;
  readonly metadata: string | null;
  readonly expires_at: number | null;
  readonly deleted_at: number | null;
  readonly blob: number | null;
  readonly value?: Uint8Array | null;
}

/** Items and the values that go with them, in order. */
export interface ItemsAnswer<Answer> {
  readonly answer: Answer;
  readonly blobs: readonly Uint8Array[];
}

const columns = "key, revision, bytes, content_type, metadata, expires_at, deleted_at, blob";
const live = "deleted_at IS NULL AND (expires_at IS NULL OR expires_at > :now)";

/** Reads and writes items. Every method belongs in a transaction. */
export class ItemTable {
  readonly #counters: Counters;
  readonly #blobs: BlobTable;
  readonly #statements: ReturnType<typeof prepare>;

  constructor(file: StoreFile, counters: Counters, blobs: BlobTable) {
    this.#counters = counters;
    this.#blobs = blobs;
    this.#statements = prepare(file);
  }

  /** The id of a store, which is made if need be. */
  attach(name: string): number {
    this.#statements.makeStore.run(name);
    return this.#statements.store.get(name)!.id;
  }

  get({ store, keys, maxBytes }: Ask<"get">): ItemsAnswer<(ItemRow | undefined)[]> {
    const blobs: Uint8Array[] = [];
    const now = Date.now();
    let bytes = 0;
    const answer = keys.map((key) => {
      const row = this.#statements.get.get(store, key);
      if (!row || !isLive(row, now)) return undefined;
      bytes += sentBytes(row);
      return this.#toItem(row, bytes <= maxBytes, blobs);
    });
    return { answer, blobs };
  }

  /** Checks every precondition, then writes: a write that throws has changed nothing. */
  write(store: number, writes: readonly WriteRow[], values: readonly Uint8Array[]): string[] {
    const now = Date.now();
    const found = writes.map(({ key, precondition }) => this.#check(store, key, precondition, now));
    let next = 0;
    return writes.map((write, index) => {
      const old = found[index];
      if (!write.set) return old && isLive(old, now) ? this.#delete(store, old, now) : "";
      const value = values[next++]!;
      const blob = value.length > maxInlineBytes ? this.#blobs.write(value) : null;
      return this.#put(store, write, value.length, blob, blob === null ? value : null, old);
    });
  }

  /** Points an item to a value that has been written in chunks. */
  writeBlob({ store, blob, bytes, write }: Ask<"finishBlob">): string {
    const old = this.#check(store, write.key, write.precondition, Date.now());
    if (!this.#blobs.keep(blob)) {
      throw new StoreError("unavailable", "the chunks were given up before the last one came");
    }
    return this.#put(store, write, bytes, blob, null, old);
  }

  list({
    store,
    prefix,
    after,
    limit,
    keysOnly,
  }: Ask<"list">): ItemsAnswer<{ items: ItemRow[]; more: boolean }> {
    const resumes = after !== undefined && Buffer.compare(Buffer.from(after), Buffer.from(prefix)) >= 0;
    const { list, listAfter, listKeys, listKeysAfter } = this.#statements;
    const statement = keysOnly ? (resumes ? listKeysAfter : listKeys) : resumes ? listAfter : list;
    const rows = statement.iterate({
      store,
      from: resumes ? after : prefix,
      end: afterPrefix(prefix),
      now: Date.now(),
      limit: limit + 1,
    });
    const items: ItemRow[] = [];
    const blobs: Uint8Array[] = [];
    let bytes = 0;
    for (const row of rows) {
      if (!keysOnly) bytes += sentBytes(row);
      if (items.length === limit || (items.length > 0 && bytes > maxAnswerBytes)) {
        return { answer: { items, more: true }, blobs };
      }
      items.push(this.#toItem(row, !keysOnly, blobs));
    }
    return { answer: { items, more: false }, blobs };
  }

  /** An item without its value. */
  stat({ store, key }: Ask<"stat">): ItemRow | undefined {
    const row = this.#statements.stat.get(store, key);
    return row && isLive(row, Date.now()) ? this.#toItem(row, false, []) : undefined;
  }

  /** A piece of a value; undefined after the last. Throws ValueChanged. */
  chunk({ store, key, etag, index }: Ask<"readChunk">): Uint8Array | undefined {
    const row = this.#statements.stat.get(store, key);
    if (!row || row.deleted_at !== null || String(row.revision) !== etag) {
      throw new ValueChanged("the value was overwritten while it was being read");
    }
    if (row.blob !== null) return this.#blobs.chunk(row.blob, index);
    if (index * chunkBytes >= row.bytes) return undefined;
    return this.#statements.get
      .get(store, key)
      ?.value?.subarray(index * chunkBytes, (index + 1) * chunkBytes);
  }

  /** Changes that a selector is about, between two revisions, oldest first; `through` says how far it got. */
  changes(store: number, selector: PlainSelector, after: number, through: number) {
    const changes: [string, ItemRow | undefined][] = [];
    const blobs: Uint8Array[] = [];
    const prefix = selector.kind === "prefix" ? selector.prefix : selector.key;
    const rows =
      selector.kind === "key"
        ? this.#statements.keyChange.iterate({ store, key: selector.key, after, through })
        : this.#statements.changes.iterate({ store, from: prefix, end: afterPrefix(prefix), after, through });
    const now = Date.now();
    let bytes = 0;
    let reached = after;
    let count = 0;
    for (const row of rows) {
      bytes += sentBytes(row);
      if (count === maxChanges || (changes.length > 0 && bytes > maxAnswerBytes))
        return { changes, blobs, reached };
      count += 1;
      reached = row.revision;
      // Expired, but not told yet: that will be a change of its own, soon.
      if (row.deleted_at === null && !isLive(row, now)) continue;
      changes.push([row.key, row.deleted_at === null ? this.#toItem(row, true, blobs) : undefined]);
    }
    return { changes, blobs, reached: through };
  }

  /** What changed after a revision, in all stores; at most `limit`. */
  changedAfter(revision: number, limit: number): { store: number; key: string; revision: number }[] {
    return this.#statements.changedAfter.all(revision, limit);
  }

  /** The newest revision whose deletion has been forgotten. */
  horizon(store: number): number {
    return this.#statements.horizon.get(store)?.horizon ?? 0;
  }

  /** When the next item of a store expires. */
  nextExpiry(store: number): number | undefined {
    return this.#statements.nextExpiry.get(store)?.expires_at;
  }

  /** Makes deletions of some expired items. */
  expire(store: number): void {
    const now = Date.now();
    for (const row of this.#statements.expired.all(store, now, expirePerSweep)) this.#delete(store, row, now);
  }

  /** Whether there are deletions to forget. */
  hasOldDeletions(): boolean {
    return this.#statements.oldDeletions.get(Date.now() - tombstoneMs, 1) !== undefined;
  }

  /** Forgets some deletions. */
  forgetDeletions(): void {
    for (const row of this.#statements.oldDeletions.all(Date.now() - tombstoneMs, forgetPerSweep)) {
      this.#statements.forget.run(row.store, row.key);
      this.#statements.raiseHorizon.run(row.revision, row.store);
    }
  }

  #check(store: number, key: string, precondition: Precondition | undefined, now: number): Row | undefined {
    const row = this.#statements.stat.get(store, key);
    if (!precondition) return row;
    const current = row && isLive(row, now) ? String(row.revision) : undefined;
    const met = precondition.kind === "absent" ? current === undefined : current === precondition.etag;
    if (!met) throw new EtagMismatch(key);
    return row;
  }

  #put(
    store: number,
    write: WriteRow,
    bytes: number,
    blob: number | null,
    value: Uint8Array | null,
    old: Row | undefined,
  ): string {
    if (old && old.blob !== null) this.#blobs.discard(old.blob);
    const revision = this.#counters.next("revision");
    const { key, contentType, metadata, expiresAtMs } = write;
    this.#statements.put.run(
      store,
      key,
      revision,
      bytes,
      contentType,
      metadata ?? null,
      expiresAtMs === undefined ? null : Math.ceil(expiresAtMs),
      blob,
      value,
    );
    return String(revision);
  }

  #delete(store: number, { key, blob }: Row, now: number): string {
    if (blob !== null) this.#blobs.discard(blob);
    this.#statements.delete.run(this.#counters.next("revision"), now, store, key);
    return "";
  }

  #toItem(row: Row, withValue: boolean, blobs: Uint8Array[]): ItemRow {
    const value = withValue ? this.#valueOf(row) : undefined;
    if (value) blobs.push(value);
    return {
      key: row.key,
      hasValue: value !== undefined,
      bytes: row.bytes,
      etag: String(row.revision),
      contentType: row.content_type,
      metadata: row.metadata ?? undefined,
      expiresAtMs: row.expires_at ?? undefined,
    };
  }

  #valueOf(row: Row): Uint8Array | undefined {
    return row.blob === null ? (row.value ?? undefined) : this.#blobs.whole(row.blob, row.bytes);
  }
}

function prepare(file: StoreFile) {
  const range = (columns: string, operator: ">" | ">=") =>
    file.statement<Row>(
      `SELECT ${columns} FROM items WHERE store = :store AND key ${operator} :from AND key < CAST(:end AS TEXT)
       AND ${live} ORDER BY key LIMIT :limit`,
    );
  return {
    makeStore: file.statement("INSERT INTO stores (name, horizon) VALUES (?, 0) ON CONFLICT DO NOTHING"),
    store: file.statement<{ id: number }>("SELECT id FROM stores WHERE name = ?"),
    horizon: file.statement<{ horizon: number }>("SELECT horizon FROM stores WHERE id = ?"),
    raiseHorizon: file.statement("UPDATE stores SET horizon = max(horizon, ?) WHERE id = ?"),
    get: file.statement<Row>(`SELECT ${columns}, value FROM items WHERE store = ? AND key = ?`),
    stat: file.statement<Row>(`SELECT ${columns} FROM items WHERE store = ? AND key = ?`),
    put: file.statement(
      `INSERT INTO items (store, key, revision, bytes, content_type, metadata, expires_at, blob, value)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (store, key) DO UPDATE SET revision = excluded.revision,
       bytes = excluded.bytes, content_type = excluded.content_type, metadata = excluded.metadata,
       expires_at = excluded.expires_at, deleted_at = NULL, blob = excluded.blob, value = excluded.value`,
    ),
    delete: file.statement(
      `UPDATE items SET revision = ?, deleted_at = ?, bytes = 0, content_type = '', metadata = NULL,
       expires_at = NULL, blob = NULL, value = NULL WHERE store = ? AND key = ?`,
    ),
    list: range(`${columns}, value`, ">="),
    listAfter: range(`${columns}, value`, ">"),
    listKeys: range(columns, ">="),
    listKeysAfter: range(columns, ">"),
    keyChange: file.statement<Row>(
      `SELECT ${columns}, value FROM items
       WHERE store = :store AND key = :key AND revision > :after AND revision <= :through`,
    ),
    changes: file.statement<Row>(
      `SELECT ${columns}, value FROM items INDEXED BY items_revision
       WHERE revision > :after AND revision <= :through
       AND +store = :store AND +key >= :from AND +key < CAST(:end AS TEXT) ORDER BY revision`,
    ),
    changedAfter: file.statement<{ store: number; key: string; revision: number }>(
      "SELECT store, key, revision FROM items WHERE revision > ? ORDER BY revision LIMIT ?",
    ),
    nextExpiry: file.statement<{ expires_at: number }>(
      `SELECT expires_at FROM items WHERE store = ? AND expires_at IS NOT NULL AND deleted_at IS NULL
       ORDER BY expires_at LIMIT 1`,
    ),
    expired: file.statement<Row>(
      `SELECT ${columns} FROM items WHERE store = ? AND expires_at <= ? AND deleted_at IS NULL
       ORDER BY expires_at LIMIT ?`,
    ),
    oldDeletions: file.statement<{ store: number; key: string; revision: number }>(
      `SELECT store, key, revision FROM items WHERE deleted_at <= ? AND deleted_at IS NOT NULL
       ORDER BY deleted_at LIMIT ?`,
    ),
    forget: file.statement("DELETE FROM items WHERE store = ? AND key = ?"),
  };
}

function isLive(row: Row, now: number): boolean {
  return row.deleted_at === null && (row.expires_at === null || row.expires_at > now);
}

/** Bytes of the value that an answer has: none of one that is too long. */
function sentBytes({ bytes }: Row): number {
  return bytes > maxValueBytes ? 0 : bytes;
}

/** What sorts after every key that begins with the prefix: no UTF-8 has the byte 0xff. */
function afterPrefix(prefix: string): Uint8Array {
  return Buffer.concat([Buffer.from(prefix), Buffer.of(0xff)]);
}
