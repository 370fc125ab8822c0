/**
 * Watching keys, by what Redis has for the caches of its clients: it tells which keys with a prefix have
 * changed, whoever changed them, expiry included. Nothing has to be set up in the server for it.
 */
import type { Redis } from "ioredis";
import type { Call } from "../../blocks/call.ts";
import type { Change, Item, WatchBatch, WatchSelector } from "../../blocks/state/driver.ts";
import { WakeUp } from "../../wake-up.ts";
import { RedisFailure, toFailure } from "./errors.ts";
import { isOwnKey, keysAfter } from "./key-scan.ts";
import type { Link } from "./link.ts";

/** Items read in one step of a snapshot, and changes in one batch, at most. */
const batchItems = 100;
/** What was told last is remembered of so many keys: Redis may tell one change twice. */
const maxRemembered = 10_000;
/** Where Redis tells what has changed to a connection that others have named as theirs. */
const channel = "__redis__:invalidate";
/** How often a connection that only listens is asked for a sign of life, in milliseconds. */
const signOfLifeMs = 5000;

/** All watches of a store. */
export class Watches {
  readonly #link: Link;
  readonly #get: (keys: readonly string[], call: Call) => Promise<readonly (Item | undefined)[]>;
  readonly #open = new Set<Tracking>();
  #closed = false;

  constructor(
    link: Link,
    get: (keys: readonly string[], call: Call) => Promise<readonly (Item | undefined)[]>,
  ) {
    this.#link = link;
    this.#get = get;
  }

