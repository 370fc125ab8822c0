/**
 * Events as bytes: a message of the type Event, by itself or within another.
 *
 * By hand, as `publish-decoder.ts` and `deliver-encoder.ts` are: it takes a fraction of protobuf-es's time, and no descriptors.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { lengthDelimited, noData, Reader, tag } from "../../protobuf/reader.ts";
import { ReverseWriter } from "../../protobuf/writer.ts";
import { bareEvent } from "./event-attributes.ts";

/** What an event has beside its data, in bytes, roughly: the first guess of its size. */
const guessedBytes = 384;

/** The bytes of an event; what it has of fields that are not known is left out. */
export function encodeEvent(event: Event): Uint8Array {
  const writer = new ReverseWriter(guessedBytes + event.data.length);
  writeEvent(writer, event);
  return writer.bytes();
}

/**
 * The event of some bytes; its data is a view of them. Undefined for what is unusual, or no event: `decodeEventExactly`
 * knows what to make of it.
 */
export function decodeEvent(bytes: Uint8Array): Event | undefined {
  const reader = new Reader(bytes);
  const event = readEvent(reader, reader.end);
  return reader.unusual ? undefined : event;
}

/** Like `decodeEvent`, by protobuf-es, whose descriptors are loaded for it. Throws for what is no event. */
export async function decodeEventExactly(bytes: Uint8Array): Promise<Event> {
  const { EventSchema } = await import("../../../gen/outrider/pubsub/v1/pubsub_pb.ts");
  return fromBinary(EventSchema, bytes);
}

/** Writes the fields of an event. */
export function writeEvent(writer: ReverseWriter, event: Event): void {
  writer.map(tag(9, lengthDelimited), event.extensions);
  writer.data(tag(8, lengthDelimited), event.data);
  writer.text(tag(7, lengthDelimited), event.dataSchema);
  writer.text(tag(6, lengthDelimited), event.dataContentType);
  writer.timestamp(tag(5, lengthDelimited), event.time);
  writer.text(tag(4, lengthDelimited), event.subject);
  writer.text(tag(3, lengthDelimited), event.type);
  writer.text(tag(2, lengthDelimited), event.source);
  writer.text(tag(1, lengthDelimited), event.id);
}

/** Reads the fields of an event, which ends there. */
export function readEvent(reader: Reader, end: number): Event {
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
        event.time = reader.time(reader.nested(end), "google.protobuf.Timestamp");
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
