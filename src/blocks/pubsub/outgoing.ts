/** Makes of what an application publishes what a driver takes: complete and checked. */
import { randomUUID } from "node:crypto";
import type { Event, Outgoing as OutgoingMessage } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { fault, invalidRequest, type Violation } from "../../faults.ts";
import { durationMs, timestampMs } from "../../protobuf/times.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";
import { eventViolations, isReadableName } from "./attributes.ts";
import { cloudEventsJsonType, decodeCloudEvent } from "./cloudevents.ts";
import type { Outgoing, PubSubSupports } from "./driver.ts";
import type { Timestamps } from "./timestamps.ts";

const defaultType = "dev.outrider.event";
const maxKeyBytes = 1024;
const maxHeaders = 64;
const maxHeaderBytes = 8 * 1024;
/** As long as a google.protobuf.Duration may be. */
const maxTimeToLiveMs = 315_576_000_000_000;
const maxDelayMs = 366 * 24 * 60 * 60 * 1000;

/** What completing an event needs to know. */
export interface OutgoingContext {
  /** The default of `source`. */
  readonly appId: string;
  /** Given to events that carry no trace of their own. */
  readonly trace: TraceHeaders;
  readonly supports: PubSubSupports;
  /** Makes the time of events that have none. */
  readonly times: Timestamps;
  /** The largest event, in bytes, that can still be delivered in one message. */
  readonly maxEventBytes: number;
  /** True: extensions may have any name that can be read, not only those that CloudEvents recommends. */
  readonly anyExtensionName?: boolean;
}

/**
 * Completes and checks one entry. The message is changed in place: it was made for this call.
 * Throws INVALID_REQUEST, NOT_SUPPORTED or TOO_LARGE.
 */
export function completeOutgoing(
  entry: OutgoingMessage | undefined,
  path: string,
  context: OutgoingContext,
): Outgoing {
  if (!entry?.event) throw invalidRequest({ field: `${path}.event`, description: "must be set" });
  const event = entry.raw ? entry.event : structured(entry.event, path);
  const violations: Violation[] = [];
  if (entry.key !== "" && keyTooLong(entry.key))
    violations.push({ field: `${path}.key`, description: `must have at most ${maxKeyBytes} bytes` });
  const deliverAtMs = deliveryTime(entry, path, violations);
  let timeToLiveMs: number | undefined;
  if (entry.timeToLive) {
    timeToLiveMs = durationMs(entry.timeToLive);
    if (!(timeToLiveMs > 0 && timeToLiveMs <= maxTimeToLiveMs)) {
      const description = "must be more than zero, and at most 10,000 years";
      violations.push({ field: `${path}.time_to_live`, description });
    }
  }
  checkHeaders(entry.headers, path, violations);
  if (!entry.raw) {
    completeEvent(event, context);
    violations.push(
      ...eventViolations(event, `${path}.event`, context.anyExtensionName ? isReadableName : undefined),
    );
  }
  if (violations.length > 0) throw invalidRequest(...violations);
  if (deliverAtMs !== undefined && !context.supports.delay) {
    throw fault("NOT_SUPPORTED", "this component cannot deliver an event later", {
      metadata: { capability: "delay" },
    });
  }
  if (entry.partition !== undefined && !context.supports.partitions) {
    throw fault("NOT_SUPPORTED", "this component has no partitions to choose from", {
      metadata: { capability: "partitions" },
    });
  }
  if (event.data.length > context.maxEventBytes) {
    throw fault(
      "TOO_LARGE",
      `the event has ${event.data.length} bytes; at most ${context.maxEventBytes} can be delivered`,
      {
        metadata: { maxEventBytes: String(context.maxEventBytes) },
      },
    );
  }
  const { key, headers, raw, partition } = entry;
  return {
    event,
    key,
    headers,
    raw,
    deliverAtMs,
    timeToLiveMs,
    ...(partition === undefined ? {} : { partition }),
  };
}

/** An event whose data is itself a structured CloudEvent is that event. */
function structured(event: Event, path: string): Event {
  if (!event.dataContentType.startsWith(cloudEventsJsonType)) return event;
  return decodeCloudEvent(event.data, `${path}.event.data`);
}

function completeEvent(event: Event, { appId, trace, times }: OutgoingContext): void {
  event.id ||= randomUUID();
  event.source ||= appId;
  event.type ||= defaultType;
  event.time ??= times.of(Date.now());
  if (event.extensions["traceparent"] !== undefined) return;
  if (trace.baggage !== "") event.extensions["baggage"] ??= trace.baggage;
  if (trace.traceparent === "") return;
  event.extensions["traceparent"] = trace.traceparent;
  if (trace.tracestate !== "") event.extensions["tracestate"] = trace.tracestate;
}

function deliveryTime(entry: OutgoingMessage, path: string, violations: Violation[]): number | undefined {
  if (!entry.deliverAt && !entry.deliverAfter) return undefined;
  if (entry.deliverAt && entry.deliverAfter) {
    violations.push({
      field: `${path}.deliver_after`,
      description: "must not be set together with deliver_at",
    });
    return undefined;
  }
  const now = Date.now();
  const atMs = entry.deliverAt ? timestampMs(entry.deliverAt) : now + durationMs(entry.deliverAfter!);
  const field = `${path}.${entry.deliverAt ? "deliver_at" : "deliver_after"}`;
  if (entry.deliverAfter && atMs < now) violations.push({ field, description: "must not be negative" });
  if (atMs > now + maxDelayMs) violations.push({ field, description: "must be within 366 days" });
  return atMs > now ? atMs : undefined;
}

function checkHeaders(
  headers: Readonly<Record<string, string>>,
  path: string,
  violations: Violation[],
): void {
  let count = 0;
  let length = 0;
  for (const name in headers) {
    count += 1;
    length += name.length + headers[name]!.length;
    if (name === "")
      violations.push({ field: `${path}.headers`, description: "must not have an empty name" });
  }
  if (count > maxHeaders)
    violations.push({ field: `${path}.headers`, description: `must have at most ${maxHeaders} entries` });
  if (length > maxHeaderBytes)
    violations.push({
      field: `${path}.headers`,
      description: `must have at most ${maxHeaderBytes} bytes in all`,
    });
}

function keyTooLong(key: string): boolean {
  return key.length > maxKeyBytes || (key.length * 3 > maxKeyBytes && Buffer.byteLength(key) > maxKeyBytes);
}
