/** What the readers and writers of `codecs.ts` make of any message, and of any bytes, is what protobuf-es makes of it. */
import {
  create,
  type DescMessage,
  equals,
  fromBinary,
  type JsonObject,
  type Message,
  toBinary,
} from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { StateItemSchema } from "../../../gen/dapr/proto/common/v1/common_pb.ts";
import { TopicEventRequestSchema } from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import {
  PublishEventRequestSchema,
  SubscribeTopicEventsRequestAlpha1Schema,
  SubscribeTopicEventsResponseAlpha1Schema,
} from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import {
  GetStateRequestSchema,
  GetStateResponseSchema,
  SaveStateRequestSchema,
} from "../../../gen/dapr/proto/runtime/v1/state_pb.ts";
import {
  decodeSubscribeRequest,
  encodeSubscribeResponse,
  encodeTopicEvent,
} from "../../../src/api/dapr/topic-event-codec.ts";
import {
  decodeGetStateRequest,
  decodePublishEventRequest,
  decodeSaveStateRequest,
  encodeGetStateResponse,
} from "../../../src/api/dapr/unary-codec.ts";
import { seeded } from "../../conformance/pubsub/fixture.ts";

/** How long each test goes on, in milliseconds. */
const budgetMs = Number(process.env["FUZZ_MS"] ?? 1000);
const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
process.stdout.write(`fuzzing Dapr's messages with FUZZ_SEED=${seed}\n`);

const next = seeded(seed);
const random = (below: number) => Math.floor(next() * below);
const pick = <T>(values: readonly T[]): T => values[random(values.length)]!;

/** An unsigned number, sometimes in more bytes than it needs, or in more than are allowed. */
function varint(value: bigint, more = pick([0, 0, 0, 0, 0, 0, 1, 3, 5, 9])): Buffer {
  const out: number[] = [];
  let rest = value;
  for (; rest > 0x7fn; rest >>= 7n) out.push(Number(rest & 0x7fn) | 0x80);
  out.push(Number(rest));
  for (let i = 0; i < more; i++) {
    out[out.length - 1]! |= 0x80;
    out.push(0);
  }
  return Buffer.from(out);
}

const numbers = [
  0n,
  1n,
  2n,
  77n,
  127n,
  128n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n,
  2n ** 53n,
  2n ** 64n - 1n,
];
const texts = ["", "a", "orders", "é€😀", "\ufffd", "__proto__", "constructor", "x".repeat(130)];
const odd = [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xf0, 0x9f, 0x98], [0xef, 0xbb, 0xbf, 0x61], [0]].map(
  (bytes) => Buffer.from(bytes),
);

/** Fields as anybody may have written them: unknown, in any order, repeated, in groups, broken. Deeper ones are nested. */
function message(depth: number): Buffer {
  const parts: Buffer[] = [];
  for (let count = random(5); count > 0; count--) parts.push(field(depth));
  return Buffer.concat(parts);
}

function field(depth: number): Buffer {
  const number = pick([1, 1, 1, 2, 2, 2, 3, 4, 5, 5, 7, 15, 16, 300]);
  const tag = (wireType: number) =>
    varint(BigInt(number * 8 + wireType), pick([0, 0, 0, 0, 0, 0, 0, 1, 4, 5]));
  const kind = random(20);
  if (kind < 3) return Buffer.concat([tag(0), varint(pick(numbers))]);
  if (kind === 3) return Buffer.concat([tag(5), Buffer.alloc(4, 1)]);
  if (kind === 4) return Buffer.concat([tag(1), Buffer.alloc(8, 1)]);
  if (kind === 5) return Buffer.concat([tag(3), message(depth + 1), pick([tag(4), Buffer.alloc(0)])]);
  if (kind === 6 && random(4) === 0) return Buffer.concat([tag(pick([4, 6, 7]))]);
  const nested = kind < 13 && depth < 3;
  const content = nested ? message(depth + 1) : random(12) === 0 ? pick(odd) : Buffer.from(pick(texts));
  const length = BigInt(content.length + (random(40) === 0 ? 1 + random(3) : 0));
  return Buffer.concat([tag(2), varint(length), content]);
}

const nestedIn = (tag: number, content: Uint8Array) =>
  Buffer.concat([Buffer.from([tag]), varint(BigInt(content.length)), content]);

const several = (one: () => Buffer) => Buffer.concat(Array.from({ length: random(4) }, one));

/** What became of an event, with any of its parts more than once, and any status. */
function processed(): Buffer {
  const status = () =>
    nestedIn(
      0x12,
      several(() => Buffer.concat([Buffer.from([8]), varint(pick(numbers))])),
    );
  const id = () => nestedIn(0x0a, Buffer.from(pick(texts)));
  return nestedIn(
    0x12,
    several(() => pick([id, status, status])()),
  );
}

/** Joined, so that what occurs once in each occurs twice. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = Buffer.concat(parts);
  for (let count = random(3); count > 0 && bytes.length > 0; count--)
    bytes[random(bytes.length)] = random(2) === 0 ? random(256) : pick([0, 1, 0x0a, 0x12, 0x7f, 0x80, 0xff]);
  return random(6) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
}

function metadata(): Record<string, string> {
  return Object.fromEntries(Array.from({ length: random(4) }, () => [pick(texts), pick(texts)]));
}

/** A view of no buffer that others use. */
const bytesOf = () => new Uint8Array(pick([0, 1, 5, 127, 128, 20_000])).fill(random(256));

