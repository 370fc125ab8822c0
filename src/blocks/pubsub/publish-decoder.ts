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
import {
  type Outgoing,
  type PublishStreamRequest,
  PublishStreamRequestSchema,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { lengthDelimited, Reader, tag, varint } from "../../protobuf/reader.ts";
import { bareOutgoing } from "./event-attributes.ts";
import { readEvent } from "./event-codec.ts";

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
  const outgoing = bareOutgoing(undefined);
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
        outgoing.deliverAt = reader.time(reader.nested(end), "google.protobuf.Timestamp");
        break;
      case tag(4, lengthDelimited):
        if (outgoing.deliverAfter) reader.giveUp();
        outgoing.deliverAfter = reader.time(reader.nested(end), "google.protobuf.Duration");
        break;
      case tag(5, lengthDelimited):
        if (outgoing.timeToLive) reader.giveUp();
        outgoing.timeToLive = reader.time(reader.nested(end), "google.protobuf.Duration");
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
