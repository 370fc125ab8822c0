/** The state API: protobuf in, protobuf out. */
import { toBinary } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type GetResponse,
  GetResponseSchema,
  type StateService,
} from "../../../gen/outrider/state/v1/state_pb.ts";
import { fault } from "../../faults.ts";
import type { Item } from "./driver.ts";
import { batchGetResult, getResponse, itemMessage } from "./messages.ts";
import { pageToken, parseList, parseWatch } from "./queries.ts";
import { checkKey, checkKeys, parseDelete, parseSet, parseTransaction } from "./requests.ts";
import { envelopeBytes, fits } from "./sizes.ts";
import type { StateStore } from "./store.ts";
import { read, watch, write } from "./streams.ts";

/** What the service is made of. */
export interface StateServiceOptions {
  /** Finds a store by the component's name, "" for the default. Throws COMPONENT_NOT_FOUND. */
  readonly storeOf: (component: string) => StateStore;
  /** The longest message that a server sends, in bytes. Default 4 MiB. */
  readonly maxMessageBytes?: number;
}

const defaultMaxMessageBytes = 4 * 1024 * 1024;
/** What a message has beside its items: a page token or a position, which may have a key in it. */
const messageOverheadBytes = 4096;
/** What a result of BatchGet has beside its key and item. */
const resultOverheadBytes = 16;
/** More than an item takes without its value. Closer to the limit than this, a message is measured. */
const maxEnvelopeBytes = 16 * 1024;

/** Makes the service. */
export function stateService(options: StateServiceOptions): ServiceImpl<typeof StateService> {
  const { storeOf, maxMessageBytes = defaultMaxMessageBytes } = options;
  /** For the items of a message together. */
  const maxItemsBytes = Math.max(maxMessageBytes - messageOverheadBytes, 1);
  return {
    async get(request, context) {
      const store = storeOf(request.component);
      checkKey(request.key);
      const item = await store.get(request.key, context, maxMessageBytes);
      const response = getResponse(item);
      if (item !== undefined) checkFits(store, item, response, maxMessageBytes);
      return response;
    },

    async batchGet({ component, keys }, context) {
      const store = storeOf(component);
      checkKeys(keys);
      const items = await store.getAll(keys, context, maxItemsBytes);
      checkFitTogether(store, keys, items, maxItemsBytes);
      return {
        $typeName: "outrider.state.v1.BatchGetResponse",
        results: keys.map((key, index) => batchGetResult(key, items[index])),
      };
    },

    async set(request, context) {
      const store = storeOf(request.component);
      const etag = await store.set(parseSet(request), context);
      return { $typeName: "outrider.state.v1.SetResponse", etag };
    },

    async delete(request, context) {
      const store = storeOf(request.component);
      const { key, precondition } = parseDelete(request);
      await store.delete(key, precondition, context);
      return { $typeName: "outrider.state.v1.DeleteResponse" };
    },

    async transact(request, context) {
      const store = storeOf(request.component);
      const etags = await store.transact(parseTransaction(request.writes), context);
      return { $typeName: "outrider.state.v1.TransactResponse", etags: [...etags] };
    },

    async list(request, context) {
      const store = storeOf(request.component);
      const query = { ...parseList(request, store.name), maxBytes: maxItemsBytes };
      const { items, after } = await store.list(query, context);
      return {
        $typeName: "outrider.state.v1.ListResponse",
        items: items.map(itemMessage),
        nextPageToken: pageToken(store.name, query.prefix, after),
      };
    },

    watch(request, context) {
      const store = storeOf(request.component);
      return watch(store, parseWatch(request, store.name), maxItemsBytes, context);
    },

    read(request, context) {
      const store = storeOf(request.component);
      checkKey(request.key);
      return read(store, request.key, maxItemsBytes, context);
    },

    write: (requests, context) => write(requests, storeOf, context),
  };
}

function checkFits(store: StateStore, item: Item, response: GetResponse, maxMessageBytes: number): void {
  if (item.value !== undefined) {
    if (item.valueBytes + maxEnvelopeBytes <= maxMessageBytes) return;
    if (item.valueBytes < maxMessageBytes) {
      if (toBinary(GetResponseSchema, response).byteLength <= maxMessageBytes) return;
    }
  }
  throw tooLarge(store, item);
}

function checkFitTogether(
  store: StateStore,
  keys: readonly string[],
  items: readonly (Item | undefined)[],
  maxBytes: number,
): void {
  let bytes = 0;
  for (const [index, item] of items.entries()) {
    bytes += resultOverheadBytes + Buffer.byteLength(keys[index]!);
    if (item === undefined) continue;
    if (!fits(item, maxBytes)) throw tooLarge(store, item);
    bytes += envelopeBytes(item) + item.valueBytes;
    if (bytes > maxBytes) {
      throw fault(
        "VALUE_TOO_LARGE",
        "the values do not fit in one message together: ask for fewer keys at once",
        { metadata: { component: store.name, valueBytes: String(bytes) } },
      );
    }
    if (item.value === undefined) throw tooLarge(store, item);
  }
}

function tooLarge(store: StateStore, { key, valueBytes }: Item) {
  return fault(
    "VALUE_TOO_LARGE",
    `the value of "${key}", ${valueBytes} bytes, does not fit in one message: use Read, which streams it`,
    { metadata: { component: store.name, key, valueBytes: String(valueBytes), method: "Read" } },
  );
}
