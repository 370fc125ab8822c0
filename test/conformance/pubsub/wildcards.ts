import { describe, expect, it } from "vitest";
import { numbered, outgoing, type PubSubFixture, textOf } from "./fixture.ts";

/** Subscriptions to patterns of topics. */
export function wildcardConformance(pubsub: PubSubFixture): void {
  describe("wildcards", () => {
    it("take one part with `*`", async (context) => {
      pubsub.needs(context, "wildcards");
      const root = pubsub.topic("root");
      const topics = [
        `${root}.a.end`,
        `${root}.b.end`,
        `${root}.a`,
        `${root}.a.b.end`,
        `${root}.a.ending`,
        `x${root}.a.end`,
      ];
      const subscription = await pubsub.open(`${root}.*.end`);
      for (const topic of topics) await pubsub.publish(topic, [topic]);
      // No broker promises an order across topics.
      const received = (await pubsub.take(subscription, 2)).toSorted((x, y) => (x.topic < y.topic ? -1 : 1));
      expect(received.map(({ topic }) => topic)).toEqual([`${root}.a.end`, `${root}.b.end`]);
      expect(received.map(textOf)).toEqual([`${root}.a.end`, `${root}.b.end`]);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("take one part or more with `>` at the end", async (context) => {
      pubsub.needs(context, "wildcards");
      const root = pubsub.topic("root");
      const subscription = await pubsub.open(`${root}.>`);
      for (const topic of [root, `${root}.a`, `${root}.a.b.c`, `${root}x.a`])
        await pubsub.publish(topic, [topic]);
      expect((await pubsub.takeTexts(subscription, 2)).sort()).toEqual([`${root}.a`, `${root}.a.b.c`]);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("find topics that were there before, and those that come later", async (context) => {
      pubsub.needs(context, "wildcards");
      const root = pubsub.topic("root");
      await pubsub.publish(`${root}.old`, ["before"]);
      const subscription = await pubsub.open(`${root}.*`);
      await pubsub.publish(`${root}.old`, ["after"]);
      await pubsub.publish(`${root}.new`, ["new"]);
      const texts = await pubsub.consume(subscription, 3);
      expect(texts.filter((text) => text !== "new")).toEqual(["before", "after"]);
      expect(texts).toContain("new");
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("begin where they are told to", async (context) => {
      pubsub.needs(context, "wildcards");
      const root = pubsub.topic("root");
      await pubsub.publish(`${root}.a`, ["before"]);
      const subscription = await pubsub.open(`${root}.*`, { start: { at: "latest" } });
      await pubsub.publish(`${root}.a`, ["after"]);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["after"]);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("are a group like any other: kept while away, shared by members, without duplicates", async (context) => {
      pubsub.needs(context, "wildcards");
      const [root, group] = [pubsub.topic("root"), pubsub.group()];
      const first = await pubsub.open(`${root}.*`, { group });
      await pubsub.publish(`${root}.a`, ["held"]);
      await pubsub.take(first, 1);
      await pubsub.closeSubscription(first);
      await pubsub.publish(`${root}.b`, ["while away"]);
      const members = [await pubsub.open(`${root}.*`, { group }), await pubsub.open(`${root}.*`, { group })];
      const texts = [...(await pubsub.consume(members[0]!, 1)), ...(await pubsub.consume(members[1]!, 1))];
      expect(texts.sort()).toEqual(["held", "while away"]);
      for (const member of members) expect(await pubsub.rest(member)).toEqual([]);
    });

    it("are another group than one of the same name on a single topic", async (context) => {
      pubsub.needs(context, "wildcards");
      const [root, group] = [pubsub.topic("root"), pubsub.group()];
      const subscriptions = [
        await pubsub.open(`${root}.*`, { group }),
        await pubsub.open(`${root}.a`, { group }),
      ];
      await pubsub.publish(`${root}.a`, ["event"]);
      for (const subscription of subscriptions)
        expect(await pubsub.takeTexts(subscription, 1)).toEqual(["event"]);
    });

    it("keep the order of each key of a topic", async (context) => {
      pubsub.needs(context, "wildcards", "ordering");
      const root = pubsub.topic("root");
      const subscription = await pubsub.open(`${root}.*`, { ordered: true });
      await pubsub.publish(`${root}.a`, numbered(3, "", "k"));
      for (const text of ["0", "1", "2"]) {
        const received = await subscription.receive(10, pubsub.call());
        expect(received.map(textOf)).toEqual([text]);
        await pubsub.done(subscription, received);
      }
    });

    it("take delayed events of topics that nobody has published to before", async (context) => {
      pubsub.needs(context, "wildcards", "delay");
      const root = pubsub.topic("root");
      const subscription = await pubsub.open(`${root}.*`);
      await pubsub.publish(`${root}.a`, [outgoing("later", { deliverAtMs: Date.now() + 50 })]);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["later"]);
    });

    it("find topics made by another driver", async (context) => {
      pubsub.needs(context, "wildcards");
      const second = pubsub.second(context);
      const root = pubsub.topic("root");
      const subscription = await pubsub.open(`${root}.*`);
      await pubsub.publish(`${root}.there`, ["from there"], second);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["from there"]);
    });

    it("are refused, or match nothing but themselves, where they are not supported", async (context) => {
      pubsub.lacks(context, "wildcards");
      const root = pubsub.topic("root");
      const subscription = await pubsub.open(`${root}.*`).catch(() => undefined);
      await pubsub.publish(`${root}.a`, ["event"]);
      if (subscription) expect(await pubsub.rest(subscription)).toEqual([]);
    });
  });
}
