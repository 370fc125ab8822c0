/** Items as messages of a bucket: the value as it is, legible to everybody; what lies beside it in headers. */
import { headers, type MsgHdrs } from "@nats-io/transport-node";
import { type Item, type ItemOptions, maxValueBytes } from "../../blocks/state/driver.ts";
import { parseDurationMs } from "../../config/fields.ts";
import { asciiJson } from "./events.ts";

const operationHeader = "KV-Operation";
const markerHeader = "Nats-Marker-Reason";
const lifeHeader = "Nats-TTL";
const contentTypeHeader = "content-type";
const expiresHeader = "Outrider-Expires-At-Ms";
/** Content types and metadata that a header cannot carry as they are, as JSON. */
const besideHeader = "Outrider-Beside";

const plainText = /^[!-~](?:[ -~]*[!-~])?$/;

/** The last message of a key. */
export interface Entry {
  /** Its sequence in the stream. */
  readonly revision: number;
  /** When the server stored it, milliseconds since 1970. */
  readonly storedAtMs: number;
  readonly headers: MsgHdrs | undefined;
  readonly value: Uint8Array;
}

/** Headers for an item. `timeToLive`: the server removes it when it has expired. */
export function headersFor(options: ItemOptions, timeToLive: boolean): MsgHdrs | undefined {
  const { contentType, metadata, expiresAtMs } = options;
  const plain = contentType === "" || plainText.test(contentType);
  const named = Object.keys(metadata).length > 0;
  if (contentType === "" && !named && expiresAtMs === undefined) return undefined;
  const written = headers();
  if (plain && contentType !== "") written.set(contentTypeHeader, contentType);
  if (!plain || named) {
    written.set(besideHeader, asciiJson({ ...(!plain && { contentType }), ...(named && { metadata }) }));
  }
  if (expiresAtMs !== undefined) {
    written.set(expiresHeader, String(expiresAtMs));
    // The server counts whole seconds. It is only to clean up: what is expired is passed over before that.
    if (timeToLive) written.set(lifeHeader, `${Math.max(1, Math.ceil((expiresAtMs - Date.now()) / 1000))}s`);
  }
  return written;
}

/** Headers for a deletion. The server forgets it after a time, if it can. */
export function headersForDeletion(forgetAfterMs: number | undefined): MsgHdrs {
  const written = headers();
  if (forgetAfterMs === undefined) written.set(operationHeader, "DEL");
  else {
    written.set(operationHeader, "PURGE");
    written.set("Nats-Rollup", "sub");
    written.set(lifeHeader, `${Math.ceil(forgetAfterMs / 1000)}s`);
  }
  return written;
}

/** The item of an entry; undefined when it is deleted or has expired. */
export function itemOf(key: string, entry: Entry, keysOnly = false): Item | undefined {
  const { revision, headers: given, value } = entry;
  if (given?.has(markerHeader) || (given?.get(operationHeader) ?? "") !== "") return undefined;
  const expiresAtMs = expiryOf(entry);
  if (expiresAtMs !== undefined && expiresAtMs <= Date.now()) return undefined;
  const beside = given ? besideOf(given) : undefined;
  return {
    key,
    value: keysOnly || value.byteLength > maxValueBytes ? undefined : value,
    valueBytes: value.byteLength,
    etag: etagOf(revision, expiresAtMs),
    contentType: beside?.contentType ?? given?.get(contentTypeHeader) ?? "",
    metadata: beside?.metadata ?? {},
    expiresAtMs,
  };
}

/** An item that expires has its time in the etag, so that a stale one is known without reading. */
export function etagOf(revision: number, expiresAtMs: number | undefined): string {
  return expiresAtMs === undefined ? String(revision) : `${revision}-${expiresAtMs}`;
}

/** The revision of an etag; undefined when this store never gave it, or its item has expired. */
export function revisionOf(etag: string): number | undefined {
  const match = /^([1-9]\d{0,15})(?:-(\d{1,16}))?$/.exec(etag);
  if (!match || (match[2] !== undefined && Number(match[2]) <= Date.now())) return undefined;
  return Number(match[1]);
}

function expiryOf({ headers: given, storedAtMs }: Entry): number | undefined {
  const own = given?.get(expiresHeader) ?? "";
  if (/^\d{1,16}$/.test(own)) return Number(own);
  const life = parseDurationMs(given?.get(lifeHeader) ?? "", 1000);
  return life === undefined ? undefined : storedAtMs + life;
}

function besideOf(given: MsgHdrs): { contentType?: string; metadata?: Record<string, string> } | undefined {
  const text = given.get(besideHeader);
  if (text === "") return undefined;
  try {
    return JSON.parse(text) as { contentType?: string; metadata?: Record<string, string> };
  } catch {
    return undefined;
  }
}
