/** Events by the names that CloudEvents gives their attributes. */
import type { Event, Outgoing } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { isReadableName } from "./attributes.ts";
import { readTime, timeText } from "./timestamps.ts";

/** An event of nothing but data. Made by hand, as most events are: it costs less than `create`, and all have one shape. */
export function bareEvent(data: Uint8Array): Event {
  return {
    $typeName: "outrider.pubsub.v1.Event",
    id: "",
    source: "",
    type: "",
    subject: "",
    time: undefined,
    dataContentType: "",
    dataSchema: "",
    data,
    extensions: {},
  };
}

/** What is published with nothing but an event, which is not copied; made by hand, too. */
export function bareOutgoing(event: Event | undefined): Outgoing {
  return {
    $typeName: "outrider.pubsub.v1.Outgoing",
    event,
    key: "",
    deliverAt: undefined,
    deliverAfter: undefined,
    timeToLive: undefined,
    raw: false,
    headers: {},
    partition: undefined,
  };
}

/** Visits the attributes that an event has, as text. Extensions are none of them, nor is `specversion`. */
export function eachAttribute(event: Event, visit: (name: string, value: string) => void): void {
  if (event.id !== "") visit("id", event.id);
  if (event.source !== "") visit("source", event.source);
  if (event.type !== "") visit("type", event.type);
  if (event.subject !== "") visit("subject", event.subject);
  if (event.time) visit("time", timeText(event.time));
  if (event.dataContentType !== "") visit("datacontenttype", event.dataContentType);
  if (event.dataSchema !== "") visit("dataschema", event.dataSchema);
}

/**
 * Sets an attribute, or an extension by any other name. False, and nothing is set, when the value is no time or the
 * name is one that no extension can have.
 */
export function setAttribute(event: Event, name: string, value: string): boolean {
  switch (name) {
    case "id":
    case "source":
    case "type":
    case "subject":
      event[name] = value;
      return true;
    case "datacontenttype":
      event.dataContentType = value;
      return true;
    case "dataschema":
      event.dataSchema = value;
      return true;
    case "time": {
      const time = readTime(value);
      if (time) event.time = time;
      return time !== undefined;
    }
    default:
      if (!isReadableName(name)) return false;
      event.extensions[name] = value;
      return true;
  }
}
