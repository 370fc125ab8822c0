import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { OpenSchema, Outcome, SubscribeRequestSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import { contextWith, type OpenInit, refusalOf, type Sidecar, startSidecar, textOf } from "./sidecar.ts";

let sidecar: Sidecar;
beforeEach(async () => {
  sidecar = await startSidecar();
});
afterEach(() => sidecar.close());

const ms = (value: number) => ({ seconds: BigInt(Math.trunc(value / 1000)), nanos: (value % 1000) * 1e6 });

describe("an open is refused, and the stream goes on", () => {
  it.each<[string, OpenInit, string]>([
    ["without a topic", { topic: "" }, "open.topic"],
    ["with a topic of 250 bytes", { topic: "t".repeat(250) }, "open.topic"],
    ["with a control character in the topic", { topic: "a\u0000" }, "open.topic"],
    ["with 65,537 deliveries in flight", { topic: "t", maxInFlight: 65_537 }, "open.max_in_flight"],
    ["with batches of 1,025", { topic: "t", maxBatch: 1025 }, "open.max_batch"],
    ["with a deadline of 99 ms", { topic: "t", settleWithin: ms(99) }, "open.settle_within"],
    ["with a negative deadline", { topic: "t", settleWithin: ms(-1000) }, "open.settle_within"],
    ["with a deadline over 24 h", { topic: "t", settleWithin: ms(86_400_001) }, "open.settle_within"],
    [
      "with a negative limit of its backoff",
      { topic: "t", retry: { maxDelay: ms(-1) } },
      "open.retry.max_delay",
    ],
    ["with a negative delay", { topic: "t", retry: { initialDelay: ms(-1) } }, "open.retry.initial_delay"],
    [
      "with a position that nobody gave",
      { topic: "t", start: { at: { case: "position", value: "no such position" } } },
      "open.start.position",
    ],
    [
      "with a pattern to send dead letters to",
      { topic: "t", deadLetterTopic: "dead.*" },
      "open.dead_letter_topic",
    ],
    [
      "with a pattern that would receive its own dead letters",
      { topic: "orders.>", deadLetterTopic: "orders.dead" },
      "open.dead_letter_topic",
    ],
    ["with its own dead-letter topic", { topic: "t", deadLetterTopic: "t" }, "open.dead_letter_topic"],
    ["as a broadcast with a group", { topic: "t", broadcast: true, group: "g" }, "open.group"],
    [
      "with a false start",
      { topic: "t", start: { at: { case: "earliest", value: false } } },
      "open.start.earliest",
    ],
    [
      "with an empty position",
      { topic: "t", start: { at: { case: "position", value: "" } } },
      "open.start.position",
    ],
    ["with a nameless route", { topic: "t", routes: [{ name: "", rule: "true" }] }, "open.routes[0].name"],
    [
      "with 65 routes",
      { topic: "t", routes: Array.from({ length: 65 }, (_, i) => ({ name: `r${i}`, rule: "true" })) },
      "open.routes",
    ],
  ])("%s", async (_name, open, field) => {
    const stream = sidecar.stream();
    const refused = await refusalOf(stream.open(open));
    expect(refused).toMatchObject({ subscription: 1, code: 3, reason: "INVALID_REQUEST" });
    expect(refused.message).toContain(field);
    expect(await stream.open({ topic: "fine" })).toMatchObject({ topic: "fine" });
  });

  it("never for credits of zero: they are the default, and said to be so", async () => {
    const agreed = await sidecar.stream().open({ topic: "t", maxInFlight: 0, maxBatch: 0 });
    expect(agreed.maxInFlight).toBe(256);
    expect(agreed.maxBatch).toBeGreaterThan(0);
  });

  it("for a component that does not exist", async () => {
    const refused = await refusalOf(sidecar.stream().open({ topic: "t", component: "nope" }));
    expect(refused).toMatchObject({ code: 5, reason: "COMPONENT_NOT_FOUND" });
  });

  it("for a topic that the scopes forbid", async () => {
    await sidecar.close();
    sidecar = await startSidecar({ settings: { subscriptionScopes: "app=open" } });
    expect(await refusalOf(sidecar.stream().open({ topic: "closed" }))).toMatchObject({
      reason: "TOPIC_FORBIDDEN",
    });
  });

  it("when another stream of the group has it open with other options", async () => {
    await sidecar.stream().open({ topic: "t" });
    const refused = await refusalOf(sidecar.stream().open({ topic: "t", ordered: true }));
    expect(refused).toMatchObject({ code: 9, reason: "SUBSCRIPTION_CONFLICT" });
    expect(refused.message).toContain("ordered");
  });
});

describe("an open in a group that has the topic open on another sidecar", () => {
  it("is refused, with the reason, when it wants another order", async () => {
    let broker: PubSubDriver | undefined;
    const first = await startSidecar({ wrap: (driver) => (broker = driver) });
    const other = await startSidecar({ wrap: () => broker! });
    await first.stream().open({ topic: "t" });
    const refused = await refusalOf(other.stream().open({ topic: "t", ordered: true }));
    expect(refused).toMatchObject({ code: 9, reason: "SUBSCRIPTION_CONFLICT" });
    expect(refused.message).toContain("ordered");
    await other.close();
    await first.close();
  });
});

describe("a message that makes no sense gets a complaint, and nothing else is affected", () => {
  it.each<[string, MessageInitShape<typeof SubscribeRequestSchema>["message"], string]>([
    ["an empty one", undefined, "INVALID_REQUEST"],
    [
      "a second open with the same id",
      { case: "open", value: create(OpenSchema, { subscription: 1, topic: "u" }) },
      "INVALID_REQUEST",
    ],
    ["an open with id 0", { case: "open", value: create(OpenSchema, { topic: "u" }) }, "INVALID_REQUEST"],
    [
      "a settle without an outcome",
      { case: "settle", value: { deliveries: [{ first: 1n }] } },
      "INVALID_REQUEST",
    ],
    ["a settle of nothing", { case: "settle", value: { outcome: Outcome.ACK } }, "INVALID_REQUEST"],
    [
      "a settle of an unknown delivery",
      { case: "settle", value: { outcome: Outcome.ACK, deliveries: [{ first: 99n }] } },
      "UNKNOWN_DELIVERY",
    ],
    [
      "a settle of delivery 0",
      { case: "settle", value: { outcome: Outcome.ACK, deliveries: [{ first: 0n }] } },
      "INVALID_REQUEST",
    ],
    [
      "a range that ends before it begins",
      { case: "settle", value: { outcome: Outcome.ACK, deliveries: [{ first: 9n, last: 3n }] } },
      "INVALID_REQUEST",
    ],
    [
      "a range of all there could be",
      { case: "settle", value: { outcome: Outcome.ACK, deliveries: [{ first: 2n, last: 2n ** 64n - 1n }] } },
      "UNKNOWN_DELIVERY",
    ],
    [
      "1,001 ranges",
      {
        case: "settle",
        value: { outcome: Outcome.ACK, deliveries: Array.from({ length: 1001 }, () => ({ first: 5n })) },
      },
      "INVALID_REQUEST",
    ],
    [
      "a retry with a negative delay",
      { case: "settle", value: { outcome: Outcome.RETRY, deliveries: [{ first: 1n }], delay: ms(-5) } },
      "INVALID_REQUEST",
    ],
    [
      "an over-long reason",
      {
        case: "settle",
        value: { outcome: Outcome.REJECT, deliveries: [{ first: 1n }], reason: "x".repeat(1025) },
      },
      "INVALID_REQUEST",
    ],
    [
      "an extension by a day and a bit",
      { case: "extend", value: { deliveries: [{ first: 1n }], by: ms(86_400_001) } },
      "INVALID_REQUEST",
    ],
    [
      "an extension of an unknown delivery",
      { case: "extend", value: { deliveries: [{ first: 99n }] } },
      "UNKNOWN_DELIVERY",
    ],
    ["a close of what is not open", { case: "close", value: { subscription: 5 } }, "UNKNOWN_SUBSCRIPTION"],
  ])("%s", async (_name, message, reason) => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a");
    const held = await stream.delivery();
    stream.say(message as MessageInitShape<typeof SubscribeRequestSchema>["message"] & object);
    expect(await stream.answer("complaint")).toMatchObject({ reason });
    stream.ack(held);
    await sidecar.publish("t", "b");
    expect(textOf(await stream.delivery())).toBe("b");
  });

  it("a delivery settled twice", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a");
    const held = await stream.delivery();
    stream.ack(held);
    stream.ack(held);
    expect(await stream.answer("complaint")).toMatchObject({ reason: "UNKNOWN_DELIVERY" });
  });
});

