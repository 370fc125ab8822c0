/**
 * Reads the requests of publish streams, which are most of what a busy sidecar reads.
 *
 * protobuf-es walks descriptors, field by field; this knows the one message. It
 * reads what clients usually send, and leaves to protobuf-es whatever it has no
 * case for: unknown fields, groups, a field twice, numbers beyond 2^53, text that is not UTF-8, and what is malformed.
 * So there is one meaning of every message, and one place where bytes are refused.
 * (https://protobuf.dev/programming-guides/encoding/)
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import {
  type Event,
  type Outgoing,
  type PublishStreamRequest,
  PublishStreamRequestSchema,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { lengthDelimited, noData, Reader, tag, varint } from "../../protobuf/reader.ts";
import { bareEvent } from "./event-attributes.ts";

/** The message of some bytes. `bytes` fields are views of them. Throws what protobuf-es throws. */
export function decodePublishStreamRequest(bytes: Uint8Array): PublishStreamRequest {
  const reader = new Reader(bytes);
  const request = readRequest(reader);
  return reader.unusual ? fromBinary(PublishStreamRequestSchema, bytes) : request;
}

function readRequest(reader: Reader): PublishStreamRequest {
  let component = "";
  let topic = "";
  let wantPublished = false;
  const outgoing: Outgoing[] = [];
  const { end } = reader;
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        component = reader.text(end);
        break;
      case tag(2, lengthDelimited):
        topic = reader.text(end);
        break;
      case tag(3, lengthDelimited):
        outgoing.push(readOutgoing(reader, reader.nested(end)));
        break;
      case tag(4, varint):
        wantPublished = reader.varint() !== 0;
        break;
      default:
        reader.giveUp();
    }
  }
  return { $typeName: "outrider.pubsub.v1.PublishStreamRequest", component, topic, outgoing, wantPublished };
}

function readOutgoing(reader: Reader, end: number): Outgoing {
  const outgoing: Outgoing = {
    $typeName: "outrider.pubsub.v1.Outgoing",
    event: undefined,
    key: "",
    deliverAt: undefined,
    deliverAfter: undefined,
    timeToLive: undefined,
    raw: false,
    headers: {},
    partition: undefined,
  };
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        if (outgoing.event) reader.giveUp();
        outgoing.event = readEvent(reader, reader.nested(end));
        break;
      case tag(2, lengthDelimited):
        outgoing.key = reader.text(end);
        break;
      case tag(3, lengthDelimited):
        if (outgoing.deliverAt) reader.giveUp();
        outgoing.deliverAt = readTime(reader, reader.nested(end), "google.protobuf.Timestamp");
        break;
      case tag(4, lengthDelimited):
        if (outgoing.deliverAfter) reader.giveUp();
        outgoing.deliverAfter = readTime(reader, reader.nested(end), "google.protobuf.Duration");
        break;
      case tag(5, lengthDelimited):
        if (outgoing.timeToLive) reader.giveUp();
        outgoing.timeToLive = readTime(reader, reader.nested(end), "google.protobuf.Duration");
        break;
      case tag(6, varint):
        outgoing.raw = reader.varint() !== 0;
        break;
      case tag(7, lengthDelimited):
        reader.entry(reader.nested(end), outgoing.headers);
        break;
      case tag(8, varint):
        outgoing.partition = reader.varint();
        // Beyond an uint32 it is cut off, as protobuf-es does it.
        if (outgoing.partition > 0xffff_ffff) reader.giveUp();
        break;
      default:
        reader.giveUp();
    }
  }
  if (reader.position > end) reader.giveUp();
  return outgoing;
}

function readEvent(reader: Reader, end: number): Event {
  const event = bareEvent(noData);
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        event.id = reader.text(end);
        break;
      case tag(2, lengthDelimited):
        event.source = reader.text(end);
        break;
      case tag(3, lengthDelimited):
        event.type = reader.text(end);
        break;
      case tag(4, lengthDelimited):
        event.subject = reader.text(end);
        break;
      case tag(5, lengthDelimited):
        if (event.time) reader.giveUp();
        event.time = readTime(reader, reader.nested(end), "google.protobuf.Timestamp");
        break;
      case tag(6, lengthDelimited):
        event.dataContentType = reader.text(end);
        break;
      case tag(7, lengthDelimited):
        event.dataSchema = reader.text(end);
        break;
      case tag(8, lengthDelimited):
        event.data = reader.data(end);
        break;
      case tag(9, lengthDelimited):
        reader.entry(reader.nested(end), event.extensions);
        break;
      default:
        reader.giveUp();
    }
  }
  if (reader.position > end) reader.giveUp();
  return event;
}

function readTime<T extends Timestamp["$typeName"] | Duration["$typeName"]>(
  reader: Reader,
  end: number,
  $typeName: T,
) {
  let seconds = 0;
  let nanos = 0;
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, varint):
        seconds = reader.varint();
        break;
      case tag(2, varint):
        nanos = reader.varint();
        // Beyond an int32 it is negative or wrong.
        if (nanos > 0x7fffffff) reader.giveUp();
        break;
      default:
        reader.giveUp();
    }
  }
  if (reader.position > end) reader.giveUp();
  return { $typeName, seconds: BigInt(seconds), nanos };
}