  /** See StateDriver. A watch whose connection is lost ends with an error: what changed meanwhile nobody knows. */
  async *watch(selector: WatchSelector, call: Call): AsyncGenerator<WatchBatch> {
    if (call.signal.aborted || this.#closed) return;
    const tracking = new Tracking(this.#link, selector);
    const end = () => tracking.end();
    call.signal.addEventListener("abort", end, { once: true });
    this.#open.add(tracking);
    try {
      await tracking.start();
      yield* this.#snapshot(selector, tracking, call);
      while (await tracking.waits()) {
        const changes = await this.#changes(tracking, call);
        if (changes.length > 0) yield { changes, position: undefined, snapshotComplete: false };
      }
    } catch (error) {
      if (!call.signal.aborted && !this.#closed) throw error;
    } finally {
      call.signal.removeEventListener("abort", end);
      this.#open.delete(tracking);
      tracking.end();
    }
  }

  close(): void {
    this.#closed = true;
    for (const tracking of this.#open) tracking.end();
  }

  async *#snapshot(selector: WatchSelector, tracking: Tracking, call: Call): AsyncGenerator<WatchBatch> {
    if (selector.kind === "key") {
      const [item] = await this.#get([selector.key], call);
      if (item) tracking.tells(item.key, item.etag);
      const changes = item ? [{ key: item.key, item }] : [];
      yield { changes, position: undefined, snapshotComplete: true };
      return;
    }
    // All keys first: a list by pages would look at every key of the database for each of them.
    const keys = await keysAfter(this.#link, selector.prefix, undefined, call);
    for (let first = 0; ; first += batchItems) {
      const items = await this.#get(keys.slice(first, first + batchItems), call);
      const changes = items.flatMap((item) => (item ? [{ key: item.key, item }] : []));
      for (const { key, item } of changes) tracking.tells(key, item.etag);
      const snapshotComplete = first + batchItems >= keys.length;
      if (changes.length > 0 || snapshotComplete) yield { changes, position: undefined, snapshotComplete };
      if (snapshotComplete) return;
    }
  }

  async #changes(tracking: Tracking, call: Call): Promise<Change[]> {
    const keys = tracking.take(batchItems);
    const items = await this.#get(keys, call);
    const changes: Change[] = [];
    for (const [index, key] of keys.entries()) {
      const item = items[index];
      if (tracking.tells(key, item?.etag ?? "")) changes.push({ key, item });
    }
    return changes;
  }
}

/** What Redis tells one watch. */
class Tracking {
  readonly #link: Link;
  readonly #selector: WatchSelector;
  readonly #changed = new Set<string>();
  readonly #told = new Map<string, string>();
  readonly #connections: Redis[] = [];
  #timer: NodeJS.Timeout | undefined;
  readonly #wake = new WakeUp();
  #failure: RedisFailure | undefined;
  #ended = false;

  constructor(link: Link, selector: WatchSelector) {
    this.#link = link;
    this.#selector = selector;
  }

  /** From when this resolves every change is noted. Throws RedisFailure. */
  async start(): Promise<void> {
    const { kind } = this.#selector;
    const prefix = this.#selector.kind === "key" ? this.#selector.key : this.#selector.prefix;
    try {
      const listener = await this.#connect(prefix);
      const holder = await this.#connect(prefix);
      listener.on("messageBuffer", (_channel: unknown, keys: unknown) => this.#heard(kind, prefix, keys));
      const id = (await listener.call("CLIENT", "ID")) as number;
      await listener.subscribe(channel);
      const options = prefix === "" ? [] : ["PREFIX", prefix];
      await holder.call("CLIENT", "TRACKING", "ON", "REDIRECT", id, "BCAST", ...options);
      this.#timer = setInterval(() => {
        for (const connection of this.#connections) {
          const late = setTimeout(() => connection.stream?.destroy(), signOfLifeMs - 500);
          connection.ping().then(
            () => clearTimeout(late),
            () => clearTimeout(late),
          );
        }
      }, signOfLifeMs);
      this.#timer.unref();
    } catch (error) {
      throw this.#ended ? new RedisFailure("cancelled", "the watch has ended") : toFailure(error);
    }
  }

  /** Resolves to true when something has changed, to false when the watch has ended. Throws when the connection is lost. */
  async waits(): Promise<boolean> {
    while (this.#changed.size === 0 && !this.#ended && !this.#failure) {
      await this.#wake.wait();
    }
    if (this.#ended) return false;
    if (this.#failure) throw this.#failure;
    return true;
  }

  /** Keys that have changed. */
  take(limit: number): string[] {
    const keys: string[] = [];
    for (const key of this.#changed) {
      if (keys.length === limit) break;
      this.#changed.delete(key);
      keys.push(key);
    }
    return keys;
  }

  /** Whether this is news; "" stands for no item. */
  tells(key: string, etag: string): boolean {
    if (this.#told.get(key) === etag) return false;
    this.#told.delete(key);
    this.#told.set(key, etag);
    if (this.#told.size > maxRemembered) this.#told.delete(this.#told.keys().next().value!);
    return true;
  }

  end(): void {
    this.#ended = true;
    clearInterval(this.#timer);
    for (const connection of this.#connections) connection.disconnect();
    this.#wake.ring();
  }

  async #connect(key: string): Promise<Redis> {
    const connection = this.#link.separate(key);
    connection.on("error", () => {});
    connection.on("close", () => this.#fail("the connection that tells of changes is lost: watch again"));
    this.#connections.push(connection);
    if (this.#ended) connection.disconnect();
    await connection.connect();
    return connection;
  }

  #heard(kind: WatchSelector["kind"], prefix: string, keys: unknown): void {
    // No list of keys: the database was emptied.
    if (!Array.isArray(keys)) {
      this.#fail("the database was emptied: watch again");
      return;
    }
    for (const key of keys as Buffer[]) {
      const text = key.toString();
      if (isOwnKey(text)) continue;
      if (kind === "key" ? text === prefix : text.startsWith(prefix)) this.#changed.add(text);
    }
    this.#wake.ring();
  }

  #fail(message: string): void {
    this.#failure ??= new RedisFailure("unavailable", message);
    this.#wake.ring();
  }
}