describe("a client", () => {
  it("that opens nothing is left alone, and can still open", async () => {
    const stream = sidecar.stream();
    stream.say({ case: "settle", value: { deliveries: [{ first: 1n }], outcome: Outcome.ACK } });
    expect(await stream.answer("complaint")).toMatchObject({ reason: "UNKNOWN_DELIVERY" });
    expect(await stream.open({ topic: "t" })).toMatchObject({ topic: "t" });
  });

  it("that complains without reading is not heard until it reads, and then answered to the last word", async () => {
    const total = 5000;
    let heard = 0;
    async function* nonsense() {
      for (; heard < total; heard++) yield create(SubscribeRequestSchema, {});
    }
    const frames = sidecar.service.subscribe(nonsense(), contextWith()) as AsyncIterable<unknown>;
    await new Promise(setImmediate);
    expect(heard).toBeLessThan(1100);
    let answers = 0;
    for await (const _ of frames) answers += 1;
    expect(answers).toBe(total);
  });

  it("that reads nothing loses its events to others after the deadline, uncounted, and gets some when it reads again", async () => {
    const deaf = sidecar.stream();
    await deaf.open({ topic: "t", settleWithin: ms(100), maxBatch: 1, retry: { initialDelay: ms(0) } });
    await sidecar.publish("t", "a", "b", "c");
    const other = sidecar.stream();
    await other.open({ topic: "t", settleWithin: ms(60_000), retry: { initialDelay: ms(0) } });
    const got = await other.deliveries(3);
    expect(got.map(textOf).sort()).toEqual(["a", "b", "c"]);
    other.ack(...got);
  });

  it("that never settles gets each event again after its deadline, and no more than it may hold", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", settleWithin: ms(100), maxInFlight: 2, retry: { initialDelay: ms(50) } });
    await sidecar.publish("t", "a", "b", "c");
    const seen = await stream.deliveries(8);
    expect(new Set(seen.map(textOf)).size).toBe(3);
    expect(Math.max(...seen.map(({ attempt }) => attempt))).toBeGreaterThan(1);
  });
});
