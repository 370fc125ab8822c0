/** How an event is laid out in an entry of a stream: `data` and `metadata` as Dapr has them, and what is ours beside them. */
import { encodeCloudEvent, readCloudEvent } from "../../blocks/pubsub/cloudevents.ts";
import type { Outgoing, Received } from "../../blocks/pubsub/driver.ts";
import { bareEvent } from "../../blocks/pubsub/event-attributes.ts";
import type { Argument, Reply } from "./link.ts";

/** Names and values, one after the other. */
export function toFields({ event, key, headers, raw, timeToLiveMs }: Outgoing): Argument[] {
  const fields: Argument[] = [
    "data",
    raw
      ? Buffer.from(event.data.buffer, event.data.byteOffset, event.data.byteLength)
      : encodeCloudEvent(event),
  ];
  for (const _ in headers) {
    fields.push("metadata", JSON.stringify(headers));
    break;
  }
  if (key !== "") fields.push("key", key);
  if (timeToLiveMs !== undefined) fields.push("ttl", Math.ceil(timeToLiveMs));
  if (raw) fields.push("raw", 1);
  return fields;
}

/** What an entry holds: all of `Received` that is not about its delivery. */
export type EntryContent = Pick<
  Received,
  "event" | "key" | "headers" | "publishedAtMs" | "expiresAtMs" | "notCloudEvent"
>;

/** The ordering key as it is there, which need not be UTF-8: somebody else may have written it. */
export function keyBytesOf(fields: readonly Reply[]): Buffer | undefined {
  for (let i = 0; i < fields.length; i += 2) if (String(fields[i]) === "key") return fields[i + 1] as Buffer;
  return undefined;
}

/** Reads an entry, whoever wrote it. `raw`: no envelope is looked for. */
export function fromFields(id: string, fields: readonly Reply[], raw: boolean): EntryContent {
  let data: Buffer | undefined;
  let key = "";
  let metadata = "";
  let timeToLive = "";
  let isRaw = raw;
  for (let i = 0; i < fields.length; i += 2) {
    const value = fields[i + 1] as Buffer;
    switch (String(fields[i])) {
      case "data":
        data = value;
        break;
      case "key":
        key = value.toString();
        break;
      case "metadata":
        metadata = value.toString();
        break;
      case "ttl":
        timeToLive = value.toString();
        break;
      case "raw":
        isRaw = true;
        break;
      default:
    }
  }
  const headers = metadata === "" ? {} : headersOf(metadata);
  const publishedAtMs = Number(id.slice(0, id.indexOf("-")));
  const expiresAtMs = /^\d{1,15}$/.test(timeToLive) ? publishedAtMs + Number(timeToLive) : undefined;
  const rest = { key, headers, publishedAtMs, expiresAtMs };
  if (data === undefined) return { event: bareEvent(asJson(fields)), ...rest, ...(raw ? {} : noData) };
  // Dapr says in the metadata that it put no envelope around it.
  if (isRaw || headers["rawPayload"] === "true") return { event: bareEvent(data), ...rest };
  try {
    return { event: readCloudEvent(data), ...rest };
  } catch (error) {
    const notCloudEvent = error instanceof Error ? error.message : String(error);
    return { event: bareEvent(data), ...rest, notCloudEvent };
  }
}

const noData = { notCloudEvent: 'the entry has no field "data"' };

/** The entry of somebody who has no `data`. */
function asJson(fields: readonly Reply[]): Uint8Array {
  const map: Record<string, string> = {};
  for (let i = 0; i < fields.length; i += 2) map[String(fields[i])] = String(fields[i + 1]);
  return Buffer.from(JSON.stringify(map));
}

function headersOf(json: string): Record<string, string> {
  try {
    const parsed: unknown = JSON.parse(json);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return {};
    // An own property, whatever its name: "__proto__" is a header like any other.
    return Object.fromEntries(Object.entries(parsed).map(([name, value]) => [name, String(value)]));
  } catch {
    return {};
  }
}
