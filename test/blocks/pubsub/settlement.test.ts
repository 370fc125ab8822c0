import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Outcome } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { changedDriver } from "./changed-driver.ts";
import { type Sidecar, startSidecar, textOf } from "./sidecar.ts";

let sidecar: Sidecar;
beforeEach(async () => {
  sidecar = await startSidecar();
});
afterEach(() => sidecar.close());

const ms = (value: number) => ({ seconds: BigInt(Math.floor(value / 1000)), nanos: (value % 1000) * 1e6 });
const lag = async () => (await [...sidecar.bus.subscriptions][0]!.lag())?.events;

describe("ACK", () => {
  it("settles for good", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a");
    stream.ack(await stream.delivery());
    await expect.poll(lag).toBe(0);
    await stream.vanish();
    const next = sidecar.stream();
    await next.open({ topic: "t" });
    expect(await next.quiet(sidecar)).toBe(true);
  });

  it("may be cumulative, over all subscriptions of the stream", async () => {
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic: "a" });
    await stream.open({ subscription: 2, topic: "b" });
    await sidecar.publish("a", "1", "2");
    await sidecar.publish("b", "3");
    const all = await stream.deliveries(3);
    stream.say({
      case: "settle",
      value: { deliveries: [{ first: 1n, last: all[2]!.id }], outcome: Outcome.ACK },
    });
    stream.halfClose();
    await stream.end();
    const next = sidecar.stream();
    await next.open({ subscription: 1, topic: "a" });
    await next.open({ subscription: 2, topic: "b" });
    expect(await next.quiet(sidecar)).toBe(true);
  });
});

describe("RETRY", () => {
  it("delivers again with the next attempt and another id, not before its delay", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a");
    const first = await stream.delivery();
    const settledAt = Date.now();
    stream.settle(Outcome.RETRY, [first], { delayMs: 120 });
    const second = await stream.delivery();
    expect(Date.now() - settledAt).toBeGreaterThanOrEqual(115);
    expect([second.attempt, second.id, second.event!.id]).toEqual([2, 2n, first.event!.id]);
  });

  it("backs off by the subscription's policy when it names no delay", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", retry: { initialDelay: ms(40), maxDelay: ms(60) } });
    await sidecar.publish("t", "a");
    const times: number[] = [];
    for (let attempt = 1; attempt <= 3; attempt++) {
      const delivery = await stream.delivery();
      times.push(performance.now());
      stream.settle(Outcome.RETRY, [delivery]);
    }
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(38);
    expect(times[2]! - times[1]!).toBeGreaterThanOrEqual(58);
  });

  it("of one event does not hold up another", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", maxInFlight: 1, ordered: true });
    await sidecar.send("t", { key: "k", event: { id: "1" } });
    await sidecar.send("t", { key: "k", event: { id: "2" } });
    await sidecar.send("t", { key: "l", event: { id: "3" } });
    const seen: string[] = [];
    const first = await stream.delivery();
    stream.settle(Outcome.RETRY, [first], { delayMs: 150 });
    while (seen.length < 3) {
      const delivery = await stream.delivery();
      seen.push(delivery.event!.id);
      stream.ack(delivery);
    }
    expect(seen).toEqual(["3", "1", "2"]);
  });

  it("past the last attempt goes to the dead-letter topic", async () => {
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic: "t", retry: { maxAttempts: 2 }, deadLetterTopic: "dead" });
    await stream.open({ subscription: 2, topic: "dead" });
    await sidecar.publish("t", "a");
    for (let attempt = 1; attempt <= 2; attempt++)
      stream.settle(Outcome.RETRY, [await stream.delivery()], { delayMs: 0, reason: "no" });
    const letter = await stream.delivery();
    expect(letter).toMatchObject({
      subscription: 2,
      event: {
        extensions: { deadletterreason: "attempts", deadletterattempts: "2", deadletterdetail: "no" },
      },
    });
  });
});

describe("REJECT", () => {
  it("sends the event to the dead-letter topic with why, when, how often and where from", async () => {
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic: "t", deadLetterTopic: "dead" });
    await stream.open({ subscription: 2, topic: "dead" });
    const [id] = await sidecar.publish("t", "a");
    stream.settle(Outcome.REJECT, [await stream.delivery()], { reason: "poison" });
    const letter = await stream.delivery();
    expect(letter.event).toMatchObject({
      id,
      extensions: {
        deadletterreason: "rejected",
        deadletterdetail: "poison",
        deadletterattempts: "1",
        deadlettertopic: "t",
        deadlettergroup: "app",
      },
    });
    expect(Date.parse(letter.event!.extensions["deadlettertime"]!)).toBeGreaterThan(Date.now() - 10_000);
    expect(textOf(letter)).toBe("a");
    await expect
      .poll(
        async () =>
          (await [...sidecar.bus.subscriptions].find(({ options }) => options.topic === "t")!.lag())?.events,
      )
      .toBe(0);
  });

  it("drops the event and counts it when there is no dead-letter topic", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a");
    stream.settle(Outcome.REJECT, [await stream.delivery()]);
    await expect.poll(lag).toBe(0);
    expect(await sidecar.telemetry.metrics.text()).toMatch(
      /outrider_pubsub_deliveries_total\{[^}]*outcome="dropped"\} 1/,
    );
  });

  it("is not settled before its dead letter is published", async () => {
    await sidecar.close();
    let fail = true;
    sidecar = await startSidecar({
      wrap: (driver) =>
        changedDriver(driver, {
          publish: (topic, events, call) =>
            topic === "dead" && fail
              ? Promise.reject(new Error("away"))
              : driver.publish(topic, events, call),
        }),
    });
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic: "t", deadLetterTopic: "dead" });
    await stream.open({ subscription: 2, topic: "dead" });
    await sidecar.publish("t", "a");
    stream.settle(Outcome.REJECT, [await stream.delivery()]);
    expect(await stream.quiet(sidecar)).toBe(true);
    const behind = [...sidecar.bus.subscriptions].find(({ options }) => options.topic === "t")!;
    expect((await behind.lag())?.events).toBe(1);
    fail = false;
    expect((await stream.delivery()).subscription).toBe(2);
    await expect.poll(async () => (await behind.lag())?.events).toBe(0);
  });
});

