/** Dapr's state API over the state block: what both protocols share. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Hints } from "../../blocks/call.ts";
import { componentStatusOf } from "../../blocks/component-status.ts";
import type { Item, Precondition, QueryPage } from "../../blocks/state/driver.ts";
import type { StateCall } from "../../blocks/state/operation.ts";
import type { WriteInput } from "../../blocks/state/requests.ts";
import type { StateStore } from "../../blocks/state/store.ts";
import { reasonOf } from "../../faults.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";
import { DaprError, type DaprErrorKind, daprErrors } from "./errors.ts";
import { isProjection, outboxEvents } from "./outbox-events.ts";
import type { StateItemInput, StateItemOutput, StateOperation } from "./state-item.ts";
import { queryState } from "./state-query.ts";

/** The longest time to live that Dapr's stores take, in seconds. */
const maxTtlSeconds = 2 ** 31 - 1;

/** See the head of this file. */
export class DaprState {
  readonly #stores: ReadonlyMap<string, StateStore>;
  readonly #appId: string;

  constructor(stores: ReadonlyMap<string, StateStore>, appId: string) {
    this.#stores = stores;
    this.#appId = appId;
  }

  /** Whether a store encrypts values: over HTTP they are then text, as in Dapr. */
  isEncrypted(storeName: string): boolean {
    return this.#stores.get(storeName)?.encrypted ?? false;
  }

  /** Throws DaprError when there is no such store, as every method does. */
  check(storeName: string): void {
    this.#store(storeName);
  }

  async get(storeName: string, key: string, call: StateCall, hints?: Hints): Promise<Item | undefined> {
    const store = this.#store(storeName);
    checkKey(storeName, key, true);
    try {
      return await store.get(key, withHints(call, hints));
    } catch (error) {
      throw failed(daprErrors.stateGet, `fail to get ${key} from state store ${storeName}`, error);
    }
  }

  /** One answer for each key, in order. */
  async getBulk(
    storeName: string,
    keys: readonly string[],
    call: StateCall,
    hints?: Hints,
  ): Promise<readonly StateItemOutput[]> {
    const store = this.#store(storeName);
    for (const key of keys) checkKey(storeName, key, true);
    if (keys.length === 0) return [];
    try {
      const items = await store.getAll(keys, withHints(call, hints));
      return keys.map((key, index) => ({ key, item: items[index], error: "" }));
    } catch (error) {
      return keys.map((key) => ({ key, item: undefined, error: messageOf(error) }));
    }
  }

  /** Saves items, each by itself. Fails with the first that failed, when all have been tried. */
  async save(storeName: string, items: readonly StateItemInput[], call: StateCall): Promise<void> {
    const store = this.#store(storeName);
    for (const { key } of items) checkKey(storeName, key);
    try {
      if (items.length === 1) await store.set(setOf(items[0]!), call, false);
      else await saveAll(store, items, call);
    } catch (error) {
      const kind = isMismatch(error) ? daprErrors.stateSaveMismatch : daprErrors.stateSave;
      throw failed(kind, `failed saving state in state store ${storeName}`, error);
    }
  }

  async delete(storeName: string, item: Omit<StateItemInput, "value">, call: StateCall): Promise<void> {
    const store = this.#store(storeName);
    checkKey(storeName, item.key, true);
    try {
      await store.delete(item.key, preconditionOf(item), call, item.metadata);
    } catch (error) {
      const kind = isMismatch(error) ? daprErrors.stateDeleteMismatch : daprErrors.stateDelete;
      throw failed(kind, `failed deleting state with key ${item.key}`, error);
    }
  }

  async deleteBulk(
    storeName: string,
    items: readonly Omit<StateItemInput, "value">[],
    call: StateCall,
  ): Promise<void> {
    const store = this.#store(storeName);
    for (const { key } of items) checkKey(storeName, key, true);
    const writes = items.map(deletionOf);
    const last = new Map(writes.map((write) => [write.key, write]));
    try {
      await store.writeEach("delete", [...last.values()], call);
    } catch (error) {
      const kind = isMismatch(error) ? daprErrors.stateBulkDeleteMismatch : daprErrors.stateBulkDelete;
      throw failed(kind, `failed deleting state in state store ${storeName}`, error);
    }
  }

