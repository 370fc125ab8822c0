import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Outcome } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import { changedDriver, changedSubscription } from "./changed-driver.ts";
import { refusalOf, type Sidecar, startSidecar, textOf } from "./sidecar.ts";

let sidecar: Sidecar;
beforeEach(async () => {
  sidecar = await startSidecar();
});
afterEach(() => sidecar.close());

describe("a subscription", () => {
  it("is opened with what was agreed, defaults filled in", async () => {
    const agreed = await sidecar.stream().open({ topic: "orders" });
    expect(agreed).toMatchObject({
      subscription: 1,
      component: "pubsub",
      topic: "orders",
      group: "app",
      maxInFlight: 256,
      maxBatch: 64,
      settleWithin: { seconds: 60n },
      start: { at: { case: "earliest", value: true } },
      retry: { maxAttempts: 0, initialDelay: { seconds: 1n }, maxDelay: { seconds: 60n } },
    });
  });

  it("delivers large events up to max_in_flight, although none is settled", async () => {
    await sidecar.close();
    sidecar = await startSidecar({ wrap: inParts });
    const stream = sidecar.stream();
    await stream.open({ topic: "orders", maxInFlight: 12 });
    for (let n = 0; n < 12; n++)
      await sidecar.send("orders", { event: { data: new Uint8Array(1 << 20).fill(n) } });
    const deliveries = await stream.deliveries(12);
    expect(deliveries.map(({ event }) => event!.data[0])).toEqual(Array.from({ length: 12 }, (_, n) => n));
  });

  it("delivers an event with every attribute, and what the broker knows", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "orders" });
    await sidecar.send("orders", {
      event: {
        id: "1",
        source: "/shop",
        type: "order.paid",
        subject: "o-1",
        dataContentType: "application/json",
        dataSchema: "urn:x",
        data: new TextEncoder().encode("{}"),
        extensions: { tenant: "blue" },
      },
      key: "o-1",
      headers: { "x-h": "1" },
    });
    const delivery = await stream.delivery();
    expect(delivery).toMatchObject({
      id: 1n,
      subscription: 1,
      topic: "orders",
      attempt: 1,
      key: "o-1",
      route: "",
      headers: { "x-h": "1" },
      event: {
        id: "1",
        source: "/shop",
        type: "order.paid",
        subject: "o-1",
        dataContentType: "application/json",
        dataSchema: "urn:x",
        extensions: { tenant: "blue" },
      },
    });
    expect(delivery.position).not.toBe("");
    expect(Number(delivery.deadline!.seconds)).toBeGreaterThan(Date.now() / 1000 + 50);
    expect(Math.abs(Number(delivery.publishedAt!.seconds) - Date.now() / 1000)).toBeLessThan(10);
  });

  it("delivers what was published before it was opened", async () => {
    await sidecar.publish("orders", "early");
    const stream = sidecar.stream();
    await stream.open({ topic: "orders" });
    expect(textOf(await stream.delivery())).toBe("early");
  });

  it("never holds more than max_in_flight deliveries, and takes more as they are settled", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", maxInFlight: 3, maxBatch: 100 });
    await sidecar.publish("t", ..."abcdefg");
    const first = await stream.deliveries(3);
    expect(await stream.quiet(sidecar)).toBe(true);
    stream.ack(first[1]!);
    expect(textOf(await stream.delivery())).toBe("d");
    expect(await stream.quiet(sidecar)).toBe(true);
  });

  it("never puts more than max_batch deliveries into one frame", async () => {
    await sidecar.publish("t", ..."abcdefg");
    const stream = sidecar.stream();
    await stream.open({ topic: "t", maxBatch: 2 });
    const sizes: number[] = [];
    for (let count = 0; count < 7; count += sizes.at(-1)!) sizes.push((await stream.frame()).length);
    expect(Math.max(...sizes)).toBe(2);
  });

  it("puts several deliveries into one frame when they are there", async () => {
    await sidecar.publish("t", ..."abcdefg");
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    expect(await stream.frame()).toHaveLength(7);
  });

  it("shares a stream with others, each opened and closed on its own", async () => {
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic: "a" });
    await stream.open({ subscription: 2, topic: "b" });
    await sidecar.publish("b", "to b");
    const toB = await stream.delivery();
    expect(toB.subscription).toBe(2);
    stream.say({ case: "close", value: { subscription: 2 } });
    stream.ack(toB);
    expect(await stream.answer("closed")).toMatchObject({ subscription: 2, code: 0, reason: "" });
    await sidecar.publish("b", "kept");
    await sidecar.publish("a", "to a");
    expect(textOf(await stream.delivery())).toBe("to a");
    await stream.open({ subscription: 2, topic: "b" });
    expect(textOf(await stream.delivery())).toBe("kept");
  });

  it("is closed only when what it holds has been settled", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a", "b");
    const held = await stream.deliveries(2);
    stream.say({ case: "close", value: { subscription: 1 } });
    stream.ack(held[0]!);
    await stream.open({ subscription: 2, topic: "other" });
    stream.ack(held[1]!);
    expect(await stream.answer("closed")).toMatchObject({ subscription: 1, code: 0 });
  });

  it("competes with the other streams of its group, and no event goes to two of them", async () => {
    const streams = [sidecar.stream(), sidecar.stream()];
    for (const stream of streams) await stream.open({ topic: "t", maxInFlight: 5 });
    await sidecar.publish("t", ..."abcdefghij");
    const [one, two] = await Promise.all(streams.map((stream) => stream.deliveries(5)));
    expect([...one!, ...two!].map(textOf).sort()).toEqual([..."abcdefghij"]);
  });

  it("gives every group every event", async () => {
    const streams = [sidecar.stream(), sidecar.stream()];
    await streams[0]!.open({ topic: "t", group: "one" });
    await streams[1]!.open({ topic: "t", group: "two" });
    await sidecar.publish("t", "a");
    expect(await Promise.all(streams.map(async (stream) => textOf(await stream.delivery())))).toEqual([
      "a",
      "a",
    ]);
  });

  it("as a broadcast gets every event from now on, beside all others", async () => {
    await sidecar.publish("t", "before");
    const streams = [sidecar.stream(), sidecar.stream()];
    for (const stream of streams) await stream.open({ topic: "t", broadcast: true });
    await sidecar.publish("t", "after");
    expect(await Promise.all(streams.map(async (stream) => textOf(await stream.delivery())))).toEqual([
      "after",
      "after",
    ]);
  });

  it("starts where it is told to", async () => {
    const [, second] = await Promise.all([sidecar.publish("t", "a"), sidecar.publish("t", "b")]);
    expect(second).toHaveLength(1);
    const looking = sidecar.stream();
    await looking.open({ topic: "t", group: "look" });
    const [a] = await looking.deliveries(2);
    const stream = sidecar.stream();
    await stream.open({ topic: "t", group: "from", start: { at: { case: "position", value: a!.position } } });
    expect(textOf(await stream.delivery())).toBe("b");
  });

  it("with order has one delivery of a key at a time, and keys in parallel", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", ordered: true });
    for (const [key, text] of [
      ["k", "k1"],
      ["k", "k2"],
      ["l", "l1"],
    ] as const) {
      await sidecar.send("t", { key, event: { data: new TextEncoder().encode(text) } });
    }
    const held = await stream.deliveries(2);
    expect(held.map(textOf)).toEqual(["k1", "l1"]);
    stream.ack(held[0]!);
    expect(textOf(await stream.delivery())).toBe("k2");
  });

  it("in raw mode delivers the bytes without an envelope", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", raw: true });
    await sidecar.send("t", { raw: true, event: { data: new Uint8Array([1, 2, 3]) } });
    expect((await stream.delivery()).event).toMatchObject({
      id: "",
      type: "",
      data: new Uint8Array([1, 2, 3]),
    });
  });
});

