/** Dapr's gRPC service, of the blocks that there are: protobuf in, protobuf out. */
import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import {
  type StateItem,
  StateOptions_StateConcurrency,
} from "../../../gen/dapr/proto/common/v1/common_pb.ts";
import { Dapr } from "../../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import { compactJson } from "../../blocks/pubsub/json-text.ts";
import { type Mount, mount } from "../../server/mount.ts";
import { traceOf } from "../../telemetry/tracing.ts";
import { type AbsentOptions, absentMethods } from "./absent/answers.ts";
import type { DaprApi } from "./calls.ts";
import { daprCodecs } from "./codecs.ts";
import { isForced } from "./force-shutdown.ts";
import { readAsGo } from "./go-json.ts";
import { itemMetadata } from "./state.ts";
import type { StateItemInput } from "./state-item.ts";
import { SubscribeStream } from "./subscribe-stream.ts";
import { daprTokenRefusals } from "./token-refusals.ts";

/** Makes the service with its contract, which is why it is loaded late: see `contract.ts`. */
export function daprMount(api: DaprApi, absent: AbsentOptions): Mount {
  const implementation = { ...absentMethods(absent), ...daprService(api) };
  return mount(Dapr, implementation, { codecs: daprCodecs, tokenRefusals: daprTokenRefusals });
}

function daprService(api: DaprApi): Partial<ServiceImpl<typeof Dapr>> {
  const { state, publish, secrets, metadata, subscriptions } = api;
  const bulkPublish: ServiceImpl<typeof Dapr>["bulkPublishEvent"] = async (request, context) => {
    const entries = request.entries.map(({ entryId, event, contentType, metadata: own }) => {
      return { entryId, data: event, contentType, metadata: { ...request.metadata, ...own } };
    });
    const failed = await publish.publishBulk(request, entries, traceOf(context), context);
    return { failedEntries: failed.map(({ entryId, error }) => ({ entryId, error })) };
  };
  return {
    async getState({ storeName, key, metadata: own }, context) {
      const item = await state.get(storeName, key, context, own);
      return item
        ? { data: item.value ?? new Uint8Array(), etag: item.etag, metadata: itemMetadata(item) }
        : {};
    },

    async getBulkState({ storeName, keys, metadata: own }, context) {
      const items = await state.getBulk(storeName, keys, context, own);
      return {
        items: items.map(({ key, item, error }) => ({
          key,
          error,
          ...(item && {
            data: item.value ?? new Uint8Array(),
            etag: item.etag,
            metadata: itemMetadata(item),
          }),
        })),
      };
    },

    async saveState({ storeName, states }, context) {
      state.check(storeName);
      await state.save(storeName, states.map(savedItemOf), context);
      return empty;
    },

    async queryStateAlpha1({ storeName, query, metadata: own }, context) {
      const { items, token, metadata: answered } = await state.query(storeName, query, own, context);
      if (items.length === 0) return {};
      const results = items.map(({ key, value, etag, error }) => ({ key, data: value, etag, error }));
      return { results, token, metadata: { ...answered } };
    },

    async deleteState({ storeName, key, etag, options, metadata: own }, context) {
      const firstWrite = options?.concurrency === StateOptions_StateConcurrency.CONCURRENCY_FIRST_WRITE;
      await state.delete(storeName, { key, etag: etag?.value, firstWrite, metadata: own }, context);
      return empty;
    },

    async deleteBulkState({ storeName, states }, context) {
      await state.deleteBulk(storeName, states.map(itemOf), context);
      return empty;
    },

    async executeStateTransaction({ storeName, operations }, context) {
      state.check(storeName);
      const own = operations.map(({ operationType: type, request }) => {
        const read = type === "upsert" ? savedItemOf : itemOf;
        return { type, item: request ? read(request) : noItem };
      });
      await state.transact(storeName, own, context, () => traceOf(context));
      return empty;
    },

    async publishEvent({ pubsubName, topic, data, dataContentType, metadata: own }, context) {
      const input = { data, contentType: dataContentType, metadata: own };
      await publish.publish({ pubsubName, topic }, input, traceOf(context), context);
      return empty;
    },

    bulkPublishEvent: bulkPublish,
    bulkPublishEventAlpha1: bulkPublish,

    async *subscribeTopicEventsAlpha1(requests, context) {
      const stream = new SubscribeStream(
        (pubsubName, topic) => publish.bus({ pubsubName, topic }),
        (pubsubName) => api.inboundPolicyOf(pubsubName),
      );
      // A client that dies can look as if it had half-closed: only the signal tells them apart.
      context.signal.addEventListener("abort", () => stream.abandon(), { once: true });
      void stream.listen(requests);
      subscriptions.addStream(stream);
      try {
        yield* stream.messages();
      } finally {
        subscriptions.removeStream(stream);
      }
    },

    getSecret: ({ storeName, key }) => ({ data: Object.fromEntries(secrets.get(storeName, key)) }),

    getBulkSecret: ({ storeName }) => ({
      data: Object.fromEntries(
        [...secrets.getBulk(storeName)].map(([name, fields]) => [
          name,
          { secrets: Object.fromEntries(fields) },
        ]),
      ),
    }),

    getMetadata: () => metadata.message(),

    setMetadata({ key, value }) {
      metadata.set(key, value);
      return empty;
    },

    shutdown(_request, { requestHeader }) {
      api.shutdown(isForced(requestHeader.get("dapr-force-shutdown")));
      return empty;
    },
  };
}

/** The answer that says nothing but that it was done. */
const empty = create(EmptySchema);

const noItem: StateItemInput = {
  key: "",
  value: new Uint8Array(),
  etag: undefined,
  firstWrite: false,
  metadata: {},
};

function itemOf({ key, value, etag, metadata, options }: StateItem): StateItemInput {
  const firstWrite = options?.concurrency === StateOptions_StateConcurrency.CONCURRENCY_FIRST_WRITE;
  return { key, value, etag: etag?.value, firstWrite, metadata };
}

/** One whose value is to be stored. */
function savedItemOf(state: StateItem): StateItemInput {
  const item = itemOf(state);
  return item.metadata["contentType"] === "application/json" ? { ...item, value: jsonOf(item.value) } : item;
}

/** A value that is said to be JSON, as JSON without spaces. Throws what Go says of one that is none. */
function jsonOf(value: Uint8Array): Uint8Array {
  try {
    return Buffer.from(compactJson(Buffer.from(value).toString()));
  } catch (cause) {
    const verdict = readAsGo(value, "whole");
    const why = "error" in verdict ? verdict.error : "it is no JSON";
    throw new ConnectError(why, Code.Unknown, undefined, undefined, cause);
  }
}
