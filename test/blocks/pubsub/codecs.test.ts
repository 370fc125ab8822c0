import { create, equals, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  type Delivery,
  DeliverySchema,
  type Event,
  EventSchema,
  type Outcome,
  type Outgoing,
  OutgoingSchema,
  PublishStreamRequestSchema,
  PublishStreamResponseSchema,
  type SubscribeRequest,
  SubscribeRequestSchema,
  SubscribeResponseSchema,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { encodeAcknowledgement, encodeDeliver } from "../../../src/blocks/pubsub/deliver-encoder.ts";
import { decodeEvent, decodeEventExactly, encodeEvent } from "../../../src/blocks/pubsub/event-codec.ts";
import { decodePublishStreamRequest } from "../../../src/blocks/pubsub/publish-decoder.ts";
import { decodeSubscribeRequest } from "../../../src/blocks/pubsub/settle-decoder.ts";

const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Date.now() % 1_000_000);
const rounds = 1500;

/** A small generator of numbers from 0 to 1 (mulberry32), so that a failure can be had again. */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Samples {
  readonly random: () => number;

  constructor(start: number) {
    this.random = randomOf(start);
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  pick<T>(...choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }

  text(): string {
    const length = this.random() < 0.002 ? 20_000 : this.pick(0, 0, 0, 1, 5, 12, 47, 48, 49, 127, 128);
    const alphabet = this.pick("abc-09", "äé€", "😀𐍈", "a€😀\u0000\u007f\u0080\uffff");
    return Array.from({ length }, () => this.pick(...alphabet)).join("");
  }

  data(): Uint8Array {
    return Uint8Array.from({ length: this.pick(0, 1, 127, 128, 200, 16_383, 16_384, 70_000) }, () =>
      this.below(256),
    );
  }

  time() {
    const seconds = this.pick(0n, 1n, -1n, 1_763_000_000n, -62_135_596_800n, 253_402_300_799n, 2n ** 40n);
    return this.pick(undefined, { seconds, nanos: this.pick(0, 1, 999_999_999, -1) });
  }

  entries(): Record<string, string> {
    return Object.fromEntries(
      Array.from({ length: this.pick(0, 0, 1, 3) }, () => [this.text(), this.text()]),
    );
  }

  event(): Event {
    return create(EventSchema, {
      id: this.text(),
      source: this.text(),
      type: this.text(),
      subject: this.text(),
      time: this.time(),
      dataContentType: this.text(),
      dataSchema: this.text(),
      data: this.data(),
      extensions: this.entries(),
    });
  }

  delivery(): Delivery {
    return create(DeliverySchema, {
      id: this.pick(1n, 127n, 128n, 16_384n, 2n ** 32n, 2n ** 53n - 1n),
      subscription: this.pick(1, 300, 2 ** 32 - 1),
      event: this.event(),
      topic: this.text(),
      route: this.text(),
      attempt: this.pick(0, 1, 2 ** 31),
      deadline: this.time(),
      key: this.text(),
      position: this.text(),
      publishedAt: this.time(),
      headers: this.entries(),
      partition: this.pick(undefined, 0, 7, -1, 2 ** 31 - 1),
      offset: this.pick(undefined, 0n, 12n, -1n, 2n ** 63n - 1n, -(2n ** 63n)),
    });
  }

  subscribeRequest(): SubscribeRequest {
    const ranges = () =>
      Array.from({ length: this.pick(0, 1, 1, 3, 100) }, () => ({
        first: this.pick(0n, 1n, 127n, 300n, 2n ** 53n - 1n, 2n ** 64n - 1n),
        last: this.pick(0n, 0n, 1n, 128n, 2n ** 32n),
      }));
    const settle = { deliveries: ranges(), outcome: this.pick(0, 1, 2, 3, 17, -1) as Outcome };
    const message = this.pick<MessageInitShape<typeof SubscribeRequestSchema>["message"]>(
      { case: "settle", value: settle },
      { case: "settle", value: settle },
      { case: "settle", value: { ...settle, delay: { seconds: 1n }, reason: this.text() } },
      { case: "extend", value: { deliveries: ranges() } },
      { case: "open", value: { subscription: 1, topic: this.text() } },
      { case: undefined },
    );
    return create(SubscribeRequestSchema, message === undefined ? {} : { message });
  }

  outgoing(): Outgoing {
    return create(OutgoingSchema, {
      event: this.pick(undefined, this.event(), this.event()),
      key: this.text(),
      deliverAt: this.time(),
      deliverAfter: this.time(),
      timeToLive: this.time(),
      raw: this.pick(true, false),
      headers: this.entries(),
      partition: this.pick(undefined, 0, 7, 2 ** 32 - 1),
    });
  }
}

/** What was read, without its prototype, or why it was refused. */
function outcomeOf(decode: () => object): unknown {
  try {
    return { ...decode() };
  } catch (error) {
    return String(error);
  }
}

describe(`with seed ${seed} (OUTRIDER_TEST_SEED)`, () => {
  it("a frame of deliveries is the message that protobuf-es would have written", () => {
    const samples = new Samples(seed);
    for (let round = 0; round < rounds / 5; round++) {
      const deliveries = Array.from({ length: samples.pick(0, 1, 2, 20) }, () => samples.delivery());
      const message = create(SubscribeResponseSchema, {
        message: { case: "deliver", value: { deliveries } },
      });
      const bytes = encodeDeliver(message)!;
      expect(Buffer.compare(bytes, toBinary(SubscribeResponseSchema, message))).toBe(0);
      expect(equals(SubscribeResponseSchema, fromBinary(SubscribeResponseSchema, bytes), message)).toBe(true);
    }
  });

  it("a request of a publish stream is read as protobuf-es reads it", () => {
    const samples = new Samples(seed);
    for (let round = 0; round < rounds / 5; round++) {
      const message = create(PublishStreamRequestSchema, {
        component: samples.text(),
        topic: samples.text(),
        outgoing: Array.from({ length: samples.pick(0, 1, 2, 20) }, () => samples.outgoing()),
        wantPublished: samples.pick(true, false),
      });
      const decoded = decodePublishStreamRequest(toBinary(PublishStreamRequestSchema, message));
      expect(equals(PublishStreamRequestSchema, decoded, message)).toBe(true);
    }
  });

  it("bytes that were tampered with are read as protobuf-es reads them, or refused as it refuses them", () => {
    const samples = new Samples(seed);
    const original = toBinary(
      PublishStreamRequestSchema,
      create(PublishStreamRequestSchema, {
        topic: "t",
        outgoing: [
          {
            event: {
              id: "é1",
              time: { seconds: 5n },
              data: samples.data().slice(0, 9),
              extensions: { a: "b" },
            },
            key: "k",
          },
          {
            event: { source: "s" },
            headers: { h: "1" },
            deliverAfter: { seconds: -1n, nanos: 5 },
            raw: true,
          },
        ],
      }),
    );
    for (let round = 0; round < rounds * 4; round++) {
      const bytes = original.slice(0, samples.pick(original.length, samples.below(original.length), 40));
      for (let change = samples.below(4); change > 0; change--)
        bytes[samples.below(bytes.length)] = samples.below(256);
      expect(outcomeOf(() => decodePublishStreamRequest(bytes))).toEqual(
        outcomeOf(() => fromBinary(PublishStreamRequestSchema, bytes)),
      );
    }
  });

  it("an event is the bytes that protobuf-es writes, and read as it was", async () => {
    const samples = new Samples(seed);
    for (let round = 0; round < rounds / 3; round++) {
      const event = samples.event();
      const bytes = toBinary(EventSchema, event);
      expect(Buffer.compare(encodeEvent(event), bytes)).toBe(0);
      expect({ ...(decodeEvent(bytes) ?? (await decodeEventExactly(bytes))) }).toEqual({ ...event });
    }
  });

  it("the bytes of an event that were tampered with are read as protobuf-es reads them, or refused", async () => {
    const samples = new Samples(seed);
    let decoded = 0;
    for (let round = 0; round < rounds * 4; round++) {
      const event = { ...samples.event(), data: samples.data().slice(0, 9) };
      const whole = toBinary(EventSchema, event);
      const bytes = whole.slice(0, samples.pick(whole.length, samples.below(whole.length)));
      for (let change = samples.below(4); change > 0 && bytes.length > 0; change--)
        bytes[samples.below(Math.min(bytes.length, samples.pick(20, bytes.length)))] = samples.below(256);
      const read = decodeEvent(bytes);
      if (read) decoded += 1;
      const expected = outcomeOf(() => fromBinary(EventSchema, bytes));
      expect(
        read ? { ...read } : await decodeEventExactly(bytes).then((exact) => ({ ...exact }), String),
      ).toEqual(expected);
    }
    expect(decoded).toBeGreaterThan(rounds / 2);
  });

  it("what a subscriber says is read as protobuf-es reads it, also when it was tampered with", () => {
    const samples = new Samples(seed);
    for (let round = 0; round < rounds * 4; round++) {
      const bytes = toBinary(SubscribeRequestSchema, samples.subscribeRequest());
      if (round % 2 === 1) {
        for (let change = 1 + samples.below(3); change > 0 && bytes.length > 0; change--)
          bytes[samples.below(bytes.length)] = samples.below(256);
      }
      expect(outcomeOf(() => decodeSubscribeRequest(bytes))).toEqual(
        outcomeOf(() => fromBinary(SubscribeRequestSchema, bytes)),
      );
    }
  });
});

it("the data of an event that was read is a view of its bytes", () => {
  const bytes = toBinary(EventSchema, create(EventSchema, { id: "1", data: Uint8Array.of(1, 2, 3) }));
  expect(decodeEvent(bytes)!.data.buffer).toBe(bytes.buffer);
});

it("an acknowledgement is the message that protobuf-es would have written, or its business", () => {
  for (const settledThrough of [0n, 1n, 127n, 128n, 16_384n, 2n ** 32n, 2n ** 53n - 1n]) {
    const message = create(PublishStreamResponseSchema, { settledThrough });
    expect(Buffer.from(encodeAcknowledgement(message)!)).toEqual(
      Buffer.from(toBinary(PublishStreamResponseSchema, message)),
    );
  }
  const failures = [{ sequence: 1n }];
  expect(
    encodeAcknowledgement(create(PublishStreamResponseSchema, { settledThrough: 1n, failures })),
  ).toBeUndefined();
  const published = [{ id: "1" }];
  expect(
    encodeAcknowledgement(create(PublishStreamResponseSchema, { settledThrough: 1n, published })),
  ).toBeUndefined();
});

it("other messages than deliveries are not the encoder's business", () => {
  expect(
    encodeDeliver(create(SubscribeResponseSchema, { message: { case: "drain", value: {} } })),
  ).toBeUndefined();
});

it.each([2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)])(
  "a time of %d seconds is the bytes that protobuf-es writes, although a number cannot hold it",
  (seconds) => {
    const event = create(EventSchema, { time: { seconds } });
    expect(encodeEvent(event)).toEqual(Buffer.from(toBinary(EventSchema, event)));
  },
);
