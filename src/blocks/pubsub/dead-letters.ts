/** What becomes of an event that a group gives up: the same event, with why, when, how often and where from. */
import { randomUUID } from "node:crypto";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Outgoing, Received } from "./driver.ts";

/** Why a group gave an event up; the value of the extension `deadletterreason`. */
export type DeadLetterReason = "rejected" | "attempts" | "expired" | "nocloudevent";

/** What is known of it. */
export interface GivenUp {
  readonly reason: DeadLetterReason;
  /** What the application said, if anything. */
  readonly detail: string;
  readonly group: string | undefined;
}

/** The extension that sends an event back to one group only: others pass it over. */
export const redriveGroupExtension = "redrivegroup";

const maxDetailLength = 1024;
/** What a dead letter can do without when there is no room for it. */
const traceExtensions = ["traceparent", "tracestate", "baggage"];

/** The dead letter of an event, for the dead-letter topic. */
export function deadLetterOf(received: Received, { detail, group, reason }: GivenUp): Outgoing {
  const extensions: Record<string, string> = {
    ...received.event.extensions,
    deadletterreason: reason,
    deadlettertime: new Date().toISOString(),
    deadletterattempts: String(received.attempt),
    deadlettertopic: received.topic,
    deadlettergroup: group ?? "",
  };
  if (detail !== "") extensions["deadletterdetail"] = detail.slice(0, maxDetailLength);
  else delete extensions["deadletterdetail"];
  return letterOf(received, extensions);
}

/**
 * The same with what it takes to know why and to send it back, and no more, for a broker that has no room for the whole
 * of it: the event itself has had room, but as it was.
 */
export function shortDeadLetterOf(received: Received, { group, reason }: GivenUp): Outgoing {
  const extensions: Record<string, string> = {
    ...received.event.extensions,
    deadletterreason: reason,
    deadlettertopic: received.topic,
    deadlettergroup: group ?? "",
  };
  for (const name of traceExtensions) delete extensions[name];
  return { ...letterOf(received, extensions), compact: true };
}

function letterOf(received: Received, extensions: Record<string, string>): Outgoing {
  const { event } = received;
  delete extensions[redriveGroupExtension];
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
