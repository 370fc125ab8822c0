/** Those who wait for changes of items. */
import { randomUUID } from "node:crypto";
import { PositionExpired } from "../../../blocks/state/driver.ts";
import type { Answer, Ask } from "../messages.ts";
import type { Counters } from "./counters.ts";
import type { StoreFile } from "./file.ts";
import type { ItemTable } from "./items.ts";

/** Revisions that are looked through for one watcher before others have their turn. */
const revisionsPerLook = 20_000;

/** Changes that are compared with every watcher's selector; with more, every watcher looks for itself. */
const maxCompared = 1000;

/** Answers a waiting call, or fails it. */
export type Answering<Value> = (answer: Value | Error, blobs: readonly Uint8Array[]) => void;

interface Watcher {
  readonly ask: Ask<"changes">;
  readonly answer: Answering<Answer<"changes">>;
  /** The revision up to which it has been told everything. */
  after: number;
  /** False: nothing that it is about has happened since it last looked. */
  due: boolean;
}

/** Watchers of all state stores in this process. */
export class Watchers {
  readonly #items: ItemTable;
  readonly #counters: Counters;
  readonly #identity: string;
  readonly #watchers = new Map<number, Watcher>();
  /** The revision up to which changes have been compared with the selectors. */
  #seen = 0;

  constructor(file: StoreFile, items: ItemTable, counters: Counters) {
    this.#items = items;
    this.#counters = counters;
    this.#identity = file.statement<{ id: string }>("SELECT id FROM identity").get()?.id ?? randomUUID();
  }

  /** Checks a position, or gives the present one. Throws PositionExpired. Belongs in a transaction. */
  position({ store, resumeAfter }: Ask<"position">): string {
    const present = this.#counters.last("revision");
    if (resumeAfter === undefined) return this.#format(present);
    const [identity, revision] = resumeAfter.split(".");
    const number = /^\d{1,15}$/.test(revision ?? "") ? Number(revision) : Number.NaN;
    const remembered = number >= this.#items.horizon(store) && number <= present;
    if (identity !== this.#identity || !remembered) {
      throw new PositionExpired("the store does not remember what happened after this position");
    }
    return resumeAfter;
  }

  add(id: number, ask: Ask<"changes">, answer: Answering<Answer<"changes">>): void {
    const after = Number(ask.after.split(".")[1] ?? 0);
    this.#watchers.set(id, { ask, answer, after, due: true });
  }

  /** Answers a watcher that does not wait any more. */
  cancel(id: number): void {
    const watcher = this.#watchers.get(id);
    if (!watcher) return;
    this.#watchers.delete(id);
    watcher.answer({ changes: [], position: this.#format(watcher.after) }, []);
  }

  /** Fails everybody. */
  fail(error: Error): void {
    for (const [id, watcher] of this.#watchers) {
      this.#watchers.delete(id);
      watcher.answer(error, []);
    }
  }

  get waiting(): boolean {
    return this.#watchers.size > 0;
  }

  /** The stores that somebody watches. */
  stores(): Set<number> {
    return new Set([...this.#watchers.values()].map(({ ask }) => ask.store));
  }

  /** Whether somebody waits who should look. */
  get due(): boolean {
    for (const watcher of this.#watchers.values()) if (watcher.due) return true;
    return false;
  }

  /** Finds out whom the changes since the last time are for. Belongs in a read transaction. */
  compare(): void {
    const present = this.#counters.last("revision");
    if (present === this.#seen) return;
    const changed = this.#watchers.size === 0 ? [] : this.#items.changedAfter(this.#seen, maxCompared);
    this.#seen = present;
    const all = changed.length === maxCompared;
    for (const watcher of this.#watchers.values()) {
      if (all || changed.some(({ store, key }) => concerns(watcher, store, key))) watcher.due = true;
      else if (!watcher.due) watcher.after = present;
    }
  }

  /** Answers those who have something to be told. Belongs in a read transaction. */
  look(): void {
    const present = this.#counters.last("revision");
    for (const [id, watcher] of this.#watchers) {
      if (!watcher.due) continue;
      const { store, selector } = watcher.ask;
      const through = Math.min(present, watcher.after + revisionsPerLook);
      const { changes, blobs, reached } = this.#items.changes(store, selector, watcher.after, through);
      watcher.after = reached;
      watcher.due = reached < present;
      if (changes.length === 0) continue;
      this.#watchers.delete(id);
      watcher.answer({ changes, position: this.#format(reached) }, blobs);
    }
  }

  #format(revision: number): string {
    return `${this.#identity}.${revision}`;
  }
}

function concerns({ ask }: Watcher, store: number, key: string): boolean {
  const { selector } = ask;
  if (store !== ask.store) return false;
  return selector.kind === "key" ? key === selector.key : key.startsWith(selector.prefix);
}
