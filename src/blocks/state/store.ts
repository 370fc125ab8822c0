/** A state component as the block sees it: what is the same for every store. */
import type { Outgoing } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { fault, invalidRequest } from "../../faults.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { noTrace, traceOf } from "../../telemetry/tracing.ts";
import type { Hints } from "../call.ts";
import type { Connection } from "../connection.ts";
import { InFlight } from "../in-flight.ts";
import type {
  ChunkedWrite,
  Item,
  Precondition,
  QueryPage,
  StateDriver,
  StateQuery,
  StateSupports,
  WatchBatch,
  WatchSelector,
  Write,
} from "./driver.ts";
import { failureOf } from "./failure.ts";
import { isReserved, storedPrefix } from "./keys.ts";
import { Operation, type OperationName, type StateCall } from "./operation.ts";
import type { Outbox } from "./outbox.ts";
import type { OutboxTarget } from "./outbox-note.ts";
import type { SetInput, WriteInput } from "./requests.ts";
import type { StateSettings } from "./settings.ts";
import { countFitting, fits, pieces, withoutValue } from "./sizes.ts";

/** What a store is made of. */
export interface StateStoreOptions {
  readonly connection: Connection<StateDriver>;
  readonly settings: StateSettings;
  readonly telemetry: Telemetry;
  readonly appId: string;
  /** For `keyPrefix: namespace`. Default "default". */
  readonly namespace?: string;
  /** Publishes an event for each write of a transaction. */
  readonly outbox?: Outbox;
}

/** Which page of a list to read. */
export interface ListQuery {
  readonly prefix: string;
  /** Only keys after this one. */
  readonly after: string | undefined;
  /** Items at most, 1 to 1,000. */
  readonly limit: number;
  readonly keysOnly: boolean;
  /** What the items may take in a message together. */
  readonly maxBytes: number;
}

/** A page of a list. */
export interface ListResult {
  /** The value is left out where it was not asked for, or does not fit by itself. */
  readonly items: readonly Item[];
  /** Where the next page goes on; undefined: this is the last. */
  readonly after: string | undefined;
}

/**
 * Keys that are read at once first; then twice as many each time. A thousand long values would fill the memory of
 * the sidecar: they are noticed while they are few.
 */
const firstSliceKeys = 16;

/**
 * A store of this application's items. Keys are the application's own here: what
 * the store has before them is put on and taken off. They have been checked, by
 * requests.ts where they come from a client.
 *
 * Every method throws faults: COMPONENT_UNAVAILABLE, COMPONENT_FAILED,
 * DEADLINE_EXCEEDED, CANCELLED, SHUTTING_DOWN, NOT_SUPPORTED; those that write, ETAG_MISMATCH.
 */
export class StateStore {
  readonly name: string;
  readonly #connection: Connection<StateDriver>;
  readonly #prefix: string;
  readonly #outbox: Outbox | undefined;
  readonly #encrypted: boolean;
  readonly #defaultTimeToLiveMs: number | undefined;
  readonly #operations: Readonly<Record<OperationName, Operation>>;
  readonly #inFlight = new InFlight();
  /** Ends watches. */
  readonly #retiring = new AbortController();

