/**
 * Events as messages of NATS, both ways.
 *
 * Out: a CloudEvent as one JSON document, as Dapr writes it, or the bare data of a raw event. In: that, and
 * CloudEvents in binary mode, whose attributes are headers (`ce-id`), and anything else as what is known of it.
 */
import { headers, type Msg, type MsgHdrs } from "@nats-io/transport-node";
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { cloudEventsJsonType, encodeCloudEvent, readCloudEvent } from "../../blocks/pubsub/cloudevents.ts";
import type { Outgoing, Received } from "../../blocks/pubsub/driver.ts";
import { bareEvent, eachAttribute, setAttribute } from "../../blocks/pubsub/event-attributes.ts";
import { topicOf } from "./subjects.ts";

const contentType = "content-type";
const keyHeader = "Outrider-Key";
const lifeHeader = "Outrider-Ttl-Ms";
/** Headers that NATS cannot carry as they are, as JSON. */
const otherHeaders = "Outrider-Headers";

/** Names of headers that mean something to the server, to us or to CloudEvents. */
const reserved = /^(nats-|outrider-|ce-|kv-operation$|content-type$)/i;
const plainName = /^[\w!#$&'*+.^`|~-]+$/;
const plainValue = /^[!-~](?:[ -~]*[!-~])?$/;

/** What is published for an event. */
export interface Message {
  readonly payload: Uint8Array | string;
  readonly headers: MsgHdrs;
}

/** Makes the message of an event. */
export function toMessage({ event, key, headers: given, raw, timeToLiveMs, compact }: Outgoing): Message {
  const written = headers();
  if (key !== "")
    written.set(keyHeader, plainValue.test(key) && !key.startsWith("%") ? key : escapeText(key));
  if (timeToLiveMs !== undefined) written.set(lifeHeader, String(timeToLiveMs));
  let others: Record<string, string> | undefined;
  for (const name in given) {
    const value = given[name]!;
    if (plainName.test(name) && !reserved.test(name) && plainValue.test(value)) written.set(name, value);
    else {
      others ??= Object.create(null) as Record<string, string>;
      others[name] = value;
    }
  }
  if (others) written.set(otherHeaders, asciiJson(others));
  if (raw) return { payload: event.data, headers: written };
  // Data that are no text take a third more in a document.
  if (compact && !event.dataContentType.startsWith(cloudEventsJsonType)) {
    writeAttributes(event, written);
    return { payload: event.data, headers: written };
  }
  written.set(contentType, cloudEventsJsonType);
  return { payload: encodeCloudEvent(event), headers: written };
}

/** The attributes of an event as headers, in binary mode. */
function writeAttributes(event: Event, written: MsgHdrs): void {
  const write = (name: string, value: string) =>
    written.set(
      name === "datacontenttype" ? contentType : `ce-${name}`,
      plainValue.test(value) && !value.includes("%") ? value : encodeURIComponent(value),
    );
  write("specversion", "1.0");
  eachAttribute(event, write);
  for (const [name, value] of Object.entries(event.extensions)) if (value !== "") write(name, value);
}

/** What a message says of itself: where it is in its stream, and how it came. */
export interface Position {
  readonly stream: string;
  readonly sequence: number;
  /** How often the group has been given it, this time included. */
  readonly deliveries: number;
  /** How many deliveries of all messages the consumer has made, this one included. */
  readonly delivery: number;
  /** When the stream took it, milliseconds since 1970. */
  readonly storedAtMs: number;
  /** Messages that the server has still to send after it. */
  readonly pending: number;
}

/** Reads the subject that a delivery is acknowledged at; undefined when the message is no delivery. */
export function positionOf(reply: string | undefined): Position | undefined {
  if (!reply?.startsWith("$JS.ACK.")) return undefined;
  const parts = reply.split(".");
  // Servers with domains put the domain and the account before the stream.
  const at = parts.length === 9 ? 2 : 4;
  return {
    stream: parts[at]!,
    deliveries: Number(parts[at + 2]),
    sequence: Number(parts[at + 3]),
    delivery: Number(parts[at + 4]),
    storedAtMs: Math.floor(Number(parts[at + 5]) / 1e6),
    pending: Number(parts[at + 6]),
  };
}

/** The subject at which a message is acknowledged that has not come here. `delivery`: the consumer's count as of now. */
export function ackSubjectOf(stream: string, consumer: string, sequence: number, delivery: number): string {
  return `$JS.ACK.${stream}.${consumer}.1.${sequence}.${delivery}.0.0`;
}

/** An event as it is received, but for what the subscription adds. */
export type Read = Omit<Received, "receipt" | "attempt">;

/** Reads a message. With `raw`, no envelope is looked for. */
export function fromMessage(message: Msg, position: Position, raw: boolean): Read {
  const { headers: given, data } = message;
  const lifeMs = Number(given?.get(lifeHeader) || Number.NaN);
  return {
    ...(raw ? { event: bareEvent(data) } : eventOf(data, given)),
    topic: topicOf(message.subject),
    key: keyOfMessage(message),
    position: String(position.sequence),
    publishedAtMs: position.storedAtMs,
    expiresAtMs: Number.isNaN(lifeMs) ? undefined : position.storedAtMs + lifeMs,
    headers: given ? headersOf(given) : {},
    offset: BigInt(position.sequence),
  };
}

/** The ordering key of a message, or "". */
export function keyOfMessage({ headers: given }: Msg): string {
  const key = given?.get(keyHeader) ?? "";
  return key.startsWith("%") ? unescapeText(key.slice(1)) : key;
}

function eventOf(data: Uint8Array, given: MsgHdrs | undefined): { event: Event; notCloudEvent?: string } {
  const type = given ? header(given, contentType) : "";
  try {
    if (type.startsWith(cloudEventsJsonType)) return { event: readCloudEvent(data) };
    if (given && header(given, "ce-specversion") !== "") return { event: binaryEvent(data, given, type) };
    // Dapr sends the document without a header that says so.
    if (data[0] === 0x7b && type === "" && mentions(data, '"specversion"'))
      return { event: readCloudEvent(data) };
  } catch (error) {
    const why = error instanceof Error ? error.message.slice(0, 300) : "unreadable";
    return { event: rawEvent(data, type), notCloudEvent: `a CloudEvent that is not well formed: ${why}` };
  }
  return {
    event: rawEvent(data, type),
    notCloudEvent: "neither a JSON document nor headers of a CloudEvent",
  };
}

function rawEvent(data: Uint8Array, dataContentType: string): Event {
  const event = bareEvent(data);
  event.dataContentType = dataContentType;
  return event;
}

/** Throws when a required attribute is missing. */
function binaryEvent(data: Uint8Array, given: MsgHdrs, dataContentType: string): Event {
  if (unescapeText(header(given, "ce-specversion")) !== "1.0") throw new Error("ce-specversion is not 1.0");
  const event = rawEvent(data, dataContentType);
  for (const [name, [value]] of given) {
    if (!/^ce-/i.test(name)) continue;
    const attribute = name.slice(3).toLowerCase();
    if (!setAttribute(event, attribute, unescapeText(value ?? "")) && attribute === "time")
      throw new Error("ce-time is no time as in RFC 3339");
  }
  for (const name of ["id", "source", "type"] as const)
    if (event[name] === "") throw new Error(`ce-${name} is missing`);
  return event;
}

/** Headers that are none of ours, the server's or CloudEvents'. */
function headersOf(given: MsgHdrs): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, values] of given) if (!reserved.test(name)) set(found, name, values.join(", "));
  const others = given.get(otherHeaders);
  if (others !== "") {
    try {
      const parsed: unknown = JSON.parse(others);
      for (const [name, value] of Object.entries(parsed ?? {})) set(found, name, String(value));
    } catch {
      // Somebody else's: it is no header of the application then.
    }
  }
  return found;
}

/** Sets a name that may be one of JavaScript's own. */
function set(record: Record<string, string>, name: string, value: string): void {
  Object.defineProperty(record, name, { value, enumerable: true, configurable: true, writable: true });
}

function header(given: MsgHdrs, name: string): string {
  const exact = given.get(name);
  if (exact !== "") return exact;
  for (const [other, [value]] of given) if (other.toLowerCase() === name) return value ?? "";
  return "";
}

function mentions(data: Uint8Array, text: string): boolean {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).includes(text);
}

/** Begins with a percent sign, which no key that is left as it is does. */
function escapeText(text: string): string {
  return `%${encodeURIComponent(text)}`;
}

/** Attributes in headers are escaped where they are no plain ASCII. */
function unescapeText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** JSON on one line, in ASCII. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
