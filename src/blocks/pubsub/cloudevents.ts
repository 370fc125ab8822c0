/**
 * CloudEvents 1.0 as one JSON document
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
 */
import { create, fromJson, toJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type Event, EventSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { invalidRequest, type Violation } from "../../faults.ts";
import { isExtensionName } from "./attributes.ts";
import { numberText, parseExactJson } from "./exact-json.ts";
import { isJsonType, isTextType } from "./media-types.ts";

/** The media type of one event as JSON. */
export const cloudEventsJsonType = "application/cloudevents+json";

const encoder = new TextEncoder();
/** Both refuse bytes that are no UTF-8; the second keeps a byte order mark, which is part of the data. */
const documentDecoder = new TextDecoder("utf-8", { fatal: true });
const dataDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Writes an event on one line. Data is written as JSON when its media type says
 * so and it is, as a string when it is text, else in base64. An event without
 * the required attributes gives a document without them.
 */
export function encodeCloudEvent(event: Event): string {
  const document: Record<string, unknown> = { specversion: "1.0" };
  if (event.id !== "") document["id"] = event.id;
  if (event.source !== "") document["source"] = event.source;
  if (event.type !== "") document["type"] = event.type;
  if (event.subject !== "") document["subject"] = event.subject;
  if (event.time) document["time"] = toJson(TimestampSchema, event.time);
  if (event.dataContentType !== "") document["datacontenttype"] = event.dataContentType;
  if (event.dataSchema !== "") document["dataschema"] = event.dataSchema;
  for (const [name, value] of Object.entries(event.extensions))
    if (isExtensionName(name)) document[name] = value;
  if (event.data.byteLength === 0) return JSON.stringify(document);
  try {
    const data = readableData(event);
    if (data !== undefined) return JSON.stringify({ ...document, data });
  } catch {
    // It is no UTF-8, no JSON, or nested too deeply: its bytes are as good.
  }
  const bytes = Buffer.from(event.data.buffer, event.data.byteOffset, event.data.byteLength);
  return JSON.stringify({ ...document, data_base64: bytes.toString("base64") });
}

/**
 * Reads one event. What `encodeCloudEvent` wrote comes out as it was, except
 * that the spaces of JSON data are gone. Extensions that are numbers or booleans become strings; null
 * means absent. Throws INVALID_REQUEST naming every member at fault, with `path` before it.
 */
export function decodeCloudEvent(source: Uint8Array | string, path = "event"): Event {
  const document = parseDocument(source, path);
  const reader = new DocumentReader(document, path);
  const version = reader.text("specversion", true);
  if (version !== "" && version !== "1.0") reader.no("specversion", `must be "1.0"`);
  const time = reader.time();
  const event = create(EventSchema, {
    id: reader.text("id", true),
    source: reader.text("source", true),
    type: reader.text("type", true),
    subject: reader.text("subject", false),
    dataContentType: reader.text("datacontenttype", false),
    dataSchema: reader.text("dataschema", false),
    ...(time && { time }),
  });
  event.extensions = reader.extensions();
  event.data = reader.data(event.dataContentType);
  reader.throwViolations();
  return event;
}

/** Undefined where bytes are the better form. Throws when the data is not what its media type says. */
function readableData({ data, dataContentType }: Event): unknown {
  if (isJsonType(dataContentType)) return parseExactJson(dataDecoder.decode(data));
  return isTextType(dataContentType) ? dataDecoder.decode(data) : undefined;
}

function parseDocument(source: Uint8Array | string, path: string): ReadonlyMap<string, unknown> {
  let document: unknown;
  try {
    document = parseExactJson(typeof source === "string" ? source : documentDecoder.decode(source));
  } catch (error) {
    const description = `must be a CloudEvent in JSON: ${(error as Error).message}`;
    throw invalidRequest({ field: path, description });
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) {
    throw invalidRequest({ field: path, description: "must be a CloudEvent in JSON: an object" });
  }
  return new Map(Object.entries(document));
}

/** Takes the members of a document one by one, and notes what is wrong with them. */
class DocumentReader {
  readonly #document: ReadonlyMap<string, unknown>;
  readonly #path: string;
  readonly #violations: Violation[] = [];

  constructor(document: ReadonlyMap<string, unknown>, path: string) {
    this.#document = document;
    this.#path = path;
  }

  no(member: string, description: string): void {
    this.#violations.push({ field: `${this.#path}.${member}`, description });
  }

  throwViolations(): void {
    if (this.#violations.length > 0) throw invalidRequest(...this.#violations);
  }

  /** "" when the member is absent, or wrong. */
  text(member: string, required: boolean): string {
    const value = this.#document.get(member) ?? undefined;
    if (value === undefined) {
      if (required) this.no(member, "must be set");
      return "";
    }
    if (typeof value !== "string") this.no(member, "must be a string");
    else if (value === "") this.no(member, "must not be empty");
    return typeof value === "string" ? value : "";
  }

  time(): Timestamp | undefined {
    const text = this.text("time", false);
    if (text === "") return undefined;
    try {
      return fromJson(TimestampSchema, text.toUpperCase());
    } catch {
      this.no("time", "must be a time as in RFC 3339, such as 2026-01-31T23:59:59.123Z");
      return undefined;
    }
  }

  extensions(): Record<string, string> {
    const extensions: Record<string, string> = {};
    for (const [name, value] of this.#document) {
      if (knownMembers.has(name) || value === null) continue;
      const text = typeof value === "string" ? value : (numberText(value) ?? booleanText(value));
      if (!isExtensionName(name)) {
        this.no(
          name.slice(0, 40),
          "must be the name of an attribute, or 1 to 20 lower-case letters and digits",
        );
      } else if (text === undefined) this.no(name, "must be a string, a number or a boolean");
      else extensions[name] = text;
    }
    return extensions;
  }

  data(mediaType: string): Uint8Array {
    const data = this.#document.get("data");
    const base64 = this.#document.get("data_base64") ?? undefined;
    if (base64 !== undefined) {
      if (data !== undefined) this.no("data_base64", "must not be set together with data");
      return this.#base64(base64);
    }
    if (data === undefined) return new Uint8Array();
    if (isJsonType(mediaType)) return encoder.encode(JSON.stringify(data));
    if (typeof data === "string") return encoder.encode(data);
    this.no("data", "must be a string, because datacontenttype is not JSON");
    return new Uint8Array();
  }

  #base64(value: unknown): Uint8Array {
    if (typeof value === "string" && value.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(value)) {
      return new Uint8Array(Buffer.from(value, "base64"));
    }
    this.no("data_base64", "must be a string in base64");
    return new Uint8Array();
  }
}

/** Members that are no extensions. */
const knownMembers = new Set([
  "specversion",
  "id",
  "source",
  "type",
  "subject",
  "time",
  "datacontenttype",
  "dataschema",
  "data",
  "data_base64",
]);

function booleanText(value: unknown): string | undefined {
  return typeof value === "boolean" ? String(value) : undefined;
}
