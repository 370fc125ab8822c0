/** The body of a delivery over HTTP: a CloudEvent in JSON. */
import { randomUUID } from "node:crypto";
import type { Received } from "../../../blocks/pubsub/driver.ts";
import { daprDocument } from "../cloud-event.ts";
import { noTraceparent } from "../published-event.ts";
import { isRaw, type TopicSubscriptionSpec } from "../topic-subscription.ts";

const eventType = "com.dapr.event.sent";

/** Writes the body. A record without an envelope gets one, with its bytes in base64. */
export function bodyOf(received: Received, spec: TopicSubscriptionSpec): string {
  if (!isRaw(spec) && received.notCloudEvent === undefined) return daprDocument(received, spec.pubsubName);
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
