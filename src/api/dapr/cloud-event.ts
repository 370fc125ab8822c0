/** An event as one JSON document, as Dapr writes it: to HTTP applications, and to brokers. */
import type { Received } from "../../blocks/pubsub/driver.ts";
import { compactJson } from "../../blocks/pubsub/json-text.ts";
import { isJsonType } from "../../blocks/pubsub/media-types.ts";
import { timeText } from "../../blocks/pubsub/timestamps.ts";
import { isBinaryType } from "./topic-event.ts";

/** The media type of the document. */
export const cloudEventType = "application/cloudevents+json";

/** Writes the document. Unlike CloudEvents' own rules, data of a type that is neither JSON nor binary is a string. */
export function daprDocument({ event, topic }: Received, pubsubName: string): string {
  const document: Record<string, unknown> = {
    ...event.extensions,
    specversion: "1.0",
    id: event.id,
    source: event.source,
    type: event.type,
    datacontenttype: event.dataContentType,
    topic: event.extensions["topic"] ?? topic,
    pubsubname: event.extensions["pubsubname"] ?? pubsubName,
  };
  if (event.subject !== "") document["subject"] = event.subject;
  if (event.dataSchema !== "") document["dataschema"] = event.dataSchema;
  if (event.time) document["time"] = timeText(event.time);
  return `${JSON.stringify(document).slice(0, -1)},${dataMember(event.data, event.dataContentType)}}`;
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
