/** An event as routing rules see it. */
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { isJsonType } from "./media-types.ts";
import { timeText } from "./timestamps.ts";

/** Larger data is not read for a rule: `event.data` is absent then. In bytes. */
const maxRuleDataBytes = 1024 * 1024;

/** What rules see of an event: its attributes and data by their CloudEvents names. What it has not is absent. */
export type RuleEvent = Record<string, unknown>;

/** The attributes, all strings, but for `time` and `data`, which cost more and are added for rules that read them. */
export function ruleEvent(event: Event): RuleEvent {
  const seen: RuleEvent = { id: event.id, source: event.source, specversion: "1.0", type: event.type };
  if (event.subject !== "") seen["subject"] = event.subject;
  if (event.dataContentType !== "") seen["datacontenttype"] = event.dataContentType;
  if (event.dataSchema !== "") seen["dataschema"] = event.dataSchema;
  for (const name in event.extensions) if (!(name in seen)) seen[name] = event.extensions[name];
  return seen;
}

/** Adds `time`, as RFC 3339 has it. */
export function addTime(seen: RuleEvent, { time }: Event): void {
  if (time) seen["time"] = timeText(time);
  else delete seen["time"];
}

/** Adds `data`: parsed when it is JSON, else a string. */
export function addData(seen: RuleEvent, event: Event): void {
  const data = dataOf(event);
  if (data === undefined) delete seen["data"];
  else seen["data"] = data;
}

function dataOf({ data, dataContentType }: Event): unknown {
  if (data.byteLength === 0 || data.byteLength > maxRuleDataBytes) return undefined;
  const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("utf8");
  if (!isJsonType(dataContentType)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
