/** An event as routing rules see it. */
import { toJson } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { isJsonType } from "./media-types.ts";

/** Larger data is not read for a rule: `event.data` is absent then. In bytes. */
const maxRuleDataBytes = 1024 * 1024;

/**
 * The attributes that the event has, by their CloudEvents names, all strings;
 * those that it has not are absent, so that `has` tells. `time` and `data` are
 * made when a rule reads them, and once.
 */
export function ruleEvent(event: Event): Record<string, unknown> {
  let data: unknown;
  let read = false;
  const seen: Record<string, unknown> = {
    id: event.id,
    source: event.source,
    specversion: "1.0",
    type: event.type,
    get time() {
      return event.time && toJson(TimestampSchema, event.time);
    },
    get data() {
      if (!read) data = dataOf(event);
      read = true;
      return data;
    },
  };
  if (event.subject !== "") seen["subject"] = event.subject;
  if (event.dataContentType !== "") seen["datacontenttype"] = event.dataContentType;
  if (event.dataSchema !== "") seen["dataschema"] = event.dataSchema;
  for (const name in event.extensions) if (!(name in seen)) seen[name] = event.extensions[name];
  return seen;
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