  /** Applies all operations or none. */
  async transact(
    storeName: string,
    operations: readonly StateOperation[],
    call: StateCall,
    trace: () => TraceHeaders,
  ): Promise<void> {
    const store = this.#store(storeName);
    const target = store.outboxTarget;
    const applied = target ? operations.filter((each) => !isProjection(each)) : operations;
    try {
      const inputs = applied.map(({ type, item }): WriteInput => {
        if (type === "upsert") {
          checkKey(storeName, item.key);
          return setOf(item);
        }
        if (type === "delete") {
          checkKey(storeName, item.key);
          return deletionOf(item);
        }
        throw new DaprError(daprErrors.stateOperation, `operation type ${type} not supported`);
      });
      if (inputs.length === 0) return;
      // Operations happen one after the other: the last of a key is what stays.
      const last = new Map(inputs.map((input) => [input.key, input]));
      checkCount(store, inputs.length);
      const events = target && outboxEvents(operations, this.#appId, target, trace());
      if (events !== undefined && events.length > 0) await this.#announce(store, call);
      await store.transact([...last.values()], call, events);
    } catch (error) {
      if (error instanceof DaprError) throw error;
      if (reasonOf(error) === "NOT_SUPPORTED") {
        throw new DaprError(
          daprErrors.stateTransactionsNotSupported,
          `state store ${storeName} doesn't support transactions`,
          {
            resource: { type: "state", name: storeName },
            help: {
              url: "https://docs.dapr.io/reference/components-reference/supported-state-stores/",
              description: "Check the list of state stores and the features they support",
            },
            cause: error,
          },
        );
      }
      throw failed(daprErrors.stateTransaction, "error while executing state transaction", error);
    }
  }

  /** Items by what is in them; `text` is the query, as JSON. */
  query(
    storeName: string,
    text: string,
    metadata: Readonly<Record<string, string>>,
    call: StateCall,
  ): Promise<QueryPage> {
    return queryState(this.#store(storeName), text, metadata, call);
  }

  async #announce(store: StateStore, call: StateCall): Promise<void> {
    try {
      await store.announce(call);
    } catch (error) {
      if (hasEnded(error)) throw error;
      const why = messageOf(error);
      throw new DaprError(daprErrors.pubsubOutbox, `error while publishing outbox message: ${why}`, {
        metadata: { appID: this.#appId, error: why },
        cause: error,
      });
    }
  }

  #store(name: string): StateStore {
    if (this.#stores.size === 0)
      throw new DaprError(daprErrors.stateNotConfigured, `state store ${name} is not configured`);
    const store = this.#stores.get(name);
    if (!store) throw new DaprError(daprErrors.stateNotFound, `state store ${name} is not found`);
    return store;
  }
}

/** Tries all, and throws what the first of those threw that failed. */
async function saveAll(store: StateStore, items: readonly StateItemInput[], call: StateCall): Promise<void> {
  const writes = items.map(setOf);
  // Of a key that is given twice, the last value stays.
  const last = new Map(writes.map((write) => [write.key, write]));
  await store.writeEach("set", [...last.values()], call);
}

/** What an item's answer says beside its value. */
export function itemMetadata({ expiresAtMs }: Item): Record<string, string> {
  return expiresAtMs === undefined ? {} : { ttlExpireTime: new Date(expiresAtMs).toISOString() };
}

function checkCount(store: StateStore, count: number): void {
  const { maxWrites = count, name } = store;
  if (count <= maxWrites) return;
  const message = `the transaction contains ${count} operations, which is more than what the state store supports: ${maxWrites}`;
  throw new DaprError(daprErrors.stateTooManyTransactions, message, {
    resource: { type: "state", name },
    metadata: { currentOpsTransaction: String(count), maxOpsPerTransaction: String(maxWrites) },
  });
}

/** A key without a letter cannot be saved; to ask for one, or to delete it, is no mistake. */
function checkKey(storeName: string, key: string, mayBeEmpty = false): void {
  if (key === "" && !mayBeEmpty)
    throw new DaprError(daprErrors.malformedRequest, "state key cannot be empty");
  if (!key.includes("||")) return;
  throw new DaprError(daprErrors.stateIllegalKey, `input key/keyPrefix '${key}' can't contain '||'`, {
    resource: { type: "state", name: storeName },
    field: key,
  });
}

function setOf(item: StateItemInput): WriteInput & { readonly kind: "set" } {
  const { key, value, metadata } = item;
  return {
    kind: "set",
    key,
    value,
    contentType: metadata["contentType"] ?? "",
    isJson: item.isJson,
    metadata: {},
    timeToLiveMs: timeToLiveMs(metadata),
    precondition: preconditionOf(item),
    hints: metadata,
  };
}

function deletionOf(item: Omit<StateItemInput, "value">): WriteInput {
  return { kind: "delete", key: item.key, precondition: preconditionOf(item), hints: item.metadata };
}

/** The same call, with what its client says to the store. */
function withHints(call: StateCall, hints: Hints = {}): StateCall {
  for (const _ in hints) {
    const { signal, protocol } = call;
    const own = { signal, protocol, hints };
    return "values" in call ? { ...own, values: call.values, requestHeader: call.requestHeader } : own;
  }
  return call;
}

/** An etag must match whatever the concurrency; a first write without one must find nothing. Throws what the item is refused for. */
function preconditionOf({
  etag,
  firstWrite,
  refusal,
}: Pick<StateItemInput, "etag" | "firstWrite" | "refusal">): Precondition | undefined {
  if (refusal) throw storeError(refusal);
  if (etag !== undefined && etag !== "") return { kind: "etag", etag };
  return firstWrite ? { kind: "absent" } : undefined;
}

/** In milliseconds; undefined for an item that stays. Throws what Dapr's stores say of one that is no such number. */
function timeToLiveMs(metadata: Readonly<Record<string, string>>): number | undefined {
  const text = metadata["ttlInSeconds"] || metadata["ttl"];
  if (!text) return undefined;
  const refusal = (why: string) => storeError(`incorrect value for metadata 'ttlInSeconds': ${why}`);
  if (!/^[-+]?\d+$/.test(text))
    throw refusal(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  const seconds = Number(text);
  if (seconds < -1 || seconds > maxTtlSeconds) throw refusal("must be -1 or greater");
  return seconds > 0 ? seconds * 1000 : undefined;
}

/** What a store would say that looks at an item itself, as Dapr's do. */
function storeError(message: string): ConnectError {
  return new ConnectError(message, Code.Internal);
}

function isMismatch(error: unknown): boolean {
  return reasonOf(error) === "ETAG_MISMATCH";
}

/** It was the call that ended, not the work that failed. */
function hasEnded(error: unknown): error is ConnectError {
  return (
    error instanceof ConnectError && (error.code === Code.DeadlineExceeded || error.code === Code.Canceled)
  );
}

function messageOf(error: unknown): string {
  const status = componentStatusOf(error);
  if (status) return status.text;
  return error instanceof ConnectError ? error.rawMessage : "internal error";
}

/** A failure of the store, in Dapr's words. What is no failure of the store stays what it is. */
function failed(kind: DaprErrorKind, what: string, error: unknown): ConnectError {
  if (error instanceof DaprError) return error;
  if (hasEnded(error)) return error;
  const why = isMismatch(error) ? "possible etag mismatch. error from state store" : messageOf(error);
  const asked = componentStatusOf(error)?.asked;
  return new DaprError(asked ? { ...kind, status: asked.status } : kind, `${what}: ${why}`, { cause: error });
}
