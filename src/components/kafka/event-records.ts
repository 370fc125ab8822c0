/** Events as records, and records as events: the CloudEvents binding for Kafka, and what Dapr writes. */
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { cloudEventsJsonType, encodeCloudEvent, readCloudEvent } from "../../blocks/pubsub/cloudevents.ts";
import type { Outgoing } from "../../blocks/pubsub/driver.ts";
import { bareEvent, eachAttribute, setAttribute } from "../../blocks/pubsub/event-attributes.ts";
import type { FetchedRecord, RecordFields } from "./record-batch.ts";

/** How events are written. */
export type ContentMode = "structured" | "binary";

/** Attributes that Dapr writes for events that expire, and we read. */
const expirationName = "expiration";
const attributePrefix = "ce_";

/** The record of an event that is published at a time. */
export function toRecord(outgoing: Outgoing, mode: ContentMode, nowMs: number): RecordFields {
  const { compact = false, event, key, headers, raw, timeToLiveMs } = outgoing;
  const expiration = timeToLiveMs === undefined ? undefined : new Date(nowMs + timeToLiveMs).toISOString();
  const own = Object.entries(headers);
  const recordKey = key === "" ? null : key;
  if (raw) {
    if (expiration !== undefined && headers[expirationName] === undefined)
      own.push([expirationName, expiration]);
    return { key: recordKey, value: event.data, headers: own };
  }
  const complete =
    expiration === undefined
      ? event
      : { ...event, extensions: { ...event.extensions, [expirationName]: expiration } };
  if (mode === "binary" || compact) {
    const all = [...binaryHeaders(complete), ...own];
    return { key: recordKey, value: event.data, headers: all, anySize: compact };
  }
  // A header of the same name that the application gave stays as it is: the document says what it is.
  if (!own.some(([name]) => name.toLowerCase() === "content-type"))
    own.push(["content-type", cloudEventsJsonType]);
  return { key: recordKey, value: encodeCloudEvent(complete), headers: own };
}

function binaryHeaders(event: Event): [string, string][] {
  const headers: [string, string][] = [["ce_specversion", "1.0"]];
  eachAttribute(event, (name, value) =>
    headers.push([name === "datacontenttype" ? "content-type" : attributePrefix + name, value]),
  );
  for (const [name, value] of Object.entries(event.extensions)) headers.push([attributePrefix + name, value]);
  return headers;
}

/** What a record is to an application. */
export interface RecordEvent {
  readonly event: Event;
  readonly headers: Readonly<Record<string, string>>;
  readonly expiresAtMs: number | undefined;
  /** Why it is no CloudEvent; undefined for one, and where none was looked for. */
  readonly notCloudEvent: string | undefined;
}

/** Reads a record. With `raw` no envelope is looked for. Never throws. */
export function fromRecord(record: FetchedRecord, raw: boolean): RecordEvent {
  const headers = headersOf(record);
  const data = record.value ?? noData;
  if (raw) return plain(data, headers, undefined);
  if (headers["ce_specversion"] !== undefined) return fromBinary(data, headers);
  const mediaType = mediaTypeOf(headers);
  const declared = mediaType.startsWith(cloudEventsJsonType);
  if (!declared && !looksLikeEnvelope(data)) {
    return plain(
      data,
      headers,
      record.value === null ? "the record has no value" : "there is no envelope",
      mediaType,
    );
  }
  try {
    const event = readDocument(data);
    if (declared) {
      const { "content-type": _, ...others } = headers;
      return withExpiration(event, others);
    }
    return withExpiration(event, headers);
  } catch (error) {
    return plain(data, headers, error instanceof Error ? error.message : String(error), mediaType);
  }
}

function plain(
  data: Uint8Array,
  headers: Readonly<Record<string, string>>,
  notCloudEvent: string | undefined,
  dataContentType = "",
): RecordEvent {
  const event = bareEvent(data);
  event.dataContentType = dataContentType;
  return { event, headers, expiresAtMs: timeOf(headers[expirationName]), notCloudEvent };
}

