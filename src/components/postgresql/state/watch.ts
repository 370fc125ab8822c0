/**
 * Tells what changes. Transactions become visible in another order than they begin, so a position is no number:
 * it is PostgreSQL's snapshot, the set of transactions that had committed. What is new since then is what is in the
 * log and was not visible in it; nothing is lost or told twice, and nobody waits for a transaction that takes long.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Call } from "../../../blocks/call.ts";
import {
  type Item,
  type ListPage,
  type ListRange,
  PositionExpired,
  type WatchBatch,
  type WatchSelector,
} from "../../../blocks/state/driver.ts";
import { pause } from "../../../pause.ts";
import type { Log } from "../../../telemetry/log.ts";
import { Bell } from "../bell.ts";
import type { Database } from "../database.ts";
import { PostgresError } from "../errors.ts";
import { Listener } from "../listener.ts";
import { afterPrefix } from "./key-range.ts";
import type { Layout } from "./layout.ts";
import type { Statements } from "./statements.ts";

/** Items in one batch. */
const batchItems = 100;
const snapshotItems = 500;
/** How often to look although nothing was heard: Dapr's writes ring no bell, and items expire. */
const quietLookMs = 1000;
/** Between two looks of one watch, however loud it is. */
const minLookMs = 5;
/** Expired items that one look removes. */
const expirePerLook = 500;

/** How a watch reads items. */
export interface Reader {
  get(keys: readonly string[], call: Call): Promise<readonly (Item | undefined)[]>;
  list(range: ListRange, call: Call): Promise<ListPage>;
}

/** Watches of one store in this process. */
export class Watch {
  readonly #database: Database;
  readonly #statements: Statements;
  readonly #reader: Reader;
  readonly #bell: Bell;
  readonly #listener: Listener;
  readonly #waiting = new Set<() => void>();
  readonly #closing = new AbortController();
  #watchers = 0;
  /** Counts how often all watches were ended. */
  #ends = 0;
  #keeping: Promise<void> | undefined;
  #started = false;

  constructor(database: Database, { channel }: Layout, statements: Statements, reader: Reader, log: Log) {
    this.#database = database;
    this.#statements = statements;
    this.#reader = reader;
    this.#bell = new Bell(database, channel);
    const wake = () => this.#wake();
    this.#listener = new Listener(database, channel, { onNews: wake, onChange: wake }, log);
  }

  /** Says that something was written. */
  ring(): void {
    this.#wake();
    this.#bell.ring("changed");
  }

  /** Has every watch end as unavailable: what has become of the items nobody can tell it. */
  endAll(): void {
    this.#ends += 1;
    this.#wake();
  }

