import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  type DriverSubscription,
  OrderConflict,
  type Received,
  type SubscriptionSpec,
} from "../../src/blocks/pubsub/driver.ts";
import { MemoryBroker } from "../../src/components/memory/broker/broker.ts";
import { MemoryPubSub, memoryPubSub } from "../../src/components/memory/pubsub.ts";
import { event, numbered, outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { pubSubConformance } from "../conformance/pubsub.ts";
import { openContext } from "./open-context.ts";

const hourMs = 3_600_000;
const shared = new MemoryBroker({ ageMs: hourMs, bytes: 64 * 1024 * 1024 });
const openShared = async () => new MemoryPubSub(shared);
pubSubConformance(openShared, { second: openShared });

describe("pubsub.in-memory", () => {
  const call = { signal: new AbortController().signal };
  let driver: MemoryPubSub;

  /** A broker of its own. */
  function start(retention: { ageMs?: number; bytes?: number } = {}): void {
    driver = new MemoryPubSub(new MemoryBroker({ ageMs: hourMs, bytes: 64 * 1024 * 1024, ...retention }));
  }

  async function open(topic: string, spec: Partial<SubscriptionSpec> = {}): Promise<DriverSubscription> {
    const complete: SubscriptionSpec = {
      topic,
      group: "group",
      start: { at: "earliest" },
      ordered: false,
      raw: false,
      ...spec,
    };
    return await driver.open(complete, call);
  }

  async function receive(subscription: DriverSubscription, max = 1000): Promise<readonly Received[]> {
    return await subscription.receive(max, { signal: AbortSignal.timeout(1000) });
  }

  /** Texts of what a new group would get. */
  async function kept(topic: string): Promise<string[]> {
    const group = `kept-${Math.random()}`;
    const subscription = await open(topic, { group });
    const { events } = await subscription.lag!(call);
    return events === 0 ? [] : (await receive(subscription)).map(textOf);
  }

  const done = (subscription: DriverSubscription, received: readonly Received[]) =>
    subscription.settle(
      received.map(({ receipt }) => ({ receipt, kind: "done" })),
      call,
    );

  beforeEach(() => start());
  afterEach(async () => {
    await driver.close();
    vi.useRealTimers();
  });

  describe("as a component", () => {
    it("keeps an hour and 64 MiB unless it is told otherwise", () => {
      expect(memoryPubSub.schema.parse({})).toEqual({
        retentionAge: hourMs,
        retentionBytes: 64 * 1024 * 1024,
      });
      const settings = memoryPubSub.schema.parse({ retentionAge: "90s", retentionBytes: "1Mi" });
      expect(settings).toEqual({ retentionAge: 90_000, retentionBytes: 1024 * 1024 });
    });

    it.each([
      { retentionAge: "0s" },
      { retentionAge: "25h" },
      { retentionAge: "soon" },
      { retentionBytes: "0" },
    ])("refuses what makes no sense: %j", (metadata) => {
      expect(memoryPubSub.schema.safeParse(metadata).success).toBe(false);
    });

    it("is a broker of its own each time that it is opened", async () => {
      const context = openContext();
      const opener = memoryPubSub.configure(memoryPubSub.schema.parse({}));
      const [one, other] = [await opener(context), await opener(context)];
      await one.publish("topic", [outgoing("event")], call);
      const spec: SubscriptionSpec = {
        topic: "topic",
        group: "g",
        start: { at: "earliest" },
        ordered: false,
        raw: false,
      };
      expect((await (await one.open(spec, call)).lag!(call)).events).toBe(1);
      expect((await (await other.open(spec, call)).lag!(call)).events).toBe(0);
      await one.close();
      await other.close();
    });
  });

  describe("keeps", () => {
    it("nothing that every group has settled", async () => {
      const [one, other] = [await open("t", { group: "one" }), await open("t", { group: "other" })];
      await driver.publish("t", numbered(3));
      await done(one, await receive(one));
      expect(await kept("t")).toEqual(["0", "1", "2"]);
      const late = await open("t", { group: "late", start: { at: "latest" } });
      const received = await receive(other);
      await done(other, [received[1]!]);
      expect((await late.lag!(call)).events).toBe(0);
      await done(other, [received[0]!, received[2]!]);
      start();
      const only = await open("t");
      await driver.publish("t", numbered(3));
      const all = await receive(only);
      await done(only, [all[1]!]);
      expect(await kept("t")).toEqual(["0", "2"]);
    });

    it("what only broadcasts have settled, for a group that may come", async () => {
      const broadcast = await open("t", { group: undefined });
      await driver.publish("t", numbered(3));
      await done(broadcast, await receive(broadcast));
      expect(await kept("t")).toEqual(["0", "1", "2"]);
    });

    it("events that no group has to settle for the retention's age, and no longer", async () => {
      vi.useFakeTimers();
      start({ ageMs: 10_000 });
      await driver.publish(
        "t",
        ["old"].map((text) => outgoing(text)),
      );
      await vi.advanceTimersByTimeAsync(6000);
      await driver.publish(
        "t",
        ["new"].map((text) => outgoing(text)),
      );
      await vi.advanceTimersByTimeAsync(4000);
      const broadcast = { group: undefined };
      expect((await receive(await open("t", broadcast))).map(textOf)).toEqual(["new"]);
    });

    it("events that a group has to settle for longer than the age", async () => {
      vi.useFakeTimers();
      start({ ageMs: 10_000 });
      const subscription = await open("t");
      await driver.publish("t", numbered(2));
      await vi.advanceTimersByTimeAsync(100_000);
      expect(await kept("t")).toEqual(["0", "1"]);
      expect((await receive(subscription)).map(textOf)).toEqual(["0", "1"]);
    });

    it("no more than the retention's bytes: the oldest go, settled or not, and the group is told how many", async () => {
      start({ bytes: 100_000 });
      const subscription = await open("t");
      await driver.publish("t", numbered(1000));
      const { events, trimmedUnsettled } = await subscription.lag!(call);
      expect(events).toBeGreaterThan(50);
      expect(events).toBeLessThan(200);
      expect(events + trimmedUnsettled).toBe(1000);
      const received = await receive(subscription);
      expect(received.map(textOf)).toEqual(
        numbered(1000)
          .slice(-events)
          .map(({ event: { data } }) => new TextDecoder().decode(data)),
      );
      await done(subscription, received);
      expect(await subscription.lag!(call)).toEqual({ events: 0, trimmedUnsettled });
    });

    it("the newest event, however large it is", async () => {
      start({ bytes: 1000 });
      await driver.publish("t", [outgoing("x".repeat(5000)), outgoing("y".repeat(5000))]);
      expect((await kept("t")).map((text) => text[0])).toEqual(["y"]);
    });

    it("counts of trimmed events for each group by itself", async () => {
      start({ bytes: 50_000 });
      const [fast, slow] = [await open("t", { group: "fast" }), await open("t", { group: "slow" })];
      const broadcast = await open("t", { group: undefined });
      for (let round = 0; round < 20; round += 1) {
        await driver.publish("t", numbered(20));
        await done(fast, await receive(fast));
        if (round === 1) await broadcast.close();
      }
      expect(await fast.lag!(call)).toEqual({ events: 0, trimmedUnsettled: 0 });
      const { events, trimmedUnsettled } = await slow.lag!(call);
      expect(trimmedUnsettled).toBeGreaterThan(100);
      expect(events + trimmedUnsettled).toBe(400);
    });

    it("what a member holds until it settles it, and loses what it gives back when its place is taken", async () => {
      start({ bytes: 20_000 });
      const subscription = await open("t");
      await driver.publish("t", [outgoing("done"), outgoing("again")]);
      const [first, second] = await receive(subscription);
      await driver.publish("t", numbered(100));
      const before = await subscription.lag!(call);
      await done(subscription, [first!]);
      expect(await subscription.lag!(call)).toEqual({ ...before, events: before.events - 1 });
      await subscription.settle([{ receipt: second!.receipt, kind: "again", delayMs: 0 }], call);
      expect(await subscription.lag!(call)).toEqual({
        events: before.events - 2,
        trimmedUnsettled: before.trimmedUnsettled + 1,
      });
      expect((await receive(subscription)).map(textOf)).not.toContain("again");
    });

    it("the order of a key when the earliest of it were trimmed", async () => {
      start({ bytes: 20_000 });
      const subscription = await open("t", { ordered: true });
      await driver.publish("t", [outgoing("held", { key: "k" })]);
      const held = await receive(subscription);
      await driver.publish("t", [...numbered(200, "", "k"), outgoing("other", { key: "o" })]);
      expect((await receive(subscription)).map(textOf)).toEqual(["other"]);
      await done(subscription, held);
      const { events } = await subscription.lag!(call);
      for (let index = 200 - (events - 1); index < 200; index += 1) {
        const received = await receive(subscription);
        expect(received.map(textOf)).toEqual([`${index}`]);
        await done(subscription, received);
      }
    });

    it("no event that waits for its next attempt when its place is taken", async () => {
      vi.useFakeTimers();
      start({ bytes: 20_000 });
      const subscription = await open("t", { ordered: true });
      await driver.publish("t", [outgoing("waiting", { key: "k" }), outgoing("next", { key: "k" })]);
      const [first] = await receive(subscription);
      await subscription.settle([{ receipt: first!.receipt, kind: "again", delayMs: 5000 }], call);
      await driver.publish("t", numbered(100));
      await vi.advanceTimersByTimeAsync(6000);
      const texts = (await receive(subscription)).map(textOf);
      expect(texts).not.toContain("waiting");
      const { events } = await subscription.lag!(call);
      expect(events).toBe(texts.length);
    });

    it("only the data of an event that waits, not the message that it came in", async () => {
      vi.useFakeTimers();
      const subscription = await open("t");
      const message = new Uint8Array(1024 * 1024);
      const inMessage = { ...event("x"), data: message.subarray(10, 20) };
      await driver.publish("t", [outgoing("", { event: inMessage })]);
      const [first] = await receive(subscription);
      await subscription.settle([{ receipt: first!.receipt, kind: "again", delayMs: 1000 }], call);
      await vi.advanceTimersByTimeAsync(1000);
      const [again] = await receive(subscription);
      expect(again!.event.data).toHaveLength(10);
      expect(again!.event.data.buffer.byteLength).toBeLessThan(1024);
    });
  });

  describe("with delays", () => {
    it("refuses events when more wait for their time than may, as something that may succeed later", async () => {
      start({ bytes: 10_000 });
      const later = Array.from({ length: 100 }, () => outgoing("x", { deliverAtMs: Date.now() + hourMs }));
      const results = await driver.publish("t", [...later, outgoing("now")]);
      const refused = results.filter((result) => result instanceof Error);
      expect(refused.length).toBeGreaterThan(50);
      expect(refused.length).toBeLessThan(100);
      expect(driver.classify(refused[0])).toBe("unavailable");
      expect(await kept("t")).toEqual(["now"]);
    });

    it("takes more when those that waited have entered", async () => {
      vi.useFakeTimers();
      start({ bytes: 1000 });
      for (let round = 0; round < 5; round += 1) {
        const [result] = await driver.publish("t", [outgoing("x", { deliverAtMs: Date.now() + 1000 })]);
        expect(result).toEqual({ position: "" });
        await vi.advanceTimersByTimeAsync(1000);
      }
    });

    it("gives each event at its own moment, and those of one moment in the order in which they were published", async () => {
      vi.useFakeTimers();
      start();
      const subscription = await open("t");
      const nowMs = Date.now();
      const delays: [string, number][] = [
        ["d", 1010],
        ["a", 1000],
        ["b", 1000],
        ["c", 1000],
      ];
      await driver.publish(
        "t",
        delays.map(([text, delayMs]) => outgoing(text, { deliverAtMs: nowMs + delayMs })),
      );
      await vi.advanceTimersByTimeAsync(1000);
      expect((await receive(subscription)).map(textOf)).toEqual(["a", "b", "c"]);
      await vi.advanceTimersByTimeAsync(9);
      expect((await subscription.lag!(call)).events).toBe(3);
      await vi.advanceTimersByTimeAsync(1);
      expect((await receive(subscription)).map(textOf)).toEqual(["d"]);
    });

    it("of years does not come at once", async () => {
      vi.useFakeTimers();
      const dayMs = 24 * hourMs;
      start();
      const subscription = await open("t");
      await driver.publish("t", [outgoing("later", { deliverAtMs: Date.now() + 300 * dayMs })]);
      await vi.advanceTimersByTimeAsync(299 * dayMs);
      expect((await subscription.lag!(call)).events).toBe(0);
      await vi.advanceTimersByTimeAsync(dayMs);
      expect((await receive(subscription)).map(textOf)).toEqual(["later"]);
    });

    it("has one timer, and none after it is closed", async () => {
      vi.useFakeTimers();
      start();
      const subscription = await open("t");
      await driver.publish("t", numbered(100));
      const received = await receive(subscription);
      const settlements = received.map(
        ({ receipt }, index) => ({ receipt, kind: "again", delayMs: 1000 + index }) as const,
      );
      await subscription.settle(settlements, call);
      await driver.publish("t", [outgoing("later", { deliverAtMs: Date.now() + hourMs })]);
      expect(vi.getTimerCount()).toBe(1);
      await driver.close();
      expect(vi.getTimerCount()).toBe(0);
      start();
    });

    it("goes on when somebody uses the broker again", async () => {
      vi.useFakeTimers();
      const broker = new MemoryBroker({ ageMs: hourMs, bytes: 1_000_000 });
      driver = new MemoryPubSub(broker);
      await driver.publish("t", [outgoing("later", { deliverAtMs: Date.now() + 1000 })]);
      await driver.close();
      await vi.advanceTimersByTimeAsync(5000);
      driver = new MemoryPubSub(broker);
      const subscription = await open("t");
      await vi.advanceTimersByTimeAsync(1);
      expect((await receive(subscription)).map(textOf)).toEqual(["later"]);
    });
  });

  describe("in a group", () => {
    it("refuses a member that wants another order than those who are there", async () => {
      await open("t");
      const error: unknown = await open("t", { ordered: true }).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(OrderConflict);
    });

    it("changes the order when nobody is there, and loses nothing by it", async () => {
      vi.useFakeTimers();
      start();
      const unordered = await open("t");
      await driver.publish("t", numbered(6, "", "k"));
      const received = await receive(unordered, 4);
      await done(unordered, [received[1]!]);
      await unordered.settle(
        [
          { receipt: received[0]!.receipt, kind: "again", delayMs: 1000 },
          { receipt: received[2]!.receipt, kind: "again", delayMs: 9000 },
        ],
        call,
      );
      await unordered.close();
      const ordered = await open("t", { ordered: true });
      await vi.advanceTimersByTimeAsync(1000);
      for (const text of ["0", "2", "3"]) {
        const [next, ...more] = await receive(ordered);
        expect([textOf(next!), more]).toEqual([text, []]);
        await done(ordered, [next!]);
      }
      await ordered.close();
      const unorderedAgain = await open("t");
      expect((await receive(unorderedAgain)).map(textOf)).toEqual(["4", "5"]);
      await unorderedAgain.close();
      expect((await receive(await open("t", { ordered: true }))).map(textOf)).toEqual(["4"]);
    });

    it("refuses two receives at once", async () => {
      const subscription = await open("t");
      const waiting = subscription.receive(1, call);
      await expect(subscription.receive(1, call)).rejects.toThrow("another receive");
      await subscription.close();
      expect(await waiting).toEqual([]);
    });

    it("receives nothing after it was closed", async () => {
      const subscription = await open("t");
      await driver.publish("t", numbered(1));
      await subscription.close();
      await subscription.close();
      expect(await subscription.receive(1, call)).toEqual([]);
    });

    it("serves those who wait in turn", async () => {
      const members = [await open("t"), await open("t"), await open("t")];
      const waiting = members.map((member) => member.receive(1, call));
      await driver.publish("t", numbered(3));
      expect((await Promise.all(waiting)).map(([one]) => textOf(one!))).toEqual(["0", "1", "2"]);
    });
  });

  it("takes nothing for broadcasts and topics that were used once", async () => {
    vi.useFakeTimers();
    start({ ageMs: 1000 });
    const pattern = await open("once.*", { group: "pattern" });
    for (let index = 0; index < 100; index += 1) {
      const broadcast = await open(`once.${index}`, { group: undefined, start: { at: "latest" } });
      await driver.publish(`once.${index}`, numbered(1));
      await broadcast.close();
    }
    await done(pattern, await receive(pattern));
    await vi.advanceTimersByTimeAsync(2000);
    expect(vi.getTimerCount()).toBe(0);
    await driver.publish("once.7", numbered(2));
    expect((await receive(pattern)).map(textOf)).toEqual(["0", "1"]);
  });
});
