/** The requests of the scenarios, as bytes, and what is read of the answers. */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  Outcome,
  PublishRequestSchema,
  PublishStreamRequestSchema,
  PubSubService,
  SubscribeRequestSchema,
} from "../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { GetRequestSchema, SetRequestSchema, StateService } from "../gen/outrider/state/v1/state_pb.ts";

/** Bytes of a value and of an event's data, as in daprd's figures. */
export const payloadBytes = 200;

/** Paths of the methods. */
export const paths = {
  get: pathOf(StateService, "Get"),
  set: pathOf(StateService, "Set"),
  publish: pathOf(PubSubService, "Publish"),
  publishStream: pathOf(PubSubService, "PublishStream"),
  subscribe: pathOf(PubSubService, "Subscribe"),
} as const;

function pathOf(service: { readonly typeName: string }, method: string): string {
  return `/${service.typeName}/${method}`;
}

function bytesOf<Schema extends DescMessage>(schema: Schema, message: MessageInitShape<Schema>): Uint8Array {
  return toBinary(schema, create(schema, message));
}

/** A value, or the data of an event: `payloadBytes` long. */
export function payload(): Uint8Array {
  return new Uint8Array(payloadBytes).fill(120);
}

/** The key with a number. */
export function keyOf(number: number): string {
  return `order-${String(number).padStart(6, "0")}`;
}

export function getRequest(component: string, number: number): Uint8Array {
  return bytesOf(GetRequestSchema, { component, key: keyOf(number) });
}

export function setRequest(component: string, number: number): Uint8Array {
  return bytesOf(SetRequestSchema, { component, key: keyOf(number), value: payload() });
}

export function publishRequest(component: string, topic: string, data = payload()): Uint8Array {
  return bytesOf(PublishRequestSchema, { component, topic, outgoing: { event: { data } } });
}

/** Events of a publish stream; component and topic belong in the first of its messages. */
export function publishStreamRequest(
  events: readonly Uint8Array[],
  to: { readonly component?: string; readonly topic?: string } = {},
): Uint8Array {
  return bytesOf(PublishStreamRequestSchema, {
    ...to,
    outgoing: events.map((data) => ({ event: { data } })),
  });
}

/** What a subscription is opened with. */
export interface Opening {
  readonly component: string;
  readonly topic: string;
  readonly group?: string;
  readonly maxInFlight?: number;
  readonly maxBatch?: number;
}

export function openRequest(opening: Opening, subscription = 1): Uint8Array {
  return bytesOf(SubscribeRequestSchema, { message: { case: "open", value: { ...opening, subscription } } });
}

/** Acknowledges what is held from one delivery to another. */
export function ackRequest(first: bigint, last: bigint): Uint8Array {
  const value = { deliveries: [{ first, last }], outcome: Outcome.ACK };
  return bytesOf(SubscribeRequestSchema, { message: { case: "settle", value } });
}

/** Ends a subscription; what is held may still be settled. */
export function closeRequest(subscription = 1): Uint8Array {
  return bytesOf(SubscribeRequestSchema, { message: { case: "close", value: { subscription } } });
}

/** The number of events that a publish stream has acknowledged so far. */
export function settledThrough(response: Uint8Array): number {
  const reader = new BinaryReader(response);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) return Number(reader.uint64());
    reader.skip(type, field);
  }
  return 0;
}

/** The ids of the deliveries in a message of a subscribe stream; undefined when it is another message. */
export function deliveryIds(response: Uint8Array): bigint[] | undefined {
  const reader = new BinaryReader(response);
  const [field, type] = reader.tag();
  if (field !== 2 || type !== WireType.LengthDelimited) return undefined;
  const ids: bigint[] = [];
  const end = reader.uint32() + reader.pos;
  while (reader.pos < end) {
    // Deliver.deliveries, each with its id first: so our own encoder writes them.
    reader.tag();
    const deliveryEnd = reader.uint32() + reader.pos;
    reader.tag();
    ids.push(BigInt(reader.uint64()));
    reader.pos = deliveryEnd;
  }
  return ids;
}
