/** Requests of Dapr's API over gRPC, as bytes, and what is read of its answers. */
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { AppCallback } from "../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { Dapr } from "../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import {
  BulkPublishRequestSchema,
  PublishEventRequestSchema,
  SubscribeTopicEventsRequestAlpha1Schema,
} from "../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import {
  ExecuteStateTransactionRequestSchema,
  GetStateRequestSchema,
  SaveStateRequestSchema,
} from "../../gen/dapr/proto/runtime/v1/state_pb.ts";
import { bytesOf, keyOf, pathOf, payload } from "../messages.ts";

/** Paths of the methods that are called, and of those of an application. */
export const daprPaths = {
  get: pathOf(Dapr, "GetState"),
  save: pathOf(Dapr, "SaveState"),
  transact: pathOf(Dapr, "ExecuteStateTransaction"),
  publish: pathOf(Dapr, "PublishEvent"),
  publishBulk: pathOf(Dapr, "BulkPublishEvent"),
  subscribe: pathOf(Dapr, "SubscribeTopicEventsAlpha1"),
  listSubscriptions: pathOf(AppCallback, "ListTopicSubscriptions"),
  onEvent: pathOf(AppCallback, "OnTopicEvent"),
  onBulkEvent: pathOf(AppCallback, "OnBulkTopicEvent"),
} as const;

/** The media type of the data. */
export const dataType = "text/plain";

export function getStateRequest(storeName: string, number: number): Uint8Array {
  return bytesOf(GetStateRequestSchema, { storeName, key: keyOf(number) });
}

export function saveStateRequest(storeName: string, number: number): Uint8Array {
  return bytesOf(SaveStateRequestSchema, { storeName, states: [{ key: keyOf(number), value: payload() }] });
}

/** Sets items in one transaction. */
export function transactionRequest(storeName: string, numbers: readonly number[]): Uint8Array {
  const operations = numbers.map((number) => ({
    operationType: "upsert",
    request: { key: keyOf(number), value: payload() },
  }));
  return bytesOf(ExecuteStateTransactionRequestSchema, { storeName, operations });
}

export function publishEventRequest(pubsubName: string, topic: string): Uint8Array {
  return bytesOf(PublishEventRequestSchema, {
    pubsubName,
    topic,
    data: payload(),
    dataContentType: dataType,
  });
}

export function bulkPublishRequest(pubsubName: string, topic: string, count: number): Uint8Array {
  const entries = Array.from({ length: count }, (_, number) => ({
    entryId: String(number),
    event: payload(),
    contentType: dataType,
  }));
  return bytesOf(BulkPublishRequestSchema, { pubsubName, topic, entries });
}

/** The first message of a streaming subscription. */
export function initialRequest(pubsubName: string, topic: string): Uint8Array {
  return bytesOf(SubscribeTopicEventsRequestAlpha1Schema, {
    subscribeTopicEventsRequestType: { case: "initialRequest", value: { pubsubName, topic } },
  });
}

/** The id of the event in a message of a streaming subscription, as bytes; undefined when it is another message. */
export function eventId(response: Uint8Array): Uint8Array | undefined {
  const reader = new BinaryReader(response);
  if (reader.tag()[0] !== 2) return undefined;
  reader.uint32();
  return reader.tag()[0] === 1 ? reader.bytes() : new Uint8Array();
}

/** Says that the event with the id was handled. */
export function processedRequest(id: Uint8Array): Uint8Array {
  // SubscribeTopicEventsRequestAlpha1.event_processed, with `id` and an empty `status`, which is SUCCESS.
  return Buffer.concat([Buffer.from([0x12, id.length + 4, 0x0a, id.length]), id, Buffer.from([0x12, 0])]);
}