/** Runs until the time is over. */
function repeatedly(run: () => void): void {
  for (const end = performance.now() + budgetMs; performance.now() < end; )
    for (let i = 0; i < 50; i++) run();
}

/** What was read, with all that is unknown; or why it was refused. */
function outcomeOf(read: () => Message): unknown {
  try {
    return plain(read());
  } catch (error) {
    return String(error);
  }
}

/** Whether bytes are views of what came, or copies, is no difference. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, own]) => [name, plain(own)]));
}

interface Case {
  readonly schema: DescMessage;
  readonly decode: (bytes: Uint8Array) => Message;
  readonly valid: () => Message;
}

const cases: Record<string, Case> = {
  "a save of state": {
    schema: SaveStateRequestSchema,
    decode: decodeSaveStateRequest,
    valid: () =>
      create(SaveStateRequestSchema, {
        storeName: pick(texts),
        states: Array.from({ length: random(4) }, () =>
          create(StateItemSchema, {
            key: pick(texts),
            value: bytesOf(),
            metadata: metadata(),
            ...(random(5) === 0 && { etag: { value: pick(texts) } }),
            ...(random(5) === 0 && { options: { concurrency: pick([0, 1, 2] as const) } }),
          }),
        ),
      }),
  },
  "a read of state": {
    schema: GetStateRequestSchema,
    decode: decodeGetStateRequest,
    valid: () =>
      create(GetStateRequestSchema, {
        storeName: pick(texts),
        key: pick(texts),
        consistency: pick([0, 1, 2] as const),
        metadata: metadata(),
      }),
  },
  "a publish": {
    schema: PublishEventRequestSchema,
    decode: decodePublishEventRequest,
    valid: () =>
      create(PublishEventRequestSchema, {
        pubsubName: pick(texts),
        topic: pick(texts),
        data: bytesOf(),
        dataContentType: pick(texts),
        metadata: metadata(),
      }),
  },
  "what a stream says": {
    schema: SubscribeTopicEventsRequestAlpha1Schema,
    decode: decodeSubscribeRequest,
    valid: () =>
      create(SubscribeTopicEventsRequestAlpha1Schema, {
        subscribeTopicEventsRequestType:
          random(3) === 0
            ? { case: "initialRequest", value: { pubsubName: pick(texts), metadata: metadata() } }
            : {
                case: "eventProcessed",
                value: {
                  id: pick(texts),
                  ...(random(3) > 0 && { status: { status: pick([0, 1, 2, 77, -1, -(2 ** 31)]) as never } }),
                },
              },
      }),
  },
};

describe("bytes are read as protobuf-es reads them, and refused as it refuses them", () => {
  for (const [what, { schema, decode, valid }] of Object.entries(cases))
    it(what, () => {
      const counts = { read: 0, refused: 0 };
      repeatedly(() => {
        const one = () => toBinary(schema, valid());
        const bytes = pick([
          one,
          () => joined([one()]),
          () => joined([one(), one()]),
          () => joined([one(), message(0)]),
          () => message(0),
          processed,
        ])();
        const ours = outcomeOf(() => decode(bytes));
        const cause = `FUZZ_SEED=${seed}: ${Buffer.from(bytes).toString("hex").slice(0, 2000)}`;
        expect(ours, cause).toEqual(outcomeOf(() => fromBinary(schema, bytes)));
        counts[typeof ours === "string" ? "refused" : "read"] += 1;
      });
      expect(counts.read).toBeGreaterThan(0);
      expect(counts.refused).toBeGreaterThan(0);
    });
});

/** The same message in as many bytes; entries of maps may come in another order. */
function expectWritten(schema: DescMessage, bytes: Uint8Array, written: Message): void {
  const cause = `FUZZ_SEED=${seed}`;
  expect(bytes.length, cause).toBe(toBinary(schema, written).length);
  expect(equals(schema, fromBinary(schema, bytes), written), cause).toBe(true);
}

describe("messages are written as protobuf-es writes them", () => {
  const extensions = (): JsonObject => {
    const own = metadata() as JsonObject;
    if (random(6) === 0) own["other"] = pick([1.5, null, [true], { a: "b" }]);
    return own;
  };
  const event = () =>
    create(TopicEventRequestSchema, {
      id: pick([...texts, "\ud800"]),
      source: pick(texts),
      type: pick(texts),
      specVersion: pick(texts),
      dataContentType: pick(texts),
      data: bytesOf(),
      topic: "t".repeat(random(300)),
      pubsubName: "€".repeat(random(300)),
      path: pick(texts),
      ...(random(3) > 0 && { extensions: extensions() }),
    });

  it("an event, alone and on a stream", () => {
    repeatedly(() => {
      const one = event();
      // Half a pair is no text: it becomes what protobuf-es makes of it.
      const read = fromBinary(TopicEventRequestSchema, toBinary(TopicEventRequestSchema, one));
      expectWritten(TopicEventRequestSchema, encodeTopicEvent(one), read);
      const response = create(SubscribeTopicEventsResponseAlpha1Schema, {
        subscribeTopicEventsResponseType: { case: "eventMessage", value: read },
      });
      const bytes = encodeSubscribeResponse(response);
      if (bytes) expectWritten(SubscribeTopicEventsResponseAlpha1Schema, bytes, response);
    });
  });

  it("an answer with state", () => {
    repeatedly(() => {
      const answer = create(GetStateResponseSchema, {
        data: bytesOf(),
        etag: pick(texts),
        metadata: metadata(),
      });
      expectWritten(GetStateResponseSchema, encodeGetStateResponse(answer), answer);
    });
  });
});