function fromBinary(data: Uint8Array, headers: Readonly<Record<string, string>>): RecordEvent {
  const rest: Record<string, string> = {};
  const event = bareEvent(data);
  let problem: string | undefined;
  for (const [name, value] of Object.entries(headers)) {
    if (name === "content-type") event.dataContentType = value;
    else if (!name.startsWith(attributePrefix)) rest[name] = value;
    else {
      const attribute = name.slice(attributePrefix.length);
      const known = attribute === "specversion" ? isVersion(value) : setAttribute(event, attribute, value);
      if (!known) problem ??= `the header ${JSON.stringify(name.slice(0, 40))} makes no sense`;
    }
  }
  for (const name of ["id", "source", "type"] as const) {
    if (event[name] === "") problem ??= `the header "${attributePrefix}${name}" is missing`;
  }
  if (problem !== undefined) return plain(data, headers, problem, event.dataContentType);
  return withExpiration(event, rest);
}

function isVersion(text: string): boolean {
  return text === "1.0" || text === "0.3";
}

/** What expires says so in an attribute, which is no part of the event. */
function withExpiration(event: Event, headers: Readonly<Record<string, string>>): RecordEvent {
  const expiresAtMs = timeOf(event.extensions[expirationName]);
  if (expiresAtMs !== undefined) delete event.extensions[expirationName];
  return { event, headers, expiresAtMs, notCloudEvent: undefined };
}

function timeOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const timeMs = Date.parse(text);
  return Number.isNaN(timeMs) ? undefined : timeMs;
}

function headersOf({ headers }: FetchedRecord): Record<string, string> {
  const values: Record<string, string> = {};
  for (const [name, value] of headers) {
    const text = value === null ? "" : value.toString();
    // Assigning this one would change the object, not add to it.
    if (name === "__proto__") Object.defineProperty(values, name, { value: text, enumerable: true });
    else values[name] = text;
  }
  return values;
}

function mediaTypeOf(headers: Readonly<Record<string, string>>): string {
  const direct = headers["content-type"];
  if (direct !== undefined) return direct.toLowerCase();
  for (const name in headers) if (name.toLowerCase() === "content-type") return headers[name]!.toLowerCase();
  return "";
}

const openingBrace = 0x7b;
const noData = Buffer.alloc(0);

/** Dapr writes envelopes without a header that says so. */
function looksLikeEnvelope(data: Uint8Array): boolean {
  let at = 0;
  while (at < data.length && data[at]! <= 0x20) at += 1;
  if (data[at] !== openingBrace) return false;
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).includes('"specversion"');
}

/**
 * Most documents are read by JSON.parse alone. Those whose data would lose something by it, and those with anything
 * unusual, are read by the exact reader, which says what is wrong with them.
 */
function readDocument(data: Uint8Array): Event {
  const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString();
  return quickEvent(text) ?? readCloudEvent(data);
}

function quickEvent(text: string): Event | undefined {
  // A backslash in a name, or a character that was no UTF-8, is for the exact reader.
  if (text.includes("\ufffd") || text.includes('\\"specversion')) return undefined;
  let document: Record<string, unknown>;
  try {
    document = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  const { specversion, id, source, type } = document;
  if (specversion !== "1.0" || !isText(id) || !isText(source) || !isText(type)) return undefined;
  const event = bareEvent(noData);
  event.id = id;
  event.source = source;
  event.type = type;
  for (const name in document) {
    const value = document[name];
    if (typeof value !== "string") return undefined;
    switch (name) {
      case "specversion":
      case "id":
      case "source":
      case "type":
        break;
      case "data":
        event.data = Buffer.from(value);
        break;
      case "data_base64":
        event.data = Buffer.from(value, "base64");
        if (event.data.length !== Math.floor((value.replace(/=+$/, "").length * 3) / 4)) return undefined;
        break;
      default:
        if (value === "" || !setAttribute(event, name, value)) return undefined;
    }
  }
  if (document["data"] !== undefined) {
    const { dataContentType } = event;
    // A string of JSON stands for itself, quotes and all.
    if (dataContentType === "" || /json/i.test(dataContentType) || document["data_base64"] !== undefined)
      return undefined;
  }
  return event;
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}
