/**
 * CloudEvents 1.0 as one JSON document
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
 */
import { isAscii } from "node:buffer";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { invalidRequest, type Violation } from "../../faults.ts";
import { noData } from "../../protobuf/reader.ts";
import { isExtensionName, isReadableName, takenNames } from "./attributes.ts";
import { eachAttribute } from "./event-attributes.ts";
import { compactJson, jsonMembers } from "./json-text.ts";
import { isJsonType, isTextType } from "./media-types.ts";
import { readTime } from "./timestamps.ts";

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
  let attributes = '{"specversion":"1.0"';
  eachAttribute(event, (name, value) => {
    attributes += `,"${name}":${JSON.stringify(value)}`;
  });
  for (const name in event.extensions)
    if (isReadableName(name)) attributes += `,"${name}":${JSON.stringify(event.extensions[name])}`;
  return event.data.byteLength === 0 ? `${attributes}}` : `${attributes},${dataMember(event)}}`;
}

/**
 * Reads one event. What `encodeCloudEvent` wrote comes out as it was, except
 * that the spaces of JSON data are gone. Extensions that are numbers or booleans become strings;
 * null means absent. Throws INVALID_REQUEST naming every member at fault, with `path` before it.
 */
export function decodeCloudEvent(
  source: Uint8Array | string,
  path = "event",
  mayHaveName = isExtensionName,
): Event {
  const document = parseDocument(source, path);
  const reader = new DocumentReader(document, path, mayHaveName);
  const version = reader.text("specversion", true);
  if (version !== "" && version !== "1.0") reader.no("specversion", `must be "1.0"`);
  const time = reader.time();
  const event: Event = {
    $typeName: "outrider.pubsub.v1.Event",
    id: reader.text("id", true),
    source: reader.text("source", true),
    type: reader.text("type", true),
    subject: reader.text("subject", false),
    time,
    dataContentType: reader.text("datacontenttype", false),
    dataSchema: reader.text("dataschema", false),
    data: noData,
    extensions: {},
  };
  event.extensions = reader.extensions();
  event.data = reader.data(event.dataContentType);
  reader.throwViolations();
  return event;
}

/** Reads an event that a broker has, as `decodeCloudEvent` does; its extensions may have more names than ours. */
export function readCloudEvent(source: Uint8Array | string): Event {
  return decodeCloudEvent(source, "event", isReadableName);
}

function dataMember({ data, dataContentType }: Event): string {
  try {
    if (isJsonType(dataContentType) && mayBeJson(data))
      return `"data":${compactJson(dataDecoder.decode(data))}`;
    if (isTextType(dataContentType)) return `"data":${JSON.stringify(dataDecoder.decode(data))}`;
  } catch {
    // It is not what its media type says: its bytes are as good.
  }
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return `"data_base64":"${bytes.toString("base64")}"`;
}

/** Whether the first byte is one that JSON can begin with: finding out by an error is dear. */
function mayBeJson(data: Uint8Array): boolean {
  return /[\s"[{tfn\d-]/.test(String.fromCharCode(data[0]!));
}

/** The members, each as JSON. */
function parseDocument(source: Uint8Array | string, path: string): ReadonlyMap<string, string> {
  let members: Map<string, string> | undefined;
  try {
    members = jsonMembers(typeof source === "string" ? source : textOf(source));
  } catch (error) {
    const description = `must be a CloudEvent in JSON: ${(error as Error).message}`;
    throw invalidRequest({ field: path, description });
  }
  if (members) return members;
  throw invalidRequest({ field: path, description: "must be a CloudEvent in JSON: an object" });
}

/** The text of some bytes. Throws when they are no UTF-8; ASCII, which most are, is read without looking further. */
function textOf(bytes: Uint8Array): string {
  if (!isAscii(bytes)) return documentDecoder.decode(bytes);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Takes the members of a document one by one, and notes what is wrong with them. */
class DocumentReader {
  readonly #document: ReadonlyMap<string, string>;
  readonly #path: string;
  readonly #mayHaveName: (name: string) => boolean;
  readonly #violations: Violation[] = [];

  constructor(document: ReadonlyMap<string, string>, path: string, mayHaveName: (name: string) => boolean) {
    this.#mayHaveName = mayHaveName;
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
    const json = this.#json(member);
    if (json === undefined) {
      if (required) this.no(member, "must be set");
      return "";
    }
    const text = stringOf(json);
    if (text === undefined) this.no(member, "must be a string");
    else if (text === "") this.no(member, "must not be empty");
    return text ?? "";
  }

  time(): Timestamp | undefined {
    const text = this.text("time", false);
    if (text === "") return undefined;
    const time = readTime(text);
    if (!time) this.no("time", "must be a time as in RFC 3339, such as 2026-01-31T23:59:59.123Z");
    return time;
  }

  extensions(): Record<string, string> {
    const extensions: Record<string, string> = {};
    for (const [name, json] of this.#document) {
      if (takenNames.has(name) || json === "null") continue;
      if (!this.#mayHaveName(name)) {
        this.no(
          name.slice(0, 40),
          "must be the name of an attribute, or 1 to 20 lower-case letters and digits",
        );
      } else if (/^[[{]/.test(json)) this.no(name, "must be a string, a number or a boolean");
      else extensions[name] = stringOf(json) ?? json;
    }
    return extensions;
  }

  data(mediaType: string): Uint8Array {
    const json = this.#document.get("data");
    const base64 = this.#json("data_base64");
    if (base64 !== undefined) {
      if (json !== undefined) this.no("data_base64", "must not be set together with data");
      return this.#base64(base64);
    }
    if (json === undefined) return new Uint8Array();
    if (isJsonType(mediaType)) return encoder.encode(json);
    const text = stringOf(json);
    if (text === undefined) this.no("data", "must be a string, because datacontenttype is not JSON");
    return encoder.encode(text);
  }

  #base64(json: string): Uint8Array {
    const text = stringOf(json);
    if (text !== undefined) {
      const bytes = Buffer.from(text, "base64");
      // Node reads on over what is no base64. What is the same when it is written again, is; the pattern costs more.
      if (bytes.toString("base64") === text || (text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text)))
        return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    }
    this.no("data_base64", "must be a string in base64");
    return new Uint8Array();
  }

  /** A member as JSON. Null means absent. */
  #json(member: string): string | undefined {
    const json = this.#document.get(member);
    return json === "null" ? undefined : json;
  }
}

/** Undefined when it is no string. What is JSON, and has nothing escaped, is the text between its quotes. */
function stringOf(json: string): string | undefined {
  if (!json.startsWith('"')) return undefined;
  return json.includes("\\") ? (JSON.parse(json) as string) : json.slice(1, -1);
}
