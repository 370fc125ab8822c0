/**
 * Writes events for gRPC applications, and reads what they say of them on streams: most of what there is to write and
 * read. protobuf-es walks descriptors, field by field; this knows the messages, as `deliver-encoder.ts` does.
 */
import { fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import {
  type TopicEventRequest,
  TopicEventRequestSchema,
  type TopicEventResponse,
} from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import {
  type SubscribeTopicEventsRequestAlpha1,
  SubscribeTopicEventsRequestAlpha1Schema,
  type SubscribeTopicEventsResponseAlpha1,
} from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import { lengthDelimited, Reader, tag, varint } from "../../protobuf/reader.ts";
import { ReverseWriter } from "../../protobuf/writer.ts";

/** What an event has beside its data, in bytes, roughly: the first guess of a message's size. */
const guessedBytes = 640;

/** The bytes of an event. */
export function encodeTopicEvent(event: TopicEventRequest): Uint8Array {
  if (!areTexts(event.extensions)) return toBinary(TopicEventRequestSchema, event);
  const writer = new ReverseWriter(guessedBytes + event.data.length);
  writeTopicEvent(writer, event);
  return writer.bytes();
}

/** The bytes of a message with an event; undefined for any other. */
export function encodeSubscribeResponse({
  subscribeTopicEventsResponseType: message,
}: SubscribeTopicEventsResponseAlpha1): Uint8Array | undefined {
  if (message.case !== "eventMessage" || !areTexts(message.value.extensions)) return undefined;
  const writer = new ReverseWriter(guessedBytes + message.value.data.length);
  const end = writer.left;
  writeTopicEvent(writer, message.value);
  writer.nested(tag(2, lengthDelimited), end);
  return writer.bytes();
}

function writeTopicEvent(writer: ReverseWriter, event: TopicEventRequest): void {
  if (event.extensions) {
    const end = writer.left;
    for (const name in event.extensions) {
      // google.protobuf.Struct.fields: an entry of a map, with a Value whose string_value is 3.
      const entry = writer.left;
      writer.string(tag(3, lengthDelimited), event.extensions[name] as string);
      writer.nested(tag(2, lengthDelimited), entry);
      writer.string(tag(1, lengthDelimited), name);
      writer.nested(tag(1, lengthDelimited), entry);
    }
    writer.nested(tag(10, lengthDelimited), end);
  }
  writer.text(tag(9, lengthDelimited), event.path);
  writer.text(tag(8, lengthDelimited), event.pubsubName);
  writer.data(tag(7, lengthDelimited), event.data);
  writer.text(tag(6, lengthDelimited), event.topic);
  writer.text(tag(5, lengthDelimited), event.dataContentType);
  writer.text(tag(4, lengthDelimited), event.specVersion);
  writer.text(tag(3, lengthDelimited), event.type);
  writer.text(tag(2, lengthDelimited), event.source);
  writer.text(tag(1, lengthDelimited), event.id);
}

function areTexts(extensions: JsonObject | undefined): boolean {
  for (const name in extensions) if (typeof extensions[name] !== "string") return false;
  return true;
}

/** The message of some bytes. Throws what protobuf-es throws. */
export function decodeSubscribeRequest(bytes: Uint8Array): SubscribeTopicEventsRequestAlpha1 {
  return readProcessed(new Reader(bytes)) ?? fromBinary(SubscribeTopicEventsRequestAlpha1Schema, bytes);
}

/** What became of an event; undefined for any other message. */
function readProcessed(reader: Reader): SubscribeTopicEventsRequestAlpha1 | undefined {
  if (reader.varint() !== tag(2, lengthDelimited)) return undefined;
  const end = reader.nested(reader.end);
  if (end !== reader.end) return undefined;
  let id = "";
  let status: TopicEventResponse | undefined;
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        id = reader.text(end);
        break;
      case tag(2, lengthDelimited):
        if (status) reader.giveUp();
        status = readStatus(reader, reader.nested(end));
        break;
      default:
        reader.giveUp();
    }
  }
  if (reader.unusual || reader.position !== end) return undefined;
  return {
    $typeName: "dapr.proto.runtime.v1.SubscribeTopicEventsRequestAlpha1",
    subscribeTopicEventsRequestType: {
      case: "eventProcessed",
      value: {
        $typeName: "dapr.proto.runtime.v1.SubscribeTopicEventsRequestProcessedAlpha1",
        id,
        ...(status && { status }),
      },
    },
  };
}

function readStatus(reader: Reader, end: number): TopicEventResponse {
  let status = 0;
  while (reader.position < end) {
    if (reader.varint() !== tag(1, varint)) reader.giveUp();
    else status = reader.varint();
  }
  // Beyond an int32 it is negative or wrong.
  if (reader.position > end || status > 0x7fffffff) reader.giveUp();
  // Like protobuf-es, it gives on numbers that have no name.
  return {
    $typeName: "dapr.proto.runtime.v1.TopicEventResponse",
    status: status as TopicEventResponse["status"],
  };
}
