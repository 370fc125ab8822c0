import { create, equals, fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  TopicEventRequestSchema,
  type TopicEventResponse,
} from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import {
  SubscribeTopicEventsRequestAlpha1Schema,
  SubscribeTopicEventsResponseAlpha1Schema,
} from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import {
  decodeSubscribeRequest as decode,
  encodeSubscribeResponse as encode,
  encodeTopicEvent,
} from "../../../src/api/dapr/topic-event-codec.ts";

const texts = ["", "a", "orders", "é€😀", "x".repeat(127), "y".repeat(128), "z".repeat(20_000)];
const sizes = [0, 1, 200, 16_384];

function eventOf(text: string, bytes: number, extensions: JsonObject | undefined) {
  return create(TopicEventRequestSchema, {
    id: `id ${text}`,
    source: text,
    type: text,
    specVersion: "1.0",
    dataContentType: text,
    data: new Uint8Array(bytes).fill(7),
    topic: text,
    pubsubName: text,
    path: text,
    ...(extensions && { extensions }),
  });
}

const extensions: readonly (JsonObject | undefined)[] = [
  undefined,
  {},
  { traceparent: "00-1", tracestate: "", é: "€" },
  // No event of ours has these; the message could.
  { number: 1.5, list: [null, true, { a: "b" }] },
];

describe("an event for a gRPC application", () => {
  it("is the message that protobuf-es would have written, alone and on a stream", () => {
    for (const text of texts)
      for (const size of sizes)
        for (const own of extensions) {
          const event = eventOf(text, size, own);
          const alone = encodeTopicEvent(event);
          expect(alone.length).toBe(toBinary(TopicEventRequestSchema, event).length);
          expect(equals(TopicEventRequestSchema, fromBinary(TopicEventRequestSchema, alone), event)).toBe(
            true,
          );
          const response = create(SubscribeTopicEventsResponseAlpha1Schema, {
            subscribeTopicEventsResponseType: { case: "eventMessage", value: event },
          });
          const bytes = encode(response) ?? toBinary(SubscribeTopicEventsResponseAlpha1Schema, response);
          const read = fromBinary(SubscribeTopicEventsResponseAlpha1Schema, bytes);
          expect(equals(SubscribeTopicEventsResponseAlpha1Schema, read, response)).toBe(true);
        }
  });
});

describe("what a stream says of an event", () => {
  const schema = SubscribeTopicEventsRequestAlpha1Schema;
  const statuses: readonly (TopicEventResponse["status"] | undefined)[] = [undefined, 0, 1, 2, 77 as never];
  const processed = statuses.flatMap((status) =>
    texts.map((id) =>
      create(schema, {
        subscribeTopicEventsRequestType: {
          case: "eventProcessed",
          value: { id, ...(status !== undefined && { status: { status } }) },
        },
      }),
    ),
  );

  it("is read as protobuf-es reads it, and so is the first message", () => {
    const initial = create(schema, {
      subscribeTopicEventsRequestType: {
        case: "initialRequest",
        value: { pubsubName: "pubsub", topic: "orders", metadata: { a: "b" }, deadLetterTopic: "dead" },
      },
    });
    for (const message of [initial, ...processed])
      expect(equals(schema, decode(toBinary(schema, message)), message)).toBe(true);
  });

  it("is refused as protobuf-es refuses it, whatever bytes it has", () => {
    const outcome = (read: () => unknown) => {
      try {
        return { ...(read() as object) };
      } catch (error) {
        return String(error);
      }
    };
    const bytes = toBinary(schema, processed[9]!);
    for (let at = 0; at < bytes.length; at++)
      for (const value of [0, 1, 0x12, 0x7f, 0x80, 0xff]) {
        const broken = bytes.slice();
        broken[at] = value;
        expect(outcome(() => decode(broken))).toEqual(outcome(() => fromBinary(schema, broken)));
        const cut = broken.slice(0, at);
        expect(outcome(() => decode(cut))).toEqual(outcome(() => fromBinary(schema, cut)));
      }
  });
});
