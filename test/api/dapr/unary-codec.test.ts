import {
  create,
  type DescMessage,
  equals,
  fromBinary,
  type Message,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { PublishEventRequestSchema } from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import {
  GetStateRequestSchema,
  GetStateResponseSchema,
  SaveStateRequestSchema,
} from "../../../gen/dapr/proto/runtime/v1/state_pb.ts";
import {
  decodeGetStateRequest,
  decodePublishEventRequest,
  decodeSaveStateRequest,
  encodeGetStateResponse,
} from "../../../src/api/dapr/unary-codec.ts";

const value = new Uint8Array(200).fill(9);
const metadata = { ttlInSeconds: "5", "": "", "ä€😀": "x".repeat(300) };
const saves = (
  [
    {},
    { storeName: "state" },
    { storeName: "state", states: [{}, { key: "a" }, { key: "ä€", value, metadata }] },
    { states: [{ key: "a", etag: { value: "1" }, value }] },
    { states: [{ key: "a", options: { concurrency: 1, consistency: 2 } }] },
  ] satisfies MessageInitShape<typeof SaveStateRequestSchema>[]
).map((init) => create(SaveStateRequestSchema, init));
const publishes = (
  [
    {},
    { pubsubName: "pubsub", topic: "orders", data: value, dataContentType: "text/plain" },
    { topic: "ä€😀", data: new Uint8Array(20_000), metadata },
  ] satisfies MessageInitShape<typeof PublishEventRequestSchema>[]
).map((init) => create(PublishEventRequestSchema, init));

const gets = (
  [
    {},
    { storeName: "state", key: "ä€😀", metadata },
    { key: "a", consistency: 2 },
  ] satisfies MessageInitShape<typeof GetStateRequestSchema>[]
).map((init) => create(GetStateRequestSchema, init));
const answers = (
  [
    {},
    { etag: "1" },
    { data: value, etag: "ä€😀", metadata },
    { data: new Uint8Array(70_000) },
  ] satisfies MessageInitShape<typeof GetStateResponseSchema>[]
).map((init) => create(GetStateResponseSchema, init));

/** What was read, as bytes, or why it was refused. */
function outcomeOf(schema: DescMessage, read: () => Message): unknown {
  try {
    return Buffer.from(toBinary(schema, read())).toString("hex");
  } catch (error) {
    return String(error);
  }
}

function check(schema: DescMessage, messages: readonly Message[], decode: (bytes: Uint8Array) => Message) {
  for (const message of messages) {
    const bytes = toBinary(schema, message);
    expect(equals(schema, decode(bytes), message)).toBe(true);
    for (let at = 0; at < Math.min(bytes.length, 400); at++)
      for (const byte of [0, 1, 0x0a, 0x22, 0x7f, 0x80, 0xff]) {
        const broken = bytes.slice();
        broken[at] = byte;
        expect(outcomeOf(schema, () => decode(broken))).toBe(
          outcomeOf(schema, () => fromBinary(schema, broken)),
        );
        const cut = broken.slice(0, at + 1);
        expect(outcomeOf(schema, () => decode(cut))).toBe(outcomeOf(schema, () => fromBinary(schema, cut)));
      }
  }
}

describe("a request of Dapr's API is read as protobuf-es reads it, and refused as it refuses it", () => {
  it("to save state", () => check(SaveStateRequestSchema, saves, decodeSaveStateRequest));
  it("to get state", () => check(GetStateRequestSchema, gets, decodeGetStateRequest));
  it("to publish", () => check(PublishEventRequestSchema, publishes, decodePublishEventRequest));
});

describe("an answer of Dapr's API is the message that protobuf-es would have written", () => {
  it("to get state", () => {
    for (const answer of answers) {
      const bytes = encodeGetStateResponse(answer);
      expect(bytes.length).toBe(toBinary(GetStateResponseSchema, answer).length);
      expect(equals(GetStateResponseSchema, fromBinary(GetStateResponseSchema, bytes), answer)).toBe(true);
    }
  });
});