  /** As in StateDriver. */
  async *watch(selector: WatchSelector, call: Call): AsyncIterable<WatchBatch> {
    const signal = AbortSignal.any([call.signal, this.#closing.signal]);
    const own = { signal };
    this.#join();
    try {
      const { now, identity, forgotten } = await this.#begin(own);
      const ends = this.#ends;
      let seen =
        selector.resumeAfter === undefined ? now : resumed(selector.resumeAfter, identity, forgotten, now);
      if (selector.resumeAfter === undefined) yield* this.#snapshot(selector, `${identity}.${seen}`, own);
      for (;;) {
        const next = this.#news();
        const look = await this.#changes(selector, seen, own);
        if (ends !== this.#ends)
          throw new PostgresError("unavailable", "the tables of the store were made again: watch again");
        const before = `${identity}.${seen}`;
        seen = look.now;
        yield* this.#tell(look.keys, before, `${identity}.${seen}`, own);
        await delay(minLookMs, undefined, own);
        await next(
          this.#listener.hears ? quietLookMs : Math.min(quietLookMs, this.#database.settings.pollMs),
          signal,
        );
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#watchers -= 1;
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#wake();
    await Promise.all([this.#listener.close(), this.#keeping]);
  }

  async #begin(call: Call) {
    // Writers ring from now on.
    await this.#database.query(this.#statements.watching, [], call);
    type Row = { now: string; identity: string; forgotten: string };
    const [row] = await this.#database.query<Row>(this.#statements.snapshot, [], call, { idempotent: true });
    return row!;
  }

  async #changes(
    selector: WatchSelector,
    seen: string,
    call: Call,
  ): Promise<{ now: string; keys: string[] }> {
    const { changedKey, changedKeys } = this.#statements;
    const [text, values] =
      selector.kind === "key"
        ? [changedKey, [seen, selector.key]]
        : [changedKeys, [seen, selector.prefix, afterPrefix(selector.prefix)]];
    type Row = { now: string; forgotten: string; keys: string[] };
    const [row] = await this.#database.query<Row>(text, values, call, { idempotent: true });
    if (BigInt(row!.forgotten) >= xminOf(seen)) throw expired();
    return row!;
  }

  async *#tell(
    keys: readonly string[],
    before: string,
    after: string,
    call: Call,
  ): AsyncIterable<WatchBatch> {
    for (let at = 0; at < keys.length; at += batchItems) {
      const some = keys.slice(at, at + batchItems);
      const items = await this.#reader.get(some, call);
      const changes = some.map((key, index) => ({ key, item: items[index] }));
      // Resuming in the middle tells all of them again.
      yield { changes, position: at + batchItems < keys.length ? before : after, snapshotComplete: false };
    }
  }

  async *#snapshot(selector: WatchSelector, position: string, call: Call): AsyncIterable<WatchBatch> {
    if (selector.kind === "key") {
      const [item] = await this.#reader.get([selector.key], call);
      yield { changes: item ? [{ key: item.key, item }] : [], position, snapshotComplete: true };
      return;
    }
    const { prefix } = selector;
    let after: string | undefined;
    for (;;) {
      const page = await this.#reader.list({ prefix, after, limit: snapshotItems, keysOnly: false }, call);
      const changes = page.items.map((item) => ({ key: item.key, item }));
      if (!page.more) {
        yield { changes, position, snapshotComplete: true };
        return;
      }
      yield { changes, position: undefined, snapshotComplete: false };
      after = page.items.at(-1)?.key;
    }
  }

  /** A wait for news from now on. */
  #news(): (limitMs: number, signal: AbortSignal) => Promise<void> {
    let heard = false;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => {
      heard = true;
      resolve();
    };
    this.#waiting.add(wake);
    return async (limitMs, signal) => {
      try {
        const over = new AbortController();
        const late = delay(limitMs, undefined, { signal: AbortSignal.any([signal, over.signal]) });
        if (!heard) await Promise.race([promise, late]);
        over.abort();
        late.catch(() => undefined);
        signal.throwIfAborted();
      } finally {
        this.#waiting.delete(wake);
      }
    };
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  #join(): void {
    this.#watchers += 1;
    if (!this.#started) {
      this.#started = true;
      this.#listener.start();
    }
    this.#keeping ??= this.#keep();
  }

  /** While somebody watches: lets writers know, and removes what expires so that it is told. */
  async #keep(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted && this.#watchers > 0) {
      try {
        await this.#database.query(this.#statements.watching, [], { signal });
        const expire = `${this.#statements.expire} RETURNING 1 AS one`;
        const removed = await this.#database.query(expire, [expirePerLook], { signal });
        if (removed.length > 0) this.ring();
      } catch {
        // The watches themselves say what is wrong.
      }
      await pause(quietLookMs, signal, { ref: false });
    }
    this.#keeping = undefined;
  }
}

/** The snapshot of a position. Throws PositionExpired. */
function resumed(position: string, identity: string, forgotten: string, now: string): string {
  const match = /^([0-9a-f]{12})\.((\d{1,19}):(\d{1,19}):([\d,]*))$/.exec(position);
  if (match?.[1] !== identity) throw expired();
  const [, , snapshot, xmin, xmax] = match;
  const sound = BigInt(xmin!) <= BigInt(xmax!) && BigInt(xmax!) <= BigInt(now.split(":")[1]!);
  if (!sound || BigInt(forgotten) >= BigInt(xmin!)) throw expired();
  return snapshot!;
}

function xminOf(snapshot: string): bigint {
  return BigInt(snapshot.split(":")[0]!);
}

function expired(): PositionExpired {
  return new PositionExpired("the store does not remember what happened after this position");
}
