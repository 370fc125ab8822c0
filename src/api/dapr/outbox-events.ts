/** The events of a transaction on a store with an outbox, as Dapr makes them. */
import { randomUUID } from "node:crypto";
import type { Outgoing } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { setAttribute } from "../../blocks/pubsub/event-attributes.ts";
import type { OutboxTarget } from "../../blocks/state/outbox-note.ts";
import { isTruthy } from "../../config/booleans.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";
import { outgoingOf } from "./published-event.ts";
import type { StateOperation } from "./state-item.ts";

/** An operation with this in its metadata is not applied: its value is what the event of its key has. */
const projection = "outbox.projection";
/** Metadata that means something here and is no attribute. */
const ownMetadata = /^(outbox\.projection|contentType|ttlInSeconds|ttl)$/;

/** Whether an operation says only what the event of its key is to have. */
export function isProjection({ item }: StateOperation): boolean {
  return isTruthy(item.metadata[projection] ?? "");
}

/**
 * An event for each upsert, in order; deletions are silent. What an operation has as metadata replaces
 * attributes, or is one more, but for `id` and `data`.
 */
export function outboxEvents(
  operations: readonly StateOperation[],
  appId: string,
  { component, topic }: OutboxTarget,
  trace: TraceHeaders,
): readonly Outgoing[] {
  const upserts = operations.filter(({ type }) => type === "upsert");
  const projected = new Map(upserts.filter(isProjection).map((each) => [each.item.key, each]));
  return upserts
    .filter((each) => !isProjection(each))
    .map(({ item, eventData }) => {
      const shown = projected.get(item.key);
      const data = shown ? (shown.eventData ?? shown.item.value) : (eventData ?? item.value);
      const contentType = (shown?.item ?? item).metadata["contentType"] ?? "";
      const context = { appId, pubsubName: component, topic, trace };
      const outgoing = outgoingOf({ data, contentType, metadata: {} }, context);
      const event = outgoing.event!;
      // What is no time leaves it now, as the event was made; what can be no attribute says nothing.
      for (const [name, value] of Object.entries(item.metadata))
        if (!ownMetadata.test(name)) setAttribute(event, name.replace(/^cloudevent\./, ""), value);
      event.id = `outbox-${randomUUID()}`;
      // Events of one item stay in order where a broker has such a thing.
      outgoing.key = item.key;
      return outgoing;
    });
}
