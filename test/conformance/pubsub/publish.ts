import { create, equals } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { type Event, EventSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { event, numbered, outgoing, type PubSubFixture, textOf } from "./fixture.ts";

/** What is published arrives as it was. */
export function publishConformance(pubsub: PubSubFixture): void {
  describe("publish", () => {
    const roundTrip = async (sent: Event): Promise<Event> => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, [outgoing("", { event: sent })]);
      return (await pubsub.take(subscription, 1))[0]!.event;
    };

    it("gives one result for each event, in order", async () => {
      const topic = pubsub.topic();
      const results = await pubsub.publish(topic, numbered(100));
      expect(results).toHaveLength(100);
      if (!pubsub.driver.supports.positions) return;
      const after41 = await pubsub.open(topic, {
        start: { at: "position", position: results[41]!.position },
      });
      expect((await pubsub.takeTexts(after41, 58))[0]).toBe("42");
    });

    it("appends in the order of the calls, also when the earlier ones have not been answered", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: pubsub.driver.supports.ordering });
      const batches = Array.from({ length: 100 }, (_, call) => numbered(1 + (call % 3), `${call}.`, "key"));
      await Promise.all(batches.map((batch) => pubsub.publish(topic, batch)));
      const received: string[] = [];
      const expected = batches.flatMap((batch) => batch.map(({ event }) => textOf({ event })));
      while (received.length < expected.length) received.push(...(await pubsub.consume(subscription, 1)));
      expect(received).toEqual(expected);
    });

    it("gives an empty position when it has no positions", async (context) => {
      pubsub.lacks(context, "positions");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      expect((await pubsub.publish(topic, ["event"]))[0]!.position).toBe("");
      expect((await pubsub.take(subscription, 1))[0]!.position).toBe("");
    });

    it("gives every event another position, the same as when it is received", async (context) => {
      pubsub.needs(context, "positions");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const published = (await pubsub.publish(topic, numbered(20))).map(({ position }) => position);
      expect(new Set(published).size).toBe(20);
      expect(published).not.toContain("");
      expect((await pubsub.take(subscription, 20)).map(({ position }) => position)).toEqual(published);
    });

    it("keeps every attribute and extension of an event", async () => {
      const sent = create(EventSchema, {
        id: "id with spaces and ümläuts",
        source: "https://example.com/orders?from=here#there",
        type: "com.example.order.paid",
        subject: "orders/42 \u{1f680}",
        time: { seconds: 1_700_000_000n, nanos: 123_456_789 },
        dataContentType: "application/json; charset=utf-8",
        dataSchema: "https://example.com/schema",
        data: new TextEncoder().encode('{"amount":100}'),
        extensions: {
          traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
          empty: "",
          lines: "a\nb\té",
        },
      });
      const received = await roundTrip(sent);
      expect(received.time).toMatchObject({ seconds: 1_700_000_000n, nanos: 123_456_789 });
      expect(received.extensions).toEqual(sent.extensions);
      expect(equals(EventSchema, received, sent)).toBe(true);
    });

    it("leaves attributes empty that the event has not", async () => {
      const sent = create(EventSchema, { id: "1", source: "s", type: "t" });
      expect(equals(EventSchema, await roundTrip(sent), sent)).toBe(true);
    });

    it.each([
      ["no bytes", new Uint8Array()],
      ["every byte", Uint8Array.from({ length: 256 }, (_, index) => index)],
      ["1 MiB", Uint8Array.from({ length: 1024 * 1024 }, (_, index) => (index * 31) % 251)],
    ])("keeps the data of an event: %s", async (_name, data) => {
      const sent = create(EventSchema, { id: "1", source: "s", type: "t", data });
      expect(Buffer.compare((await roundTrip(sent)).data, data)).toBe(0);
    });

    it("keeps key and headers, which are no attributes of the event", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const headers = {
        "X-Header": "Value",
        "with space": "ü\u{1f680}",
        empty: "",
        constructor: "a word with a meaning",
      };
      await pubsub.publish(topic, [
        outgoing("with", { key: "key/ü \u{1f511}", headers }),
        outgoing("without"),
      ]);
      const received = await pubsub.take(subscription, 2);
      const [first, second] = textOf(received[0]!) === "with" ? received : received.toReversed();
      expect(first).toMatchObject({ key: "key/ü \u{1f511}", headers });
      expect(first!.event.extensions).toEqual({});
      expect(second).toMatchObject({ key: "", headers: {} });
    });

    it("says to which topic an event was published, and when", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const beforeMs = Date.now();
      await pubsub.publish(topic, ["event"]);
      const [received] = await pubsub.take(subscription, 1);
      expect(received!.topic).toBe(topic);
      // A broker's own clock may be a little off ours.
      expect(received!.publishedAtMs).toBeGreaterThanOrEqual(beforeMs - 1000);
      expect(received!.publishedAtMs).toBeLessThanOrEqual(Date.now() + 1000);
    });

    it("gives only the data of a raw event, to those who look for an envelope and those who do not", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      const looking = await pubsub.open(topic);
      const raw = await pubsub.open(topic, { raw: true });
      await pubsub.publish(topic, [outgoing("plain bytes", { raw: true, headers: { header: "kept" } })]);
      for (const subscription of [looking, raw]) {
        const [received] = await pubsub.take(subscription, 1);
        const expected = create(EventSchema, { data: event("plain bytes").data });
        expect(equals(EventSchema, received!.event, expected)).toBe(true);
        expect(received!.headers).toMatchObject({ header: "kept" });
      }
    });

    it("gives an event with an envelope to a raw subscription without attributes", async () => {
      const topic = pubsub.topic();
      const raw = await pubsub.open(topic, { raw: true });
      await pubsub.publish(topic, ["enveloped"]);
      const [received] = await pubsub.take(raw, 1);
      expect(received!.event).toMatchObject({ id: "", source: "", type: "", extensions: {} });
      expect(textOf(received!)).toContain("enveloped");
    });

    it("says when an event expires, and leaves it to the engine what becomes of an expired one", async () => {
      const topic = pubsub.topic();
      await pubsub.publish(topic, [
        outgoing("short", { timeToLiveMs: 1 }),
        outgoing("long", { timeToLiveMs: 60_000 }),
        "none",
      ]);
      await clockPasses(Date.now() + 1);
      const received = await pubsub.take(await pubsub.open(topic), 3);
      const left = new Map(
        received.map((one) => [textOf(one), one.expiresAtMs && one.expiresAtMs - one.publishedAtMs]),
      );
      expect(left).toEqual(
        new Map<string, number | undefined>([
          ["short", 1],
          ["long", 60_000],
          ["none", undefined],
        ]),
      );
    });

    it("takes topics and keys of any characters, and tells alike ones apart", async () => {
      const base = pubsub.topic("Straße.日本 \u{1f680}");
      const alike = [
        base,
        base.toLowerCase(),
        `${base}%`,
        `${base}_`,
        `${base} `,
        `${base}.`,
        `${base}'"\\`,
        `${base}e\u0301`,
        `${base}é`,
      ];
      const subscriptions = await Promise.all(alike.map((topic) => pubsub.open(topic)));
      for (const [index, topic] of alike.entries()) {
        await pubsub.publish(topic, [outgoing(`${index}`, { key: topic })]);
      }
      for (const [index, subscription] of subscriptions.entries()) {
        const [received] = await pubsub.take(subscription, 1);
        expect(received).toMatchObject({ topic: alike[index], key: alike[index] });
        expect(textOf(received!)).toBe(`${index}`);
      }
      const more = await Promise.all(subscriptions.map((subscription) => pubsub.rest(subscription)));
      expect(more.flat()).toEqual([]);
    });

    it("takes a topic of 249 bytes, a key of 1,024 and a group of 256", async () => {
      const topic = pubsub.topic().padEnd(249, "t");
      const key = "ü".repeat(512);
      const subscription = await pubsub.open(topic, { group: pubsub.group().padEnd(256, "g") });
      await pubsub.publish(topic, [outgoing("event", { key })]);
      expect((await pubsub.take(subscription, 1))[0]).toMatchObject({ topic, key });
    });

    it("keeps topics apart", async () => {
      const [one, other] = [pubsub.topic(), pubsub.topic()];
      const subscriptions = [await pubsub.open(one), await pubsub.open(other)];
      await pubsub.publish(one, ["one"]);
      await pubsub.publish(other, ["other"]);
      expect(await pubsub.takeTexts(subscriptions[0]!, 1)).toEqual(["one"]);
      expect(await pubsub.takeTexts(subscriptions[1]!, 1)).toEqual(["other"]);
      expect(await pubsub.rest(subscriptions[0]!)).toEqual([]);
    });

    it("reaches subscribers from another driver on the broker", async (context) => {
      const second = pubsub.second(context);
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const waiting = subscription.receive(1, pubsub.call());
      await pubsub.publish(topic, ["from there"], second);
      expect((await waiting).map(textOf)).toEqual(["from there"]);
    });
  });
}

/** Resolves when the wall clock has passed a time, in milliseconds since 1970. */
async function clockPasses(timeMs: number): Promise<void> {
  await expect.poll(() => Date.now(), { interval: 1 }).toBeGreaterThan(timeMs);
}