  constructor(options: StateStoreOptions) {
    const { connection, settings, telemetry, appId, namespace = "default" } = options;
    const { component, type } = connection;
    this.name = component;
    this.#connection = connection;
    this.#outbox = options.outbox;
    this.#encrypted = settings.primaryEncryptionKey !== undefined;
    this.#prefix = storedPrefix(settings.keyPrefix, { component, appId, namespace });
    const { ttlInSeconds = 0 } = settings;
    this.#defaultTimeToLiveMs = ttlInSeconds > 0 ? ttlInSeconds * 1000 : undefined;
    const operation = (name: OperationName) => new Operation(name, component, type, telemetry);
    this.#operations = {
      get: operation("get"),
      batch_get: operation("batch_get"),
      set: operation("set"),
      delete: operation("delete"),
      transact: operation("transact"),
      list: operation("list"),
      watch: operation("watch"),
      query: operation("query"),
      read: operation("read"),
      write: operation("write"),
    };
  }

  /**
   * One item; undefined when there is none. A value of more than `maxBytes` may be left out.
   * Written out, not by `#run`: half of all calls are this one.
   */
  async get(key: string, call: StateCall, maxBytes = Number.POSITIVE_INFINITY): Promise<Item | undefined> {
    const operation = this.#operations.get;
    const startedAt = performance.now();
    const span = operation.span(call);
    let driver: StateDriver | undefined;
    this.#inFlight.begin();
    try {
      driver = this.#connection.current();
      const [item] = await driver.get([this.#prefix + key], call, maxBytes);
      operation.succeeded(startedAt, span);
      return item && this.#own(item);
    } catch (error) {
      const failure = this.#failure(error, driver, call);
      operation.failed(startedAt, span, failure);
      throw failure;
    } finally {
      this.#inFlight.end();
    }
  }

  /**
   * Several items, one result for each key in order. When their values have more than `maxBytes` together, those
   * from there on may be left out, values or whole items.
   */
  getAll(
    keys: readonly string[],
    call: StateCall,
    maxBytes = Number.POSITIVE_INFINITY,
  ): Promise<readonly (Item | undefined)[]> {
    return this.#run("batch_get", call, keys.length, async (driver) => {
      const stored = keys.map((key) => this.#prefix + key);
      const items: (Item | undefined)[] = [];
      let bytes = 0;
      for (let count = firstSliceKeys; items.length < stored.length && bytes <= maxBytes; count *= 2) {
        const slice = stored.slice(items.length, items.length + count);
        for (const item of await driver.get(slice, call, maxBytes - bytes)) {
          bytes += item?.valueBytes ?? 0;
          items.push(item && this.#own(item));
        }
      }
      return items;
    });
  }

  /** Writes an item and returns its etag; where nobody needs that, it may be "". */
  set(input: SetInput, call: StateCall, needsEtag = true): Promise<string> {
    return this.#run("set", call, 1, async (driver) => {
      const [etag] = await driver.write([this.#stored(input, driver)], call, needsEtag);
      return etag!;
    });
  }

  delete(key: string, precondition: Precondition | undefined, call: StateCall, hints?: Hints): Promise<void> {
    return this.#run("delete", call, 1, async (driver) => {
      await driver.write([this.#stored({ kind: "delete", key, precondition, hints }, driver)], call);
    });
  }

  /** Sets items, or deletes them, each by itself, no key twice. Tries all, and throws why the first failed that did. */
  async writeEach(kind: "set" | "delete", inputs: readonly WriteInput[], call: StateCall): Promise<void> {
    const [first, second] = inputs;
    if (first && second && this.#connection.current().writeEach) {
      return this.#run(kind, call, inputs.length, (driver) =>
        driver.writeEach!(
          inputs.map((input) => this.#stored(input, driver)),
          call,
        ),
      );
    }
    const writes = inputs.map((input) =>
      input.kind === "set"
        ? this.set(input, call, false)
        : this.delete(input.key, input.precondition, call, input.hints),
    );
    const failure = (await Promise.allSettled(writes)).find(({ status }) => status === "rejected");
    if (failure?.status === "rejected") throw failure.reason;
  }

  /** How many writes a transaction may have; undefined: as many as a request. */
  get maxWrites(): number | undefined {
    return this.#connection.current().maxWrites;
  }

  /** Items by what is in them; `read` is asked only where the store can be. Their keys are the application's own where they begin as its keys do. */
  query(read: () => StateQuery, call: StateCall): Promise<QueryPage> {
    return this.#run("query", call, 1, async (driver) => {
      if (!driver.query) throw this.#lacks("query");
      const page = await driver.query(read(), call);
      const own = (key: string) => (key.startsWith(this.#prefix) ? this.#keyOf(key) : key);
      return { ...page, items: page.items.map((item) => ({ ...item, key: own(item.key) })) };
    });
  }

  /** Whether values are encrypted in the store. */
  get encrypted(): boolean {
    return this.#encrypted;
  }

  /** Where the events of transactions go; undefined: nowhere. */
  get outboxTarget(): OutboxTarget | undefined {
    return this.#outbox?.target;
  }

  /** To be called before a transaction that must not be written while the outbox's broker is away. Throws why it is. */
  async announce(call: StateCall): Promise<void> {
    await this.#outbox?.announce(call);
  }

  /**
   * Applies 1 to 1,000 writes, no key twice, all or none. Returns an etag for each, "" for a deletion. Where there is
   * an outbox it publishes `events`, or else one for each write.
   */
  transact(
    inputs: readonly WriteInput[],
    call: StateCall,
    events?: readonly Outgoing[],
  ): Promise<readonly string[]> {
    return this.#run("transact", call, inputs.length, (driver) => {
      this.#require(driver, "transactions", "transactions");
      const { maxWrites = inputs.length } = driver;
      if (inputs.length > maxWrites)
        throw invalidRequest({ field: "writes", description: `must be at most ${maxWrites} in this store` });
      const writes = inputs.map((input) => this.#stored(input, driver));
      if (this.#outbox === undefined) return driver.write(writes, call);
      this.#require(driver, "list", "list");
      const trace = "values" in call ? traceOf(call) : noTrace;
      return this.#outbox.write(inputs, writes, driver, trace, call, events);
    });
  }

  /** A page of the items whose keys begin with a prefix, in ascending order of their UTF-8 bytes. */
  list({ prefix, after, limit, keysOnly, maxBytes }: ListQuery, call: StateCall): Promise<ListResult> {
    return this.#run("list", call, 1, async (driver) => {
      this.#require(driver, "list", "list");
      // Keys come first and then the values that fit, for a page of long values may be a thousand times
      // what a message takes.
      const page = await driver.list!(
        {
          prefix: this.#prefix + prefix,
          after: after === undefined ? undefined : this.#prefix + after,
          limit,
          keysOnly: true,
        },
        call,
      );
      const own = page.items.filter((item) => !isReserved(item.key));
      const listed = own.slice(0, countFitting(own, maxBytes, keysOnly));
      const found = keysOnly ? listed : await withValues(driver, listed, maxBytes, call);
      // What was written since may be longer.
      const taken = found.slice(0, countFitting(found, maxBytes, keysOnly));
      const whole = listed.length === own.length && taken.length === found.length;
      const last = (whole ? page.items : taken.length < found.length ? taken : listed).at(-1);
      const more = page.more || !whole;
      const items = taken.map((item) => this.#own(fits(item, maxBytes) ? item : withoutValue(item)));
      return { items, after: more && last ? this.#keyOf(last.key) : undefined };
    });
  }

  /**
   * What is there, and every change after that, until the call ends: then it
   * throws why. POSITION_EXPIRED when `resumeAfter` is too old; COMPONENT_UNAVAILABLE when the store is retired.
   */
  async *watch(selector: WatchSelector, call: StateCall): AsyncGenerator<WatchBatch> {
    const stream = this.#begin("watch", call);
    try {
      const driver = stream.open();
      this.#require(driver, "watch", "watch");
      if (selector.resumeAfter !== undefined) this.#require(driver, "watchResume", "watch-resume");
      const signal = AbortSignal.any([call.signal, this.#retiring.signal]);
      for await (const batch of driver.watch!(this.#storedSelector(selector), { signal })) {
        const changes = batch.changes
          .filter(({ key }) => !isReserved(key))
          .map(({ key, item }) => ({ key: this.#keyOf(key), item: item && this.#own(item) }));
        // Only the runtime's own items have changed.
        if (changes.length < batch.changes.length && changes.length === 0 && !batch.snapshotComplete)
          continue;
        yield { changes, position: batch.position, snapshotComplete: batch.snapshotComplete };
      }
      call.signal.throwIfAborted();
      throw fault("COMPONENT_UNAVAILABLE", `state store "${this.name}" ended the watch`, {
        metadata: { component: this.name },
        retryAfterMs: 1000,
      });
    } catch (error) {
      throw stream.failed(this.#retiring.signal.aborted && !call.signal.aborted ? this.#retired() : error);
    } finally {
      stream.end();
    }
  }

  /** There is another in its place, or none: ends watches, and resolves when calls that are under way have ended. */
  retire(): Promise<void> {
    this.#retiring.abort();
    return this.#inFlight.idle();
  }

  /**
   * One item of any size: first the item without its value, then the value in
   * pieces of at most 256 KiB. Nothing at all when there is none. VALUE_CHANGED when it is overwritten meanwhile.
   */
  async *read(key: string, call: StateCall): AsyncGenerator<Item | Uint8Array> {
    const stream = this.#begin("read", call);
    try {
      const driver = stream.open();
      const found = driver.read
        ? await driver.read(this.#prefix + key, call)
        : await this.#readWhole(driver, this.#prefix + key, call);
      if (found) {
        yield this.#own(withoutValue(found.item));
        yield* found.chunks;
      }
      stream.succeeded();
    } catch (error) {
      throw stream.failed(error);
    } finally {
      stream.end();
    }
  }

  /** Writes an item of any size, all at once when the last chunk has come, and returns its etag. */
  write(input: Omit<SetInput, "value">, chunks: AsyncIterable<Uint8Array>, call: StateCall): Promise<string> {
    return this.#run("write", call, 1, (driver) => {
      this.#require(driver, "chunks", "chunks");
      const write: ChunkedWrite = {
        key: this.#prefix + input.key,
        contentType: input.contentType,
        metadata: input.metadata,
        expiresAtMs: this.#expiresAtMs(input.timeToLiveMs, driver),
        precondition: input.precondition,
      };
      return driver.writeChunks!(write, chunks, call);
    });
  }

  async #run<T>(
    name: OperationName,
    call: StateCall,
    batchSize: number,
    work: (driver: StateDriver) => Promise<T>,
  ): Promise<T> {
    const operation = this.#operations[name];
    const startedAt = performance.now();
    const span = operation.span(call, batchSize);
    let driver: StateDriver | undefined;
    this.#inFlight.begin();
    try {
      driver = this.#connection.current();
      const result = await work(driver);
      operation.succeeded(startedAt, span);
      return result;
    } catch (error) {
      const failure = this.#failure(error, driver, call);
      operation.failed(startedAt, span, failure);
      throw failure;
    } finally {
      this.#inFlight.end();
    }
  }

  /** As `#run`, for a stream: it ends in one of three ways, of which the first counts. */
  #begin(name: OperationName, call: StateCall) {
    const operation = this.#operations[name];
    const startedAt = performance.now();
    const span = operation.span(call);
    let driver: StateDriver | undefined;
    let ended = false;
    this.#inFlight.begin();
    return {
      open: (): StateDriver => {
        driver = this.#connection.current();
        return driver;
      },
      succeeded: (): void => {
        ended = true;
        operation.succeeded(startedAt, span);
      },
      failed: (error: unknown) => {
        ended = true;
        const failure = this.#failure(error, driver, call);
        operation.failed(startedAt, span, failure);
        return failure;
      },
      end: (): void => {
        if (!ended) operation.left(span);
        this.#inFlight.end();
      },
    };
  }

  #failure(error: unknown, driver: StateDriver | undefined, call: StateCall) {
    return failureOf(error, this.name, driver, call, (stored) => this.#keyOf(stored));
  }

  #retired() {
    return fault("COMPONENT_UNAVAILABLE", `state store "${this.name}" has been replaced or removed`, {
      metadata: { component: this.name },
      retryAfterMs: 0,
    });
  }

  #require(driver: StateDriver, capability: keyof StateSupports, name: string): void {
    // Those that a driver need not name are what nearly all have.
    if (!(driver.supports[capability] ?? true)) throw this.#lacks(name);
  }

  #lacks(capability: string) {
    const message = `state store "${this.name}" (${this.#connection.type}) does not support ${capability}`;
    return fault("NOT_SUPPORTED", message, { metadata: { component: this.name, capability } });
  }

  #stored(input: WriteInput, driver: StateDriver): Write {
    const key = this.#prefix + input.key;
    const { precondition, hints } = input;
    if (precondition) this.#require(driver, "etags", "etags");
    if (input.kind === "delete") return { kind: "delete", key, precondition, hints };
    for (const _ in input.metadata) this.#require(driver, "metadata", "metadata");
    return {
      kind: "set",
      key,
      value: input.value,
      contentType: input.contentType,
      ...(input.isJson && { isJson: true }),
      metadata: input.metadata,
      expiresAtMs: this.#expiresAtMs(input.timeToLiveMs, driver),
      precondition,
      hints,
    };
  }

  #expiresAtMs(timeToLiveMs = this.#defaultTimeToLiveMs, driver: StateDriver): number | undefined {
    if (timeToLiveMs === undefined) return undefined;
    this.#require(driver, "timeToLive", "time-to-live");
    return Date.now() + timeToLiveMs;
  }

  #storedSelector(selector: WatchSelector): WatchSelector {
    return selector.kind === "key"
      ? { ...selector, key: this.#prefix + selector.key }
      : { ...selector, prefix: this.#prefix + selector.prefix };
  }

  #keyOf(stored: string): string {
    return stored.slice(this.#prefix.length);
  }

  /** The item with the application's own key. */
  #own(item: Item): Item {
    if (this.#prefix === "") return item;
    const { value, valueBytes, etag, contentType, metadata, expiresAtMs } = item;
    return { key: this.#keyOf(item.key), value, valueBytes, etag, contentType, metadata, expiresAtMs };
  }

  /** Reads an item of a store that has no chunks: its values are short enough for `get`. */
  async #readWhole(driver: StateDriver, stored: string, call: StateCall) {
    const [item] = await driver.get([stored], call);
    if (item && item.value === undefined) {
      throw fault(
        "VALUE_TOO_LARGE",
        `state store "${this.name}" cannot read a value of ${item.valueBytes} bytes`,
        {
          metadata: { component: this.name, valueBytes: String(item.valueBytes) },
        },
      );
    }
    return item && { item, chunks: pieces(item.value!) };
  }
}

/** The listed items as they are now, with the values that fit. One that is gone since is left out. */
async function withValues(
  driver: StateDriver,
  listed: readonly Item[],
  maxBytes: number,
  call: StateCall,
): Promise<readonly Item[]> {
  const keys = listed.filter((item) => fits(item, maxBytes)).map(({ key }) => key);
  const values = keys.length > 0 ? await driver.get(keys, call) : [];
  const current = new Map(keys.map((key, index) => [key, values[index]]));
  return listed.flatMap((item) => (current.has(item.key) ? (current.get(item.key) ?? []) : item));
}