describe("a deadline", () => {
  it("that passes counts as a retry, and a late settlement is told and harmless", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", settleWithin: ms(100), retry: { initialDelay: ms(0) } });
    await sidecar.publish("t", "a");
    const first = await stream.delivery();
    const second = await stream.delivery();
    expect([second.attempt, second.event!.id]).toEqual([2, first.event!.id]);
    stream.ack(first);
    expect(await stream.answer("complaint")).toMatchObject({ reason: "UNKNOWN_DELIVERY" });
    stream.ack(second);
    await expect.poll(lag).toBe(0);
  });

  it("is moved by extend", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", settleWithin: ms(150), retry: { initialDelay: ms(0) } });
    await sidecar.publish("t", "a", "b");
    const [kept, left] = await stream.deliveries(2);
    stream.say({ case: "extend", value: { deliveries: [{ first: kept!.id }], by: ms(60_000) } });
    const again = await stream.delivery();
    expect(again.event!.id).toBe(left!.event!.id);
    stream.ack(again, kept!);
    await expect.poll(lag).toBe(0);
  });
});

describe("time to live", () => {
  it("past, sends an event to the dead-letter topic instead of delivering it", async () => {
    await sidecar.send("t", { event: { id: "late" }, timeToLive: ms(1) });
    await expect.poll(() => Date.now()).toBeGreaterThan(Date.now() + 5);
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic: "t", deadLetterTopic: "dead" });
    await stream.open({ subscription: 2, topic: "dead" });
    expect((await stream.delivery()).event).toMatchObject({
      id: "late",
      extensions: { deadletterreason: "expired" },
    });
  });
});

describe("a stream that ends", () => {
  it("by vanishing gives what it held to another stream of the group at once", async () => {
    const [one, two] = [sidecar.stream(), sidecar.stream()];
    await one.open({ topic: "t" });
    await sidecar.publish("t", "a", "b");
    const held = await one.deliveries(2);
    one.ack(held[0]!);
    await two.open({ topic: "t" });
    await one.vanish();
    const again = await two.delivery();
    expect([textOf(again), again.attempt]).toEqual(["b", 2]);
  });

  it("by vanishing keeps what it held for the next one that opens", async () => {
    const one = sidecar.stream();
    await one.open({ topic: "t" });
    await sidecar.publish("t", "a");
    await one.delivery();
    await one.vanish();
    const two = sidecar.stream();
    await two.open({ topic: "t" });
    expect(textOf(await two.delivery())).toBe("a");
  });

  it("by half-closing gives what it has not settled to another stream of the group at once", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a", "b");
    const [settled] = await stream.deliveries(2);
    const other = sidecar.stream();
    await other.open({ topic: "t" });
    stream.ack(settled!);
    stream.halfClose();
    await stream.end();
    const again = await other.delivery();
    expect([textOf(again), again.attempt]).toEqual(["b", 2]);
  });

  it("in peace, by Close, may settle what it holds, and gets nothing new", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a");
    const held = await stream.delivery();
    const other = sidecar.stream();
    await other.open({ topic: "t" });
    stream.say({ case: "close", value: { subscription: 1 } });
    stream.ack(held);
    await stream.answer("closed");
    stream.halfClose();
    await stream.end();
    await sidecar.publish("t", "b");
    expect(textOf(await other.delivery())).toBe("b");
  });

  it("with a worn-out event sends it to the dead-letter topic the next time", async () => {
    const one = sidecar.stream();
    await one.open({ topic: "t", retry: { maxAttempts: 1 }, deadLetterTopic: "dead" });
    await sidecar.publish("t", "crasher");
    await one.delivery();
    await one.vanish();
    const two = sidecar.stream();
    await two.open({ subscription: 1, topic: "t", retry: { maxAttempts: 1 }, deadLetterTopic: "dead" });
    await two.open({ subscription: 2, topic: "dead" });
    expect((await two.delivery()).event!.extensions["deadletterreason"]).toBe("attempts");
  });
});

describe("a sidecar that goes away", () => {
  it("tells its streams, delivers nothing new, lets them settle, and ends them", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a");
    const held = await stream.delivery();
    sidecar.streams.drain(Date.now() + 5000);
    expect((await stream.answer("drain")).deadline).toBeDefined();
    await sidecar.publish("t", "b");
    stream.ack(held);
    await stream.end();
    expect(textOf(held)).toBe("a");
  });

  it("gives back what is not settled in time, uncounted", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    await sidecar.publish("t", "a");
    await stream.delivery();
    for (const session of sidecar.streams) session.giveBack();
    await expect(stream.end()).rejects.toMatchObject({ rawMessage: "the sidecar is going away" });
    const next = sidecar.stream();
    await next.open({ topic: "t" });
    expect((await next.delivery()).attempt).toBe(1);
  });

  it("refuses new streams", async () => {
    sidecar.streams.drain(Date.now());
    expect(() => sidecar.stream()).toThrow("the sidecar is going away");
  });
});
