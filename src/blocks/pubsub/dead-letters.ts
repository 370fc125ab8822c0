/** What becomes of an event that a group gives up: the same event, with why, when, how often and where from. */
import { randomUUID } from "node:crypto";
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { timestampNow } from "../../protobuf/times.ts";
import type { Outgoing, Received } from "./driver.ts";

/** Why a group gave an event up; the value of the extension `deadletterreason`. */
export type DeadLetterReason = "rejected" | "attempts" | "expired" | "nocloudevent";

/** The extension that sends an event back to one group only: others pass it over. */
export const redriveGroupExtension = "redrivegroup";

/** What is known of it. */
export interface GivenUp {
  readonly reason: DeadLetterReason;
  /** What the application said, if anything. */
  readonly detail: string;
  readonly group: string | undefined;
}

const maxDetailLength = 1024;
/** What a dead letter can do without when there is no room for it. */
const dispensable = [
  "deadletterdetail",
  "deadletterattempts",
  "deadlettertime",
  "traceparent",
  "tracestate",
  "baggage",
];

/** The dead letter of an event, for the dead-letter topic. */
export function deadLetterOf(received: Received, why: GivenUp): Outgoing {
  const { event } = received;
  const extensions: Record<string, string> = {
    ...event.extensions,
    deadletterreason: why.reason,
    deadlettertime: new Date().toISOString(),
    deadletterattempts: String(received.attempt),
    deadlettertopic: received.topic,
    deadlettergroup: why.group ?? "",
  };
  delete extensions[redriveGroupExtension];
  if (why.detail !== "") extensions["deadletterdetail"] = why.detail.slice(0, maxDetailLength);
  else delete extensions["deadletterdetail"];
  // A raw event has no attributes; as a dead letter it needs the required ones.
  const letter: Event = {
    ...event,
    id: event.id || randomUUID(),
    source: event.source || received.topic,
    type: event.type || "dev.outrider.raw",
    time: event.time ?? timestampNow(),
    extensions,
  };
  return {
    event: letter,
    key: received.key,
    headers: received.headers,
    raw: false,
    deliverAtMs: undefined,
    timeToLiveMs: undefined,
  };
}

/**
 * A dead letter with what it takes to know why and to send the event back, and no more: for a topic that has no room for
 * the whole of it.
 */
export function shortened(letter: Outgoing): Outgoing {
  const extensions = { ...letter.event.extensions };
  for (const name of dispensable) delete extensions[name];
  return { ...letter, event: { ...letter.event, extensions }, compact: true };
}
