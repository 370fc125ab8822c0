/** Who watches a memory store, and what each has still to be told. */
import type { Change, Item, WatchBatch, WatchSelector } from "../../blocks/state/driver.ts";
import { WakeUp } from "../../wake-up.ts";

/** Changes in a batch at most. */
const maxBatchChanges = 100;

/** Deletions that wait for a slow watcher although it was never told that the key existed, at most. */
const maxUnknownDeletions = 10_000;

/** What a watcher reads of the store. */
export interface WatchedStore {
  current(key: string): Item | undefined;
  /** Items with the prefix, after a key, in order. */
  page(prefix: string, after: string | undefined, limit: number): { items: readonly Item[]; more: boolean };
}

/** All watchers of a store, found by what they watch. */
export class Watchers {
  readonly #byKey = new Map<string, Set<Watcher>>();
  readonly #byPrefix = new Set<Watcher>();
  /** Zero is what most writes meet, and all that they pay for. */
  #count = 0;

  /** Tells whoever it concerns that a key changed; `existed`: it was there before. */
  changed(key: string, existed: boolean): void {
    if (this.#count === 0) return;
    const watchers = this.#byKey.get(key);
    if (watchers) for (const watcher of watchers) watcher.changed(key, existed);
    for (const watcher of this.#byPrefix) {
      if (key.startsWith(watcher.selector.kind === "prefix" ? watcher.selector.prefix : "")) {
        watcher.changed(key, existed);
      }
    }
  }

  /** Follows what is selected until the signal aborts or all watches end. */
  async *watch(
    store: WatchedStore,
    selector: WatchSelector,
    signal: AbortSignal,
  ): AsyncGenerator<WatchBatch> {
    const watcher = new Watcher(store, selector);
    const end = () => watcher.end();
    if (signal.aborted) return;
    signal.addEventListener("abort", end, { once: true });
    this.#add(watcher);
    try {
      yield* watcher.snapshot();
      while (await watcher.waits()) yield watcher.take();
    } finally {
      this.#remove(watcher);
      signal.removeEventListener("abort", end);
    }
  }

  endAll(): void {
    for (const watchers of this.#byKey.values()) for (const watcher of watchers) watcher.end();
    for (const watcher of this.#byPrefix) watcher.end();
  }

  #add(watcher: Watcher): void {
    this.#count++;
    if (watcher.selector.kind === "prefix") {
      this.#byPrefix.add(watcher);
      return;
    }
    const { key } = watcher.selector;
    const watchers = this.#byKey.get(key);
    if (watchers) watchers.add(watcher);
    else this.#byKey.set(key, new Set([watcher]));
  }

  #remove(watcher: Watcher): void {
    this.#count--;
    if (watcher.selector.kind === "prefix") {
      this.#byPrefix.delete(watcher);
      return;
    }
    const { key } = watcher.selector;
    const watchers = this.#byKey.get(key);
    watchers?.delete(watcher);
    if (watchers?.size === 0) this.#byKey.delete(key);
  }
}

/**
 * One watch. It remembers which keys changed, not how: what it tells is what is
 * there when it is read. So a watcher who reads slowly costs no more than the
 * store has keys, and a bounded number of deletions.
 */
class Watcher {
  readonly selector: WatchSelector;
  readonly #store: WatchedStore;
  /** Keys that changed since they were told, and whether they existed then. */
  readonly #pending = new Map<string, boolean>();
  readonly #wake = new WakeUp();
  #ended = false;

  constructor(store: WatchedStore, selector: WatchSelector) {
    this.#store = store;
    this.selector = selector;
  }

  changed(key: string, existed: boolean): void {
    const known = this.#pending.get(key);
    if (known === undefined) {
      this.#pending.set(key, existed);
    } else if (!known && this.#pending.size > maxUnknownDeletions && !this.#store.current(key)) {
      this.#pending.delete(key);
    }
    this.#wake.ring();
  }

  end(): void {
    this.#ended = true;
    this.#wake.ring();
  }

  *snapshot(): Generator<WatchBatch> {
    if (this.selector.kind === "key") {
      const { key } = this.selector;
      const item = this.#store.current(key);
      yield { changes: item ? [{ key, item }] : [], position: undefined, snapshotComplete: true };
      return;
    }
    let after: string | undefined;
    for (let more = true; more && !this.#ended; ) {
      const page = this.#store.page(this.selector.prefix, after, maxBatchChanges);
      more = page.more;
      after = page.items.at(-1)?.key;
      for (const { key } of page.items) this.#pending.delete(key);
      const changes = page.items.map((item) => ({ key: item.key, item }));
      yield { changes, position: undefined, snapshotComplete: !more };
    }
  }

  /** Resolves to true when there is something to tell, to false when the watch has ended. */
  async waits(): Promise<boolean> {
    while (this.#pending.size === 0 && !this.#ended) {
      await this.#wake.wait();
    }
    return !this.#ended;
  }

  take(): WatchBatch {
    const changes: Change[] = [];
    for (const key of this.#pending.keys()) {
      if (changes.length === maxBatchChanges) break;
      this.#pending.delete(key);
      changes.push({ key, item: this.#store.current(key) });
    }
    return { changes, position: undefined, snapshotComplete: false };
  }
}
