/** An event as HTTP applications get it: a CloudEvent in JSON, as Dapr writes it. */
import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import type { Received } from "../../../blocks/pubsub/driver.ts";
import { compactJson } from "../../../blocks/pubsub/json-text.ts";
import { isJsonType } from "../../../blocks/pubsub/media-types.ts";
import { noTraceparent } from "../published-event.ts";
import { isBinaryType } from "../topic-event.ts";
import { isRaw, type TopicSubscriptionSpec } from "../topic-subscription.ts";

/** The media type of the body. */
export const cloudEventType = "application/cloudevents+json";

const eventType = "com.dapr.event.sent";

/** The body of a delivery. */
export function cloudEventOf(received: Received, spec: TopicSubscriptionSpec): string {
  const { event, topic } = received;
  if (isRaw(spec) || received.notCloudEvent !== undefined) {
    const data = Buffer.from(event.data).toString("base64");
    return JSON.stringify({ ...rawAttributes(received, spec.pubsubName), data_base64: data });
  }
  const document: Record<string, unknown> = {
    ...event.extensions,
    specversion: "1.0",
    id: event.id,
    source: event.source,
    type: event.type,
    datacontenttype: event.dataContentType,
    topic: event.extensions["topic"] ?? topic,
    pubsubname: event.extensions["pubsubname"] ?? spec.pubsubName,
  };
  if (event.subject !== "") document["subject"] = event.subject;
  if (event.dataSchema !== "") document["dataschema"] = event.dataSchema;
  if (event.time) document["time"] = toJson(TimestampSchema, event.time);
  return `${JSON.stringify(document).slice(0, -1)},${dataMember(event.data, event.dataContentType)}}`;
}

/** What a record without an envelope is given for one. */
function rawAttributes({ topic, headers }: Received, pubsubname: string) {
  const traceparent = headers["traceparent"] || noTraceparent;
  return {
    specversion: "1.0",
    id: randomUUID(),
    source: "Dapr",
    type: eventType,
    datacontenttype: "application/octet-stream",
    topic,
    pubsubname,
    time: new Date().toISOString(),
    traceid: traceparent,
    traceparent,
    tracestate: headers["tracestate"] ?? "",
  };
}

/** The data: JSON where its type says so and it is, base64 where it is binary, else a string. */
function dataMember(data: Uint8Array, dataContentType: string): string {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (isBinaryType(dataContentType)) return `"data_base64":"${bytes.toString("base64")}"`;
  const text = bytes.toString("utf8");
  if (isJsonType(dataContentType)) {
    try {
      return `"data":${compactJson(text)}`;
    } catch {
      // As a string, then.
    }
  }
  return `"data":${JSON.stringify(text)}`;
}
