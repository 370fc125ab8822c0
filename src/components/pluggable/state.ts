/** A state store that is a process of its own, behind Dapr's contract for such components. */
import { type CallOptions, Code, createClient } from "@connectrpc/connect";
import {
  QueriableStateStore,
  Sorting_Order,
  StateStore,
  TransactionalStateStore,
  TransactionalStoreMultiMaxSize,
} from "../../../gen/dapr/proto/components/v1/state_pb.ts";
import type { Call, ErrorClass } from "../../blocks/call.ts";
import { ComponentStatus } from "../../blocks/component-status.ts";
import {
  EtagMismatch,
  type Item,
  type QueryPage,
  type StateDriver,
  type StateQuery,
  type StateSupports,
  type Write,
} from "../../blocks/state/driver.ts";
import type { OpenContext } from "../../component.ts";
import { classify } from "./failures.ts";
import { Link, type Session } from "./link.ts";
import type { SocketsFolder } from "./sockets.ts";
import { isResultOf, itemOf, type Operation, operationOf, strong } from "./state-messages.ts";

/** The etag of an item that somebody else has written since; no store gives it, so it never matches. */
const overwritten = "outrider:overwritten";
/** Statuses that may mean that a precondition is not met. */
const refusals: readonly Code[] = [
  Code.FailedPrecondition,
  Code.InvalidArgument,
  Code.Aborted,
  Code.Unknown,
  Code.Internal,
];
/** Requests for one item each that are under way at once, where many cannot be had together. */
const maxBeside = 16;

/** What a component said of itself when it was initialized. */
interface Facts {
  readonly features: ReadonlySet<string>;
  readonly services: ReadonlySet<string>;
  readonly maxWrites: number | undefined;
}

/** Which component to open. */
export interface PluggableOptions {
  readonly folder: SocketsFolder;
  /** The name of its socket. */
  readonly socket: string;
  /** The fields of its YAML. */
  readonly properties: Readonly<Record<string, string>>;
}

/** See the head of this file. */
export class PluggableState implements StateDriver {
  readonly supports: StateSupports;
  readonly maxWrites: number | undefined;
  readonly query?: (query: StateQuery, call: Call) => Promise<QueryPage>;
  readonly #link: Link;

  private constructor(link: Link, { features, services, maxWrites }: Facts) {
    this.#link = link;
    this.supports = {
      transactions: features.has("TRANSACTIONAL") && services.has(TransactionalStateStore.typeName),
      timeToLive: features.has("TTL"),
      list: false,
      watch: false,
      watchResume: false,
      chunks: false,
      etags: features.has("ETAG"),
      metadata: false,
    };
    this.maxWrites = this.supports.transactions ? maxWrites : undefined;
    if (services.has(QueriableStateStore.typeName)) this.query = this.#query;
  }

  /** Connects and initializes. */
  static async open(options: PluggableOptions, context: OpenContext): Promise<PluggableState> {
    const { folder, socket, properties } = options;
    let facts: Facts | undefined;
    const link = await Link.open(
      {
        folder,
        socket,
        service: StateStore.typeName,
        instance: context.name,
        log: context.telemetry.log,
        initialize: async (session, calls) => {
          const client = createClient(StateStore, session.transport);
          await client.init({ metadata: { properties } }, calls);
          const { features } = await client.features({}, calls);
          const { services } = session;
          facts = { features: new Set(features), services, maxWrites: await maxWritesOf(session, calls) };
        },
      },
      context.signal,
    );
    return new PluggableState(link, facts!);
  }