describe("routes", () => {
  const routes = [
    { name: "paid", rule: 'event.type == "order.paid"' },
    { name: "orders", rule: 'event.type.startsWith("order.")' },
  ];

  it("name a delivery by the first rule that is true", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", routes, defaultRoute: "rest" });
    for (const type of ["order.paid", "order.made", "other"]) await sidecar.send("t", { event: { type } });
    expect((await stream.deliveries(3)).map(({ route }) => route)).toEqual(["paid", "orders", "rest"]);
  });

  it("without a default pass over what no rule matches, and settle it", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", routes });
    await sidecar.send("t", { event: { type: "other" } });
    await sidecar.send("t", { event: { type: "order.made" } });
    const delivery = await stream.delivery();
    expect(delivery.event!.type).toBe("order.made");
    stream.ack(delivery);
    await expect.poll(async () => (await [...sidecar.bus.subscriptions][0]!.lag())?.events).toBe(0);
  });

  it("that do not compile are refused when the stream opens, each by its field", async () => {
    const refused = await refusalOf(
      sidecar.stream().open({ topic: "t", routes: [routes[0]!, { name: "bad", rule: "event.type ==" }] }),
    );
    expect(refused).toMatchObject({ reason: "INVALID_REQUEST" });
    expect(refused.message).toContain("open.routes[1].rule");
  });
});

