/** state.jetstream: items in a key-value bucket. */
import type { Call } from "../../blocks/call.ts";
import type {
  Item,
  ListPage,
  ListRange,
  StateDriver,
  StateSupports,
  WatchBatch,
  WatchSelector,
  Write,
} from "../../blocks/state/driver.ts";
import type { OpenContext } from "../../component.ts";
import { Bucket } from "./bucket.ts";
import { Connection, until } from "./connection.ts";
import { classify, connectError, NatsError } from "./errors.ts";
import type { StateFields } from "./settings.ts";
import { serversOf } from "./settings.ts";
import { itemOf } from "./state-entry.ts";
import { bucketKeyOf, filterOf, keyOf, sortKeys } from "./state-keys.ts";
import { Watch } from "./state-watch.ts";
import { applyAll, applyOne } from "./state-writes.ts";

/** How long a call waits for the server, when it does not end before. */
const withinMs = 10_000;
/** Reads of one call on their way at a time. */
const maxReads = 128;
/** Transactions on their way at a time; the server refuses more than 50. */
const maxTransactions = 16;

/** A state store on a NATS server. */
export class JetStreamState implements StateDriver {
  readonly supports: StateSupports;
  readonly classify = classify;
  readonly #connection: Connection;
  readonly #bucket: Bucket;
  readonly #queue: (() => void)[] = [];
  #transactions = 0;

  private constructor(connection: Connection, bucket: Bucket) {
    this.#connection = connection;
    this.#bucket = bucket;
    this.supports = {
      transactions: bucket.batches,
      timeToLive: bucket.timeToLive,
      list: true,
      watch: true,
      watchResume: true,
      chunks: false,
    };
  }

  /** Connects, and finds or makes the bucket. Throws a NatsError. */
  static async open(fields: StateFields, context: OpenContext): Promise<JetStreamState> {
    const connection = await Connection.open(fields, "dapr.io - statestore.jetstream", context.signal);
    try {
      const { log } = context.telemetry;
      const bucket = await Bucket.open(connection, fields.bucket, fields.replicas, log);
      if (!bucket.timeToLive || !bucket.batches) {
        log.info(
          { bucket: fields.bucket, timeToLive: bucket.timeToLive, transactions: bucket.batches },
          "the bucket's stream, or the version of the server, does not allow everything that this component can do",
        );
      }
      return new JetStreamState(connection, bucket);
    } catch (error) {
      await connection.close();
      throw connectError(error, serversOf(fields.natsURL)!.addresses);
    }
  }

  get(keys: readonly string[], call: Call): Promise<readonly (Item | undefined)[]> {
    return this.#within(this.#read(keys, false), call);
  }

  async write(writes: readonly Write[], call: Call): Promise<readonly string[]> {
    call.signal.throwIfAborted();
    if (writes.length === 1) return [await this.#within(applyOne(this.#bucket, writes[0]!), call)];
    return this.#within(this.#transaction(writes), call);
  }

  list(range: ListRange, call: Call): Promise<ListPage> {
    return this.#within(this.#list(range), call);
  }

  watch(selector: WatchSelector, call: Call): AsyncIterable<WatchBatch> {
    return new Watch(this.#bucket, selector, call).batches();
  }

  ping(call: Call): Promise<void> {
    return this.#connection.ping(call);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  /** In order; several at a time. */
  async #read(keys: readonly string[], keysOnly: boolean): Promise<(Item | undefined)[]> {
    const items = new Array<Item | undefined>(keys.length);
    let next = 0;
    const reader = async (): Promise<void> => {
      while (next < keys.length) {
        const index = next++;
        const key = keys[index]!;
        const entry = await this.#bucket.last(bucketKeyOf(key));
        items[index] = entry && itemOf(key, entry, keysOnly);
      }
    };
    await Promise.all(Array.from({ length: Math.min(maxReads, keys.length) }, reader));
    return items;
  }

  async #list({ prefix, after, limit, keysOnly }: ListRange): Promise<ListPage> {
    const filter = this.#bucket.subject(filterOf(prefix));
    const { state } = await this.#connection.manager.streams.info(this.#bucket.stream, {
      subjects_filter: filter,
    });
    const found = Object.keys(state.subjects ?? {}).map((subject) => keyOf(this.#bucket.key(subject)));
    const sorted = sortKeys(found.filter((key) => key.startsWith(prefix)));
    const first = after === undefined ? 0 : sorted.findIndex((key) => isAfter(key, after));
    const items: Item[] = [];
    // Some are deleted or expired: as many are read as it takes, and one more to know whether there is one.
    for (let at = first; at >= 0 && at < sorted.length && items.length <= limit; ) {
      const wanted = sorted.slice(at, at + limit + 1 - items.length);
      at += wanted.length;
      for (const item of await this.#read(wanted, keysOnly)) if (item) items.push(item);
    }
    return { items: items.slice(0, limit), more: items.length > limit };
  }

  async #transaction(writes: readonly Write[]): Promise<readonly string[]> {
    if (this.#transactions >= maxTransactions)
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    else this.#transactions += 1;
    try {
      return await applyAll(this.#bucket, writes);
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#transactions -= 1;
    }
  }

  async #within<T>(work: Promise<T>, { signal }: Call): Promise<T> {
    const limit = AbortSignal.timeout(withinMs);
    try {
      return await until(work, AbortSignal.any([signal, limit]));
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (limit.aborted)
        throw new NatsError("unavailable", "the NATS server does not answer", { cause: error });
      throw error;
    }
  }
}

function isAfter(key: string, other: string): boolean {
  return Buffer.compare(Buffer.from(key), Buffer.from(other)) > 0;
}
