/** Deliveries as lines, for people and for programs. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Delivery } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { lineOf, safe, textOf } from "./payload.ts";
import { paint } from "./terminal.ts";

/** One line: when, where, what, and what is unusual about it. */
export function deliveryLine(delivery: Delivery, color: boolean): string {
  const { event, topic, publishedAt, key, attempt, route } = delivery;
  const time = (publishedAt ? timestampDate(publishedAt) : new Date()).toISOString().slice(11, 23);
  const facts = [
    key && `key=${safe(key)}`,
    route && `route=${safe(route)}`,
    attempt > 1 && `attempt=${attempt}`,
  ].filter(Boolean);
  const head = [
    paint(color, "dim", time),
    paint(color, "cyan", safe(topic)),
    event?.type && paint(color, "bold", safe(event.type)),
    ...facts.map((fact) => paint(color, "yellow", String(fact))),
  ].filter(Boolean);
  return `${head.join(" ")} ${lineOf(event?.data ?? new Uint8Array(), event?.dataContentType ?? "")}`;
}

/**
 * The event as CloudEvents JSON. What the broker and the sidecar know of it
 * stands beside it as extensions: topic, partitionkey, position, attempt, route.
 */
export function deliveryJson(delivery: Delivery): Record<string, unknown> {
  const { event, topic, key, position, attempt, route } = delivery;
  const known = {
    topic,
    ...(key ? { partitionkey: key } : {}),
    ...(position ? { position } : {}),
    attempt,
    ...(route ? { route } : {}),
  };
  return { ...known, ...(event ? eventJson(event) : {}) };
}

function eventJson(event: NonNullable<Delivery["event"]>): Record<string, unknown> {
  const { id, source, type, subject, time, dataContentType, dataSchema, data, extensions } = event;
  const attributes = {
    ...(id ? { specversion: "1.0", id, source, type } : {}),
    ...(subject ? { subject } : {}),
    ...(time ? { time: timestampDate(time).toISOString() } : {}),
    ...(dataContentType ? { datacontenttype: dataContentType } : {}),
    ...(dataSchema ? { dataschema: dataSchema } : {}),
    ...extensions,
  };
  return { ...attributes, ...dataMember(data, dataContentType) };
}

/** As in the JSON format of CloudEvents, section 3.1: JSON as it is, text as a string, anything else in base64. */
function dataMember(data: Uint8Array, contentType: string): { data?: unknown; data_base64?: string } {
  if (data.length === 0) return {};
  const text = textOf(data);
  if (text === undefined) return { data_base64: Buffer.from(data).toString("base64") };
  if (contentType !== "" && !/[/+]json\b/.test(contentType)) return { data: text };
  try {
    return { data: JSON.parse(text) as unknown };
  } catch {
    return { data: text };
  }
}
