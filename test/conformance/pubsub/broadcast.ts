import { describe, expect, it } from "vitest";
import { numbered, type PubSubFixture } from "./fixture.ts";

/** Subscriptions without a group. */
export function broadcastConformance(pubsub: PubSubFixture): void {
  describe("broadcast", () => {
    const broadcast = { group: undefined, start: { at: "latest" } } as const;

    it("gives every event to every subscription without a group, and to the groups", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      const subscriptions = [
        await pubsub.open(topic, broadcast),
        await pubsub.open(topic, broadcast),
        await pubsub.open(topic),
      ];
      await pubsub.publish(topic, numbered(3));
      for (const subscription of subscriptions)
        expect(await pubsub.takeTexts(subscription, 3)).toEqual(["0", "1", "2"]);
    });

    it("gives every event to subscriptions on two drivers", async (context) => {
      pubsub.needs(context, "groups");
      const second = pubsub.second(context);
      const topic = pubsub.topic();
      const subscriptions = [
        await pubsub.open(topic, broadcast),
        await pubsub.open(topic, broadcast, second),
      ];
      await pubsub.publish(topic, numbered(3));
      for (const subscription of subscriptions)
        expect(await pubsub.takeTexts(subscription, 3)).toEqual(["0", "1", "2"]);
    });

    it("gives what is published after it was opened, and nothing from before", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      await pubsub.publish(topic, ["before"]);
      const subscription = await pubsub.open(topic, broadcast);
      await pubsub.publish(topic, ["after"]);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["after"]);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("starts where it is told to", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      await pubsub.publish(topic, ["before"]);
      const subscription = await pubsub.open(topic, { group: undefined, start: { at: "earliest" } });
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["before"]);
    });

    it("keeps nothing for a subscription that has closed", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      const first = await pubsub.open(topic, broadcast);
      await pubsub.publish(topic, ["held", "waiting"]);
      await pubsub.take(first, 1);
      await pubsub.closeSubscription(first);
      await pubsub.publish(topic, ["between"]);
      const second = await pubsub.open(topic, broadcast);
      await pubsub.publish(topic, ["after"]);
      expect(await pubsub.takeTexts(second, 1)).toEqual(["after"]);
      expect(await pubsub.rest(second)).toEqual([]);
    });

    it("repeats like a group does", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, broadcast);
      await pubsub.publish(topic, ["event"]);
      await pubsub.again(subscription, await pubsub.take(subscription, 1), 20);
      const again = await pubsub.take(subscription, 1);
      expect(again[0]!.attempt).toBe(2);
      await pubsub.done(subscription, again);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });
  });
}
