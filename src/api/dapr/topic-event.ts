/** An event as Dapr gives it to applications. */
import { randomUUID } from "node:crypto";
import { create, type JsonObject, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type TopicEventRequest,
  TopicEventRequestSchema,
} from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import type { Received } from "../../blocks/pubsub/driver.ts";
import { isJsonType, isTextType } from "../../blocks/pubsub/media-types.ts";

/** What Dapr knows of a delivery beside the event. */
export interface TopicEventContext {
  readonly pubsubName: string;
  /** The route: what a rule, or the default, names. */
  readonly path: string;
  /** The subscription asks for records as they are. */
  readonly raw: boolean;
}

const eventType = "com.dapr.event.sent";

/** The event for gRPC: to a callback, or on a stream. */
export function topicEventOf(
  received: Received,
  { pubsubName, path, raw }: TopicEventContext,
): TopicEventRequest {
  const { event, topic } = received;
  // The topic that it came by: of a dead letter, unlike in its attributes, not the one it was published to.
  const common = { specVersion: "1.0", topic, pubsubName, path };
  if (raw || received.notCloudEvent !== undefined) {
    const dataContentType = "application/octet-stream";
    const own = { id: randomUUID(), type: eventType, dataContentType, data: event.data };
    return create(TopicEventRequestSchema, { ...common, ...own, extensions: { ...received.headers } });
  }
  const { id, source, type, dataContentType } = event;
  const request: MessageInitShape<typeof TopicEventRequestSchema> = {
    ...common,
    id,
    source,
    type,
    dataContentType,
  };
  // As Dapr does: text of a type that is neither JSON, text nor binary does not get through to gRPC.
  if (carriesData(dataContentType)) request.data = event.data;
  request.extensions = extensionsOf(received);
  return create(TopicEventRequestSchema, request);
}

/** What an application finds in `extensions`: everything that has no field of its own. */
function extensionsOf({ event }: Received): JsonObject {
  const { topic: _topic, pubsubname: _pubsubname, ...extensions } = event.extensions;
  const all: JsonObject = { ...extensions };
  if (event.time) all["time"] = timeText(event.time);
  if (event.subject !== "") all["subject"] = event.subject;
  if (event.dataSchema !== "") all["dataschema"] = event.dataSchema;
  return all;
}

/** A time as RFC 3339 has it. Whole milliseconds, which most have, cost a tenth of the rest. */
export function timeText(time: Timestamp): string {
  if (time.nanos % 1_000_000 !== 0) return toJson(TimestampSchema, time);
  return new Date(timestampMs(time)).toISOString();
}

function carriesData(dataContentType: string): boolean {
  return isJsonType(dataContentType) || isTextType(dataContentType) || isBinaryType(dataContentType);
}

/** Whether Dapr writes data of this type in base64. */
export function isBinaryType(dataContentType: string): boolean {
  return /^application\/(octet-stream|cloudevents\+protobuf|x-protobuf|protobuf)\s*(;|$)/i.test(
    dataContentType,
  );
}