  async get(keys: readonly string[], call: Call, maxBytes?: number): Promise<readonly (Item | undefined)[]> {
    const distinct = [...new Set(keys)];
    const [first] = distinct;
    if (first === undefined) return [];
    const found =
      distinct.length === 1
        ? new Map([[first, await this.#getOne(first, call)]])
        : await this.#getTogether(distinct, call).catch((error: unknown) => {
            if (!needsSingles(error)) throw error;
            return this.#getEach(distinct, call, maxBytes);
          });
    return keys.map((key) => found.get(key));
  }

  async write(writes: readonly Write[], call: Call, needsEtags = true): Promise<readonly string[]> {
    const nowMs = Date.now();
    for (const { key, precondition } of writes)
      if (precondition?.kind === "etag" && [overwritten, ""].includes(precondition.etag))
        throw new EtagMismatch(key);
    const operations = writes.map((write) => operationOf(write, nowMs));
    const [only] = operations;
    const applied = operations.length === 1 ? this.#apply(only!, call) : this.#transact(operations, call);
    await applied.catch(async (error: unknown) => {
      const key = await this.#atFault(error, writes, call);
      throw key === undefined ? error : new EtagMismatch(key);
    });
    const kept = writes.map((write, index) => (operations[index]!.case === "set" ? write : undefined));
    return this.supports.etags && needsEtags ? this.#etagsOf(writes, kept, call) : writes.map(() => "");
  }

  async writeEach(writes: readonly Write[], call: Call): Promise<void> {
    const nowMs = Date.now();
    const operations = writes.map((write) => operationOf(write, nowMs));
    const sets = operations.flatMap((each) => (each.case === "set" ? [each.value] : []));
    const deletions = operations.flatMap((each) => (each.case === "delete" ? [each.value] : []));
    const mismatch = (error: unknown) => throwFor(error, writes.find(hasPrecondition)?.key ?? "");
    if (sets.length > 0)
      await this.#link
        .call(
          (session, calls) => createClient(StateStore, session.transport).bulkSet({ items: sets }, calls),
          call,
        )
        .catch(mismatch);
    if (deletions.length > 0)
      await this.#link
        .call(
          (session, calls) =>
            createClient(StateStore, session.transport).bulkDelete({ items: deletions }, calls),
          call,
        )
        .catch(mismatch);
  }

  async ping(call: Call): Promise<void> {
    await this.#link.call(
      (session, calls) => createClient(StateStore, session.transport).ping({}, calls),
      call,
      true,
    );
  }

  classify(error: unknown): ErrorClass | undefined {
    return classify(error);
  }

  close(): Promise<void> {
    this.#link.close();
    return Promise.resolve();
  }

