import { describe, expect, it } from "vitest";
import { outgoing, type PubSubFixture, textOf } from "./fixture.ts";

/** Events that enter their topic later. */
export function delayConformance(pubsub: PubSubFixture, stepMs: number): void {
  describe("delayed events", () => {
    const delayed = (text: string, delayMs: number) => outgoing(text, { deliverAtMs: Date.now() + delayMs });

    it("enter their topic at their time and not before, and hold nothing else up", async (context) => {
      pubsub.needs(context, "delay");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const later = delayed("later", 500);
      await pubsub.publish(topic, [later, "now"]);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["now"]);
      const [received] = await pubsub.take(subscription, 1);
      expect(Date.now()).toBeGreaterThanOrEqual(later.deliverAtMs!);
      expect(textOf(received!)).toBe("later");
      expect(received!.attempt).toBe(1);
      expect(received!.publishedAtMs).toBeGreaterThanOrEqual(later.deliverAtMs!);
    });

    it("come in the order of their times, not of their publishes", async (context) => {
      pubsub.needs(context, "delay");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, [
        delayed("third", 3 * stepMs),
        delayed("first", stepMs),
        delayed("second", 2 * stepMs),
      ]);
      expect(await pubsub.takeTexts(subscription, 3)).toEqual(["first", "second", "third"]);
    });

    it("come at once when their time has passed", async (context) => {
      pubsub.needs(context, "delay");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, [delayed("past", -1000)]);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["past"]);
    });

    it("have no position when published, and one after those before them when they enter", async (context) => {
      pubsub.needs(context, "delay", "positions");
      const topic = pubsub.topic();
      const [later, now] = await pubsub.publish(topic, [delayed("later", 100), "now"]);
      expect(later!.position).toBe("");
      const after = await pubsub.open(topic, { start: { at: "position", position: now!.position } });
      expect(await pubsub.takeTexts(after, 1)).toEqual(["later"]);
    });

    it("reach a group that was made before they entered", async (context) => {
      pubsub.needs(context, "delay");
      const topic = pubsub.topic();
      await pubsub.publish(topic, [delayed("later", 5 * stepMs)]);
      const subscription = await pubsub.open(topic, { start: { at: "latest" } });
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["later"]);
    });

    it("reach every group, and enter once", async (context) => {
      pubsub.needs(context, "delay");
      const topic = pubsub.topic();
      const subscriptions = [await pubsub.open(topic), await pubsub.open(topic)];
      await pubsub.publish(topic, [delayed("later", 50)]);
      for (const subscription of subscriptions)
        expect(await pubsub.consume(subscription, 1)).toEqual(["later"]);
      for (const subscription of subscriptions) expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("live from when they enter", async (context) => {
      pubsub.needs(context, "delay");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, [{ ...delayed("later", 100), timeToLiveMs: 5000 }]);
      const [received] = await pubsub.take(subscription, 1);
      expect(received!.expiresAtMs).toBe(received!.publishedAtMs + 5000);
    });

    it("keep key and order with those that entered before them", async (context) => {
      pubsub.needs(context, "delay", "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, [
        { ...delayed("later", 5 * stepMs), key: "k" },
        outgoing("now", { key: "k" }),
      ]);
      const now = await pubsub.take(subscription, 1);
      expect(now.map(textOf)).toEqual(["now"]);
      expect(await pubsub.rest(subscription)).toEqual([]);
      await pubsub.done(subscription, now);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["later"]);
    });

    it("enter once when two drivers are on the broker, and also when the one that took them is gone", async (context) => {
      pubsub.needs(context, "delay");
      const second = pubsub.second(context);
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, [delayed("later", 50)], second);
      expect(await pubsub.consume(subscription, 1)).toEqual(["later"]);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("are refused, or come at once, where delays are not supported", async (context) => {
      pubsub.lacks(context, "delay");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const results = await pubsub.driver
        .publish(topic, [delayed("later", 60_000)], pubsub.call())
        .catch((error: unknown) => [error]);
      if (!(results[0] instanceof Error)) expect(await pubsub.takeTexts(subscription, 1)).toEqual(["later"]);
    });
  });
}
