/** An event as Dapr gives it to applications. */
import { randomUUID } from "node:crypto";
import type { JsonObject } from "@bufbuild/protobuf";
import type { TopicEventRequest } from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import type { Received } from "../../blocks/pubsub/driver.ts";
import { isJsonType, isTextType } from "../../blocks/pubsub/media-types.ts";
import { timeText } from "../../blocks/pubsub/timestamps.ts";

/** What Dapr knows of a delivery beside the event. */
export interface TopicEventContext {
  readonly pubsubName: string;
  /** The route: what a rule, or the default, names. */
  readonly path: string;
  /** The subscription asks for records as they are. */
  readonly raw: boolean;
}

const eventType = "com.dapr.event.sent";
const noData = new Uint8Array(0);

/** The event for gRPC: to a callback, or on a stream. */
export function topicEventOf(
  received: Received,
  { pubsubName, path, raw }: TopicEventContext,
): TopicEventRequest {
  const { event, topic } = received;
  const $typeName = "dapr.proto.runtime.v1.TopicEventRequest";
  // The topic that it came by: of a dead letter, unlike in its attributes, not the one it was published to.
  const common = { specVersion: "1.0", topic, pubsubName, path };
  if (raw || received.notCloudEvent !== undefined) {
    const dataContentType = "application/octet-stream";
    const own = { id: randomUUID(), source: "", type: eventType, dataContentType, data: event.data };
    return { $typeName, ...own, ...common, extensions: { ...received.headers } };
  }
  const { id, source, type, dataContentType } = event;
  // As Dapr does: text of a type that is neither JSON, text nor binary does not get through to gRPC.
  const data = carriesData(dataContentType) ? event.data : noData;
  return {
    $typeName,
    id,
    source,
    type,
    dataContentType,
    data,
    ...common,
    extensions: extensionsOf(received),
  };
}

/** What an application finds in `extensions`: everything that has no field of its own. */
function extensionsOf({ event }: Received): JsonObject {
  const all: JsonObject = {};
  for (const name in event.extensions)
    if (name !== "topic" && name !== "pubsubname") all[name] = event.extensions[name]!;
  if (event.time) all["time"] = timeText(event.time);
  if (event.subject !== "") all["subject"] = event.subject;
  if (event.dataSchema !== "") all["dataschema"] = event.dataSchema;
  return all;
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