  async #query({ filter, sort, limit, token, metadata }: StateQuery, call: Call): Promise<QueryPage> {
    const values = Object.entries(filter).map(([name, json]) => [name, { value: Buffer.from(json) }]);
    const query = {
      filter: Object.fromEntries(values),
      sort: sort.map(({ key, descending }) => ({
        key,
        order: descending ? Sorting_Order.DESC : Sorting_Order.ASC,
      })),
      pagination: { limit: BigInt(limit), token },
    };
    const answer = await this.#link.call(
      (session, calls) =>
        createClient(QueriableStateStore, session.transport).query(
          { query, metadata: { ...metadata } },
          calls,
        ),
      call,
      true,
    );
    const items = answer.items.map(({ key, data, etag, error }) => ({
      key,
      value: data,
      etag: etag?.value ?? "",
      error,
    }));
    return { items, token: answer.token, metadata: answer.metadata };
  }

  async #getOne(key: string, call: Call): Promise<Item | undefined> {
    const request = { key, consistency: strong, metadata: { ...call.hints } };
    const answer = await this.#link.call(
      (session, calls) => createClient(StateStore, session.transport).get(request, calls),
      call,
      true,
    );
    return itemOf(key, answer, Date.now());
  }

  async #getTogether(keys: readonly string[], call: Call): Promise<ReadonlyMap<string, Item | undefined>> {
    const metadata = { ...call.hints };
    const request = { items: keys.map((key) => ({ key, consistency: strong, metadata })) };
    const { items } = await this.#link.call(
      (session, calls) => createClient(StateStore, session.transport).bulkGet(request, calls),
      call,
      true,
    );
    const nowMs = Date.now();
    return new Map(
      items.map((answer) => {
        if (answer.error !== "")
          throw new Error(`the component cannot read "${answer.key}": ${answer.error}`);
        return [answer.key, itemOf(answer.key, answer, nowMs)];
      }),
    );
  }

  /** One by one, some at a time; none any more when those found have enough bytes. */
  async #getEach(
    keys: readonly string[],
    call: Call,
    maxBytes = Number.POSITIVE_INFINITY,
  ): Promise<ReadonlyMap<string, Item | undefined>> {
    const found = new Map<string, Item | undefined>();
    let bytes = 0;
    for (let at = 0; at < keys.length && bytes <= maxBytes; at += maxBeside) {
      const slice = keys.slice(at, at + maxBeside);
      const items = await Promise.all(slice.map((key) => this.#getOne(key, call)));
      for (const [index, item] of items.entries()) {
        bytes += item?.valueBytes ?? 0;
        found.set(slice[index]!, item);
      }
    }
    return found;
  }

  async #apply(operation: Operation, call: Call): Promise<void> {
    await this.#link.call(async (session, calls) => {
      const client = createClient(StateStore, session.transport);
      if (operation.case === "set") await client.set(operation.value, calls);
      else await client.delete(operation.value, calls);
    }, call);
  }

  async #transact(operations: readonly Operation[], call: Call): Promise<void> {
    const request = { operations: operations.map((request) => ({ request })) };
    await this.#link.call(
      (session, calls) => createClient(TransactionalStateStore, session.transport).transact(request, calls),
      call,
    );
  }

  /** The first key whose precondition has failed when writes have; undefined: it was something else. */
  async #atFault(error: unknown, writes: readonly Write[], call: Call): Promise<string | undefined> {
    if (!(error instanceof ComponentStatus) || error.asked || !refusals.includes(error.code))
      return undefined;
    const told = isEtagStatus(error);
    const conditional = writes.filter(hasPrecondition);
    if (told && writes.length === 1) return writes[0]!.key;
    if (conditional.length === 0) return undefined;
    // Which it was the contract does not say, and Dapr's SDK for Go not even that it was one: so it is looked up.
    const keys = [...new Set(writes.map(({ key }) => key))];
    const found = await this.get(keys, call);
    const items = new Map(keys.map((key, index) => [key, found[index]]));
    // What has been written in spite of the error has not failed for that.
    if (!told && writes.every((write) => isDone(write, items.get(write.key)))) return undefined;
    const failed = conditional.find(({ key, precondition }) =>
      precondition!.kind === "absent" ? items.get(key) : items.get(key)?.etag !== precondition!.etag,
    );
    return failed?.key ?? (told ? conditional[0]?.key : undefined);
  }

  /** The contract answers writes without etags, so they are read: where the value is another by now, so is the etag. */
  async #etagsOf(
    writes: readonly Write[],
    kept: readonly (Write | undefined)[],
    call: Call,
  ): Promise<readonly string[]> {
    const items = await this.get(
      kept.flatMap((write) => write?.key ?? []),
      call,
    );
    const byKey = new Map(items.flatMap((item) => (item ? [[item.key, item] as const] : [])));
    return writes.map((write) => {
      if (write.kind === "delete") return "";
      const item = byKey.get(write.key);
      return item && isResultOf(write, item) ? item.etag : overwritten;
    });
  }
}

/** How many operations a transaction may have; undefined: any number. */
async function maxWritesOf(
  { transport, services }: Session,
  calls: CallOptions,
): Promise<number | undefined> {
  if (!services.has(TransactionalStoreMultiMaxSize.typeName)) return undefined;
  const { maxSize } = await createClient(TransactionalStoreMultiMaxSize, transport).multiMaxSize({}, calls);
  return maxSize > 0 ? Number(maxSize) : undefined;
}

function hasPrecondition({ precondition }: Write): boolean {
  return precondition !== undefined;
}

function isDone(write: Write, item: Item | undefined): boolean {
  if (write.kind === "delete") return item === undefined;
  return item !== undefined && isResultOf(write, item);
}

/** Whether a component says that an etag does not match, or makes no sense to it. */
function isEtagStatus(error: unknown): boolean {
  if (!(error instanceof ComponentStatus)) return false;
  const { code, fields } = error;
  return (code === Code.FailedPrecondition || code === Code.InvalidArgument) && fields.join() === "etag";
}

function throwFor(error: unknown, key: string): never {
  throw isEtagStatus(error) ? new EtagMismatch(key) : error;
}

/** Whether items have to be asked for one by one. */
function needsSingles(error: unknown): boolean {
  return (
    error instanceof ComponentStatus &&
    (error.code === Code.Unimplemented || error.code === Code.ResourceExhausted)
  );
}
