/** The body of a delivery over HTTP: a CloudEvent in JSON. */
import { randomUUID } from "node:crypto";
import type { Received } from "../../../blocks/pubsub/driver.ts";
import { daprDocument } from "../cloud-event.ts";
import { noTraceparent } from "../published-event.ts";
import type { TopicSubscriptionSpec } from "../topic-subscription.ts";

const eventType = "com.dapr.event.sent";

/**
 * Writes the body. A record without an envelope gets one, with its bytes in base64; but one that is an object in JSON is
 * taken for an event, whatever it has, unless the subscription wants records as they are.
 */
export function bodyOf(received: Received, spec: TopicSubscriptionSpec): string {
  const { event, notCloudEvent } = received;
  if (!spec.raw) {
    if (notCloudEvent === undefined && event.id !== "") return daprDocument(received, spec.pubsubName);
    const object = jsonObject(event.data);
    if (object !== undefined) return object;
  }
  const data = Buffer.from(received.event.data).toString("base64");
  return JSON.stringify({ ...rawAttributes(received, spec.pubsubName), data_base64: data });
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

/** The text of bytes that are an object in JSON; undefined when they are none. */
function jsonObject(data: Uint8Array): string | undefined {
  const text = Buffer.from(data).toString();
  if (!text.trimStart().startsWith("{")) return undefined;
  try {
    JSON.parse(text);
    return text;
  } catch {
    return undefined;
  }
}
