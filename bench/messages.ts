/** The requests of the scenarios, as bytes, and what is read of the answers. */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  Outcome,
  PublishBatchRequestSchema,
  PublishRequestSchema,
  PublishStreamRequestSchema,
  PubSubService,
  SubscribeRequestSchema,
} from "../gen/outrider/pubsub/v1/pubsub_pb.ts";
import {
  GetRequestSchema,
  SetRequestSchema,
  StateService,
  TransactRequestSchema,
} from "../gen/outrider/state/v1/state_pb.ts";

/** Bytes of a value and of an event's data, as in daprd's figures. */
export const payloadBytes = 200;

/** Paths of the methods. */
export const paths = {
  get: pathOf(StateService, "Get"),
  set: pathOf(StateService, "Set"),
  transact: pathOf(StateService, "Transact"),
  publish: pathOf(PubSubService, "Publish"),
  publishBatch: pathOf(PubSubService, "PublishBatch"),
  publishStream: pathOf(PubSubService, "PublishStream"),
  subscribe: pathOf(PubSubService, "Subscribe"),
} as const;

/** The path of a method. */
export function pathOf(service: { readonly typeName: string }, method: string): string {
  return `/${service.typeName}/${method}`;
}

/** A message as bytes. */
export function bytesOf<Schema extends DescMessage>(
  schema: Schema,
  message: MessageInitShape<Schema>,
): Uint8Array {
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

/** Sets items in one transaction. */
export function transactRequest(component: string, numbers: readonly number[]): Uint8Array {
  const writes = numbers.map((number) => ({
    write: { case: "set" as const, value: { key: keyOf(number), value: payload() } },
  }));
  return bytesOf(TransactRequestSchema, { component, writes });
}

export function publishRequest(component: string, topic: string, data = payload()): Uint8Array {
  return bytesOf(PublishRequestSchema, { component, topic, outgoing: { event: { data } } });
}

/** What Dapr's API gives an event that was published through it. */
const daprAttributes = {
  source: "bench",
  type: "com.dapr.event.sent",
  dataContentType: "text/plain",
  extensions: {
    topic: "bench",
    pubsubname: "pubsub",
    traceparent: "00-00000000000000000000000000000000-0000000000000000-00",
    traceid: "00-00000000000000000000000000000000-0000000000000000-00",
    tracestate: "",
  },
};

/** What a message of a publish stream has beside its events. */
export interface PublishStreamSettings {
  /** Component and topic belong in the first message. */
  readonly component?: string;
  readonly topic?: string;
  /** True: each event with the attributes that Dapr's API gives it. */
  readonly asDapr?: boolean | undefined;
}

/** Events of a publish stream. */
export function publishStreamRequest(
  events: readonly Uint8Array[],
  { asDapr = false, ...to }: PublishStreamSettings = {},
): Uint8Array {
  return bytesOf(PublishStreamRequestSchema, {
    ...to,
    outgoing: events.map((data) => ({ event: { ...(asDapr && daprAttributes), data } })),
  });
}

/** Events of one unary call, in the order of their data. */
export function publishBatchRequest(component: string, topic: string, count: number): Uint8Array {
  const entries = Array.from({ length: count }, (_, number) => ({
    entryId: String(number),
    outgoing: { event: { data: payload() } },
  }));
  return bytesOf(PublishBatchRequestSchema, { component, topic, entries });
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
