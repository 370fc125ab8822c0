/**
 * Writes the frames of deliveries, and acknowledgements: most of what a busy sidecar writes.
 *
 * protobuf-es walks descriptors, field by field; this knows the one message. It
 * writes from the end to the beginning, so that the length of a nested message is known when
 * it is due. The bytes are those that protobuf-es writes.
 * (https://protobuf.dev/programming-guides/encoding/)
 */
import type {
  Delivery,
  PublishStreamResponse,
  SubscribeResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { lengthDelimited, tag, varint } from "../../protobuf/reader.ts";
import { ReverseWriter } from "../../protobuf/writer.ts";
import { writeEvent } from "./event-codec.ts";

/** What a delivery has beside its data, in bytes, roughly: the first guess of a frame's size. */
const guessedBytes = 384;
/** More than an acknowledgement has. */
const acknowledgementBytes = 16;

/** The bytes of a frame of deliveries; undefined for any other message. */
export function encodeDeliver({ message }: SubscribeResponse): Uint8Array | undefined {
  if (message.case !== "deliver") return undefined;
  const { deliveries } = message.value;
  let guess = 64;
  for (const { event } of deliveries) guess += guessedBytes + event!.data.length;
  const writer = new ReverseWriter(guess);
  for (let i = deliveries.length - 1; i >= 0; i--) {
    const end = writer.left;
    writeDelivery(writer, deliveries[i]!);
    writer.nested(tag(1, lengthDelimited), end);
  }
  writer.nested(tag(2, lengthDelimited), guess);
  return writer.bytes();
}

/** The bytes of an acknowledgement that says nothing but how far it reaches; undefined for any other. */
export function encodeAcknowledgement(response: PublishStreamResponse): Uint8Array | undefined {
  if (response.failures.length > 0 || response.published.length > 0) return undefined;
  const writer = new ReverseWriter(acknowledgementBytes);
  writer.uint(tag(1, varint), Number(response.settledThrough));
  return writer.bytes();
}

function writeDelivery(writer: ReverseWriter, delivery: Delivery): void {
  if (delivery.offset !== undefined) writer.bigint(tag(13, varint), delivery.offset);
  if (delivery.partition !== undefined) writer.bigint(tag(12, varint), BigInt(delivery.partition));
  writer.map(tag(11, lengthDelimited), delivery.headers);
  writer.timestamp(tag(10, lengthDelimited), delivery.publishedAt);
  writer.text(tag(9, lengthDelimited), delivery.position);
  writer.text(tag(8, lengthDelimited), delivery.key);
  writer.timestamp(tag(7, lengthDelimited), delivery.deadline);
  writer.uint(tag(6, varint), delivery.attempt);
  writer.text(tag(5, lengthDelimited), delivery.route);
  writer.text(tag(4, lengthDelimited), delivery.topic);
  const end = writer.left;
  writeEvent(writer, delivery.event!);
  writer.nested(tag(3, lengthDelimited), end);
  writer.uint(tag(2, varint), delivery.subscription);
  writer.uint(tag(1, varint), Number(delivery.id));
}
