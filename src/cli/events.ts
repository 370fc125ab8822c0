/** Deliveries as lines, for people and for programs. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Delivery, Event } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { eachAttribute } from "../blocks/pubsub/event-attributes.ts";
import { type JsonMember, jsonMember, lineOf, safe } from "./payload.ts";
import { paint } from "./terminal.ts";

/** One line: when, where, what, and what is unusual about it. */
export function deliveryLine(delivery: Delivery, color: boolean): string {
  const { event, topic, publishedAt, key, attempt, route } = delivery;
  const time = (publishedAt ? timestampDate(publishedAt) : new Date()).toISOString().slice(11, 23);
  const facts = [
    key && `key=${safe(key)}`,
    route && `route=${safe(route)}`,
    attempt > 1 && `attempt=${attempt}`,
  ].filter(Boolean);
  const head = [
    paint(color, "dim", time),
    paint(color, "cyan", safe(topic)),
    event?.type && paint(color, "bold", safe(event.type)),
    ...facts.map((fact) => paint(color, "yellow", String(fact))),
  ].filter(Boolean);
  return `${head.join(" ")} ${lineOf(event?.data ?? new Uint8Array(), event?.dataContentType ?? "")}`;
}

/**
 * The event as CloudEvents JSON. What the broker and the sidecar know of it
 * stands beside it as extensions: topic, partitionkey, position, attempt, route. For printJson.
 */
export function deliveryJson(delivery: Delivery): [Record<string, unknown>, JsonMember | undefined] {
  const { event, topic, key, position, attempt, route } = delivery;
  const known = {
    topic,
    ...(key ? { partitionkey: key } : {}),
    ...(position ? { position } : {}),
    attempt,
    ...(route ? { route } : {}),
  };
  return event ? [{ ...known, ...attributesOf(event) }, dataMember(event)] : [known, undefined];
}

function attributesOf(event: Event): Record<string, unknown> {
  const attributes: Record<string, unknown> = event.id === "" ? {} : { specversion: "1.0" };
  eachAttribute(event, (name, value) => {
    attributes[name] = value;
  });
  return { ...attributes, ...event.extensions };
}

/** As in the JSON format of CloudEvents, section 3.1: JSON as it is, text as a string, anything else in base64. */
function dataMember({ data, dataContentType }: Event): JsonMember | undefined {
  if (data.length === 0) return undefined;
  const saidToBeJson = dataContentType === "" || /[/+]json\b/.test(dataContentType);
  return jsonMember(data, saidToBeJson, { plain: "data", base64: "data_base64" });
}
