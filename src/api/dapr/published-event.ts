/** What Dapr makes of what is published: a CloudEvent with its own attributes, or the bytes as they are. */
import { randomUUID } from "node:crypto";
import type { Event, Outgoing } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { isReadableName } from "../../blocks/pubsub/attributes.ts";
import { bareEvent, bareOutgoing } from "../../blocks/pubsub/event-attributes.ts";
import { jsonMembers } from "../../blocks/pubsub/json-text.ts";
import { isJsonType } from "../../blocks/pubsub/media-types.ts";
import { readTime } from "../../blocks/pubsub/timestamps.ts";
import { readBoolean } from "../../config/booleans.ts";
import { parseDurationMs } from "../../config/fields.ts";
import { noData } from "../../protobuf/reader.ts";
import { durationFromMs, timestampNow } from "../../protobuf/times.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";
import { DaprError, daprErrors } from "./errors.ts";
import { readFirst } from "./go-json.ts";

/** What is published, as a client gives it. */
export interface PublishInput {
  readonly data: Uint8Array;
  /** "" where none is given. */
  readonly contentType: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Who publishes, and where. */
export interface PublishContext {
  readonly appId: string;
  readonly pubsubName: string;
  readonly topic: string;
  readonly trace: TraceHeaders;
}

/** A traceparent that says that there is no trace. Dapr has the attribute in every event. */
export const noTraceparent = "00-00000000000000000000000000000000-0000000000000000-00";

/** What Go can count in nanoseconds: some 292 years. */
const maxTimeToLiveMs = 9_223_372_036_854;
const eventType = "com.dapr.event.sent";
/** Of an event that a client has made without one. */
const defaultSource = "Dapr";
const defaultContentType = "text/plain";
const cloudEventsType = /^application\/cloudevents\+json\s*(;|$)/i;
/** Metadata that has a meaning here; the rest becomes headers of the broker's record. */
const ownMetadata = /^(rawPayload|ttlInSeconds|ttl|partitionKey|partitionNumber|__key|cloudevent\..*)$/i;

/** Makes what a bus publishes. Throws DaprError for metadata or a CloudEvent that makes no sense. */
export function outgoingOf(input: PublishInput, context: PublishContext): Outgoing {
  const entries = Object.entries(input.metadata);
  const metadata = new Map(entries.map(([name, value]) => [name.toLowerCase(), value]));
  const ttlMs = timeToLiveMs(metadata);
  const outgoing: Outgoing = {
    ...bareOutgoing(undefined),
    key: metadata.get("partitionkey") ?? metadata.get("__key") ?? "",
    timeToLive: ttlMs === undefined ? undefined : durationFromMs(ttlMs),
    headers: Object.fromEntries(entries.filter(([name]) => !ownMetadata.test(name))),
  };
  if (isRaw(metadata, context)) {
    const { traceparent, tracestate } = context.trace;
    outgoing.raw = true;
    outgoing.event = bareEvent(input.data);
    outgoing.headers = { ...outgoing.headers, traceparent: traceparent || noTraceparent, tracestate };
    return outgoing;
  }
  const event = cloudEventsType.test(input.contentType)
    ? given(input.data, context)
    : wrapped(input, context);
  if (metadata.size > 0) override(event, metadata);
  if (ttlMs !== undefined) event.extensions["expiration"] = new Date(Date.now() + ttlMs).toISOString();
  outgoing.event = event;
  return outgoing;
}

/** The event around data that is none. */
function wrapped({ data, contentType }: PublishInput, context: PublishContext): Event {
  const event = bareEvent(data);
  event.dataContentType = contentType || defaultContentType;
  complete(event, context);
  return event;
}

/** The event that the data is, with what it lacks. */
function given(data: Uint8Array, context: PublishContext): Event {
  const members = parse(data, context);
  const text = (name: string) => stringOf(members.get(name)) ?? "";
  const event: Event = {
    ...bareEvent(noData),
    id: text("id"),
    source: text("source") || defaultSource,
    type: text("type"),
    subject: text("subject"),
    dataContentType: text("datacontenttype"),
    dataSchema: text("dataschema"),
  };
  const time = text("time");
  if (time !== "") event.time = timeOf(time, context);
  for (const [name, json] of members)
    if (isReadableName(name) && json !== "null") event.extensions[name] = stringOf(json) ?? json;
  // Whatever a publisher wrote there, a trace is what this call belongs to.
  for (const name of ["traceid", "traceparent", "tracestate"])
    if (stringOf(members.get(name)) === undefined) delete event.extensions[name];
  const base64 = stringOf(members.get("data_base64"));
  const json = members.get("data");
  if (base64 !== undefined) event.data = Buffer.from(base64, "base64");
  else if (json !== undefined) {
    event.dataContentType ||= "application/json";
    event.data = Buffer.from(isJsonType(event.dataContentType) ? json : (stringOf(json) ?? json));
  }
  complete(event, context);
  return event;
}

function complete(event: Event, { appId, pubsubName, topic, trace }: PublishContext): void {
  event.id ||= randomUUID();
  event.source ||= appId;
  event.type ||= eventType;
  event.time ??= timestampNow();
  const { extensions } = event;
  extensions["topic"] = topic;
  extensions["pubsubname"] = pubsubName;
  extensions["traceparent"] ??= extensions["traceid"] ?? (trace.traceparent || noTraceparent);
  extensions["traceid"] ??= extensions["traceparent"];
  extensions["tracestate"] ??= trace.tracestate;
}

/** Metadata named `cloudevent.*` replaces attributes. */
function override(event: Event, metadata: ReadonlyMap<string, string>): void {
  const of = (name: string) => metadata.get(`cloudevent.${name}`) || undefined;
  event.id = of("id") ?? event.id;
  event.source = of("source") ?? event.source;
  event.type = of("type") ?? event.type;
  event.subject = of("subject") ?? event.subject;
  for (const name of ["traceid", "traceparent", "tracestate"] as const) {
    const value = of(name);
    if (value !== undefined) event.extensions[name] = value;
  }
}

function parse(data: Uint8Array, context: PublishContext): Map<string, string> {
  let members: Map<string, string> | undefined;
  try {
    members = jsonMembers(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString());
  } catch {
    members = jsonMembers(readFirst(data, (why) => cloudEventError(context, why)).text);
  }
  if (members) return members;
  throw cloudEventError(context, "the data is no JSON object");
}

function timeOf(text: string, context: PublishContext): Event["time"] {
  const time = readTime(text);
  if (time) return time;
  throw cloudEventError(context, `"${text}" is no time`);
}

function cloudEventError({ appId, pubsubName }: PublishContext, why: string): DaprError {
  return new DaprError(daprErrors.pubsubCloudEvent, "cannot create cloudevent", {
    resource: { type: "pubsub", name: pubsubName },
    metadata: { appID: appId, error: why },
  });
}

function isRaw(metadata: ReadonlyMap<string, string>, context: PublishContext): boolean {
  const text = metadata.get("rawpayload") ?? "";
  const isRaw = text === "" ? false : readBoolean(text);
  if (isRaw !== undefined) return isRaw;
  throw metadataError(`rawPayload value must be a valid boolean: actual is '${text}'`, context);
}

/** In milliseconds; undefined for an event that stays. As in Dapr, what is no time, or none that is to come, says nothing. */
function timeToLiveMs(metadata: ReadonlyMap<string, string>): number | undefined {
  const text = metadata.get("ttlinseconds") || metadata.get("ttl") || "";
  if (text === "") return undefined;
  const ms = parseDurationMs(text, 1000) ?? 0;
  return ms > 0 ? Math.min(Math.ceil(ms), maxTimeToLiveMs) : undefined;
}

function metadataError(why: string, { appId, pubsubName }: PublishContext): DaprError {
  return new DaprError(daprErrors.pubsubMetadata, `failed deserializing metadata. Error: ${why}`, {
    resource: { type: "pubsub", name: pubsubName },
    metadata: { appID: appId, error: why },
  });
}

/** The string that JSON is; undefined when it is something else, or not there. */
function stringOf(json: string | undefined): string | undefined {
  return json?.startsWith('"') ? (JSON.parse(json) as string) : undefined;
}