describe("a declared subscription", () => {
  const declared = {
    name: "orders-sub",
    component: "pubsub",
    topic: "orders",
    routes: [{ name: "/paid", rule: 'event.type == "order.paid"' }],
    defaultRoute: "/orders",
    deadLetterTopic: "dead",
    raw: false,
  };

  it("gives a stream that names it its topic, routes and dead-letter topic", async () => {
    const other = await startSidecar({ declared: [declared] });
    const stream = other.stream();
    expect(await stream.open({ declared: "orders-sub" })).toMatchObject({
      topic: "orders",
      deadLetterTopic: "dead",
    });
    await other.send("orders", { event: { type: "order.paid" } });
    await other.send("orders", { event: { type: "x" } });
    expect((await stream.deliveries(2)).map(({ route }) => route)).toEqual(["/paid", "/orders"]);
    await other.close();
  });

  it("that does not exist is refused, with the names of those that do", async () => {
    const other = await startSidecar({ declared: [declared] });
    const refused = await refusalOf(other.stream().open({ declared: "nope" }));
    expect(refused).toMatchObject({ reason: "UNKNOWN_SUBSCRIPTION" });
    expect(refused.message).toContain("orders-sub");
    await other.close();
  });
});

describe("redrive", () => {
  it("delivers an event to the group it is for, and others pass it over", async () => {
    const streams = [sidecar.stream(), sidecar.stream()];
    await streams[0]!.open({ topic: "t", group: "one" });
    await streams[1]!.open({ topic: "t", group: "two" });
    await sidecar.send("t", { event: { id: "again", extensions: { redrivegroup: "two" } } });
    await sidecar.send("t", { event: { id: "for all" } });
    expect((await streams[1]!.deliveries(2)).map(({ event }) => event!.id)).toEqual(["again", "for all"]);
    expect((await streams[0]!.delivery()).event!.id).toBe("for all");
  });
});

it("answers settlements that name nothing with a complaint, and goes on", async () => {
  const stream = sidecar.stream();
  await stream.open({ topic: "t" });
  stream.say({ case: "settle", value: { deliveries: [{ first: 7n }], outcome: Outcome.ACK } });
  expect(await stream.answer("complaint")).toMatchObject({ reason: "UNKNOWN_DELIVERY" });
  await sidecar.publish("t", "a");
  expect(textOf(await stream.delivery())).toBe("a");
});

/** A broker that gives large events few at a time, as those do that have them elsewhere. */
function inParts(driver: PubSubDriver): PubSubDriver {
  return changedDriver(driver, {
    open: async (spec, call) => {
      const opened = await driver.open(spec, call);
      return changedSubscription(opened, {
        receive: (max, receiving) => opened.receive(Math.min(max, 5), receiving),
      });
    },
  });
}
