/** Events as rows: attributes by their names as JSON, and the data as bytes, so that they can be read with psql. */
import type { Event } from "../../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { encodeCloudEvent } from "../../../blocks/pubsub/cloudevents.ts";
import type { Outgoing, Received } from "../../../blocks/pubsub/driver.ts";
import { bareEvent, eachAttribute, setAttribute } from "../../../blocks/pubsub/event-attributes.ts";

/** An event on its way to the publishing function; the names are those of its parameter. */
export interface EventRow {
  k: string;
  r: boolean;
  h?: Readonly<Record<string, string>>;
  a?: Attributes;
  /** Length of the data, and where it begins. */
  l: number;
  f: number;
  t?: number;
  d?: number;
  i: number;
}

type Attributes = Record<string, string>;

/** An event as the claiming function gives it. */
export interface ClaimedRow {
  readonly topic_id: number | null;
  readonly topic: string | null;
  readonly seq: number | null;
  readonly key: string | null;
  readonly raw: boolean | null;
  readonly headers: string | null;
  readonly attributes: string | null;
  readonly data: Buffer | null;
  readonly published_ms: number | null;
  readonly expires_ms: number | null;
  readonly attempt: number | null;
}

/** Makes a row of an event; where its data is, and its number, are filled in when it is sent. */
export function toRow({ event, key, headers, raw, deliverAtMs, timeToLiveMs }: Outgoing): EventRow {
  const row: EventRow = { k: key, r: raw, l: event.data.length, f: 0, i: 0 };
  for (const _ in headers) {
    row.h = headers;
    break;
  }
  if (!raw) row.a = toAttributes(event);
  if (timeToLiveMs !== undefined) row.t = timeToLiveMs;
  if (deliverAtMs !== undefined && deliverAtMs > Date.now()) row.d = Math.ceil(deliverAtMs);
  return row;
}

function toAttributes(event: Event): Attributes {
  const attributes: Attributes = { ...event.extensions };
  eachAttribute(event, (name, value) => {
    attributes[name] = value;
  });
  return attributes;
}

/** The event of a row. With `asBytes`, an event with an envelope is one structured CloudEvent as bytes. */
function toEvent({ attributes, data, raw }: ClaimedRow, asBytes: boolean): Event {
  if (raw || attributes === null) return bareEvent(data!);
  const event = bareEvent(data!);
  for (const [name, value] of Object.entries(JSON.parse(attributes) as Attributes))
    setAttribute(event, name, value);
  return asBytes ? bareEvent(Buffer.from(encodeCloudEvent(event))) : event;
}

/** What was received, by its own receipt. */
export function toReceived(row: ClaimedRow, receipt: unknown, asBytes: boolean): Received {
  return {
    receipt,
    event: toEvent(row, asBytes),
    topic: row.topic!,
    key: row.key!,
    position: `${row.topic_id}.${row.seq}`,
    publishedAtMs: Math.round(row.published_ms!),
    expiresAtMs: row.expires_ms === null ? undefined : Math.round(row.expires_ms),
    attempt: row.attempt!,
    headers: row.headers === null ? {} : (JSON.parse(row.headers) as Record<string, string>),
  };
}
