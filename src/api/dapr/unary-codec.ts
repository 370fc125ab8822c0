/**
 * Reads the requests that a busy sidecar gets most of, and writes their answers, faster than protobuf-es does. Everything
 * unusual is left to protobuf-es: see `src/protobuf/reader.ts`.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { StateItem } from "../../../gen/dapr/proto/common/v1/common_pb.ts";
import {
  type PublishEventRequest,
  PublishEventRequestSchema,
} from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import {
  type GetStateRequest,
  GetStateRequestSchema,
  type GetStateResponse,
  type SaveStateRequest,
  SaveStateRequestSchema,
} from "../../../gen/dapr/proto/runtime/v1/state_pb.ts";
import { lengthDelimited, noData, Reader, tag } from "../../protobuf/reader.ts";
import { ReverseWriter } from "../../protobuf/writer.ts";

/** What an answer has beside its data, in bytes, roughly: the first guess of its size. */
const guessedBytes = 128;

/** The message of some bytes; `bytes` fields are views of them. Throws what protobuf-es throws. */
export function decodePublishEventRequest(bytes: Uint8Array): PublishEventRequest {
  const reader = new Reader(bytes);
  const { end } = reader;
  const request: PublishEventRequest = {
    $typeName: "dapr.proto.runtime.v1.PublishEventRequest",
    pubsubName: "",
    topic: "",
    data: noData,
    dataContentType: "",
    metadata: {},
  };
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        request.pubsubName = reader.text(end);
        break;
      case tag(2, lengthDelimited):
        request.topic = reader.text(end);
        break;
      case tag(3, lengthDelimited):
        request.data = reader.data(end);
        break;
      case tag(4, lengthDelimited):
        request.dataContentType = reader.text(end);
        break;
      case tag(5, lengthDelimited):
        reader.entry(reader.nested(end), request.metadata);
        break;
      default:
        reader.giveUp();
    }
  }
  return reader.unusual ? fromBinary(PublishEventRequestSchema, bytes) : request;
}

/** The message of some bytes. Throws what protobuf-es throws. */
export function decodeGetStateRequest(bytes: Uint8Array): GetStateRequest {
  const reader = new Reader(bytes);
  const { end } = reader;
  const request: GetStateRequest = {
    $typeName: "dapr.proto.runtime.v1.GetStateRequest",
    storeName: "",
    key: "",
    consistency: 0,
    metadata: {},
  };
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        request.storeName = reader.text(end);
        break;
      case tag(2, lengthDelimited):
        request.key = reader.text(end);
        break;
      case tag(4, lengthDelimited):
        reader.entry(reader.nested(end), request.metadata);
        break;
      default:
        reader.giveUp();
    }
  }
  return reader.unusual ? fromBinary(GetStateRequestSchema, bytes) : request;
}

/** The bytes of an answer. */
export function encodeGetStateResponse({ data, etag, metadata }: GetStateResponse): Uint8Array {
  const writer = new ReverseWriter(guessedBytes + data.length);
  writer.map(tag(3, lengthDelimited), metadata);
  writer.text(tag(2, lengthDelimited), etag);
  writer.data(tag(1, lengthDelimited), data);
  return writer.bytes();
}

/** The message of some bytes; `bytes` fields are views of them. Throws what protobuf-es throws. */
export function decodeSaveStateRequest(bytes: Uint8Array): SaveStateRequest {
  const reader = new Reader(bytes);
  const { end } = reader;
  const request: SaveStateRequest = {
    $typeName: "dapr.proto.runtime.v1.SaveStateRequest",
    storeName: "",
    states: [],
  };
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        request.storeName = reader.text(end);
        break;
      case tag(2, lengthDelimited):
        request.states.push(readItem(reader, reader.nested(end)));
        break;
      default:
        reader.giveUp();
    }
  }
  return reader.unusual ? fromBinary(SaveStateRequestSchema, bytes) : request;
}

/** An item without etag and options: one that has them is unusual. */
function readItem(reader: Reader, end: number): StateItem {
  const item: StateItem = {
    $typeName: "dapr.proto.common.v1.StateItem",
    key: "",
    value: noData,
    metadata: {},
  };
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        item.key = reader.text(end);
        break;
      case tag(2, lengthDelimited):
        item.value = reader.data(end);
        break;
      case tag(4, lengthDelimited):
        reader.entry(reader.nested(end), item.metadata);
        break;
      default:
        reader.giveUp();
    }
  }
  if (reader.position > end) reader.giveUp();
  return item;
}
