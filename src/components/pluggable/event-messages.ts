/** Events as messages of the contract: an envelope of CloudEvents, and beside it what is no attribute of the event. */
import type { PullMessagesResponse } from "../../../gen/dapr/proto/components/v1/pubsub_pb.ts";
import { cloudEventsJsonType, encodeCloudEvent, readCloudEvent } from "../../blocks/pubsub/cloudevents.ts";
import type { Outgoing, Received } from "../../blocks/pubsub/driver.ts";
import { bareEvent } from "../../blocks/pubsub/event-attributes.ts";

/** Names of metadata that Dapr's publishers and components use. */
const keyName = "partitionKey";
const rawName = "rawPayload";
const timeToLiveName = "ttlInSeconds";
/** An attribute of Dapr's envelopes; beside an event without an envelope, metadata. */
const expirationName = "expiration";
/** Ours: when the event was published, which the contract does not tell. */
const publishedName = "outrider-published";
const own: readonly string[] = [keyName, timeToLiveName, expirationName, publishedName];

/** What is published: the same in both methods. */
export interface MessageContent {
  readonly data: Uint8Array;
  readonly contentType: string;
  readonly metadata: Record<string, string>;
}

/** The message of an event that is published at a time. */
export function toMessage(
  { event, key, headers, raw, timeToLiveMs }: Outgoing,
  nowMs: number,
): MessageContent {
  const metadata: Record<string, string> = { ...headers, [publishedName]: new Date(nowMs).toISOString() };
  if (key !== "") metadata[keyName] = key;
  const expiration = timeToLiveMs === undefined ? undefined : new Date(nowMs + timeToLiveMs).toISOString();
  if (timeToLiveMs !== undefined) {
    metadata[timeToLiveName] = String(Math.ceil(timeToLiveMs / 1000));
    metadata[expirationName] = expiration!;
  }
  if (raw) {
    metadata[rawName] = "true";
    return { data: event.data, contentType: event.dataContentType, metadata };
  }
  // Within the envelope too: not every component keeps metadata.
  const complete =
    expiration === undefined
      ? event
      : { ...event, extensions: { ...event.extensions, [expirationName]: expiration } };
  return { data: Buffer.from(encodeCloudEvent(complete)), contentType: cloudEventsJsonType, metadata };
}

/** All of `Received` that is not about its delivery. */
export type EventContent = Omit<Received, "receipt" | "attempt">;

/** Reads a message, whoever published it. `raw`: no envelope is looked for. Never throws. */
export function fromMessage(
  { data, topicName, metadata }: PullMessagesResponse,
  subscribed: string,
  raw: boolean,
  receivedAtMs: number,
): EventContent {
  const headers = Object.fromEntries(Object.entries(metadata).filter(([name]) => !own.includes(name)));
  const rest = {
    topic: topicName || subscribed,
    key: metadata[keyName] ?? "",
    position: "",
    publishedAtMs: timeOf(metadata[publishedName]) ?? receivedAtMs,
    headers,
  };
  const expiresAtMs = timeOf(metadata[expirationName]);
  if (raw || metadata[rawName] === "true") return { event: bareEvent(data), expiresAtMs, ...rest };
  try {
    const event = readCloudEvent(data);
    const expiration = timeOf(event.extensions[expirationName]);
    if (expiration !== undefined) delete event.extensions[expirationName];
    return { event, expiresAtMs: expiration ?? expiresAtMs, ...rest };
  } catch (error) {
    const notCloudEvent = error instanceof Error ? error.message : String(error);
    return { event: bareEvent(data), expiresAtMs, notCloudEvent, ...rest };
  }
}

function timeOf(text: string | undefined): number | undefined {
  const timeMs = Date.parse(text ?? "");
  return Number.isNaN(timeMs) ? undefined : timeMs;
}
