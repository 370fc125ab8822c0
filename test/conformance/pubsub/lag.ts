import { describe, expect, it } from "vitest";
import { numbered, outgoing, type PubSubFixture } from "./fixture.ts";

/** How far a group is behind. */
export function lagConformance(pubsub: PubSubFixture): void {
  describe("lag", () => {
    it("is there if and only if the driver says so", async () => {
      const subscription = await pubsub.open(pubsub.topic());
      expect(subscription.lag !== undefined).toBe(pubsub.driver.supports.lag);
    });

    it("counts what the group has not settled, received or not", async (context) => {
      pubsub.needs(context, "lag");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const lag = () => subscription.lag!(pubsub.call());
      expect(await lag()).toMatchObject({ events: 0, trimmedUnsettled: 0 });
      await pubsub.publish(topic, numbered(5));
      expect(await lag()).toMatchObject({ events: 5, trimmedUnsettled: 0 });
      const [first, second, third] = await pubsub.take(subscription, 3);
      expect((await lag()).events).toBe(5);
      await pubsub.done(subscription, [third!]);
      await pubsub.again(subscription, [first!], 60_000);
      await pubsub.returned(subscription, [second!]);
      expect(await lag()).toMatchObject({ events: 4, trimmedUnsettled: 0 });
    });

    it("is the sum of the lags of the partitions, where a topic has them", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, numbered(5));
      await pubsub.consume(subscription, 2);
      const lag = await subscription.lag?.(pubsub.call());
      for (const partition of lag?.partitions ?? []) expect(partition.topic).toBe(topic);
      if (lag?.partitions) expect(lag.partitions.reduce((sum, { events }) => sum + events, 0)).toBe(3);
    });

    it("is the group's, whoever asks and however often it is joined", async (context) => {
      pubsub.needs(context, "lag");
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const first = await pubsub.open(topic, { group });
      await pubsub.publish(topic, numbered(5));
      await pubsub.consume(first, 2);
      const second = await pubsub.open(topic, { group });
      expect((await second.lag!(pubsub.call())).events).toBe(3);
      await pubsub.closeSubscription(first);
      expect((await second.lag!(pubsub.call())).events).toBe(3);
    });

    it("counts from where the group began", async (context) => {
      pubsub.needs(context, "lag");
      const topic = pubsub.topic();
      await pubsub.publish(topic, numbered(3));
      const [earliest, latest] = [
        await pubsub.open(topic),
        await pubsub.open(topic, { start: { at: "latest" } }),
      ];
      expect((await earliest.lag!(pubsub.call())).events).toBe(3);
      expect((await latest.lag!(pubsub.call())).events).toBe(0);
    });

    it("counts what waits for its key", async (context) => {
      pubsub.needs(context, "lag", "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, numbered(4, "", "k"));
      await pubsub.consume(subscription, 1);
      expect((await subscription.lag!(pubsub.call())).events).toBe(3);
    });

    it("counts an event that enters later from when it enters", async (context) => {
      pubsub.needs(context, "lag", "delay");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, [outgoing("later", { deliverAtMs: Date.now() + 60_000 })]);
      expect((await subscription.lag!(pubsub.call())).events).toBe(0);
    });

    it("counts over all topics of a pattern", async (context) => {
      pubsub.needs(context, "lag", "wildcards");
      const root = pubsub.topic("root");
      const subscription = await pubsub.open(`${root}.*`);
      await pubsub.publish(`${root}.a`, numbered(2));
      await pubsub.publish(`${root}.b`, numbered(3));
      expect((await subscription.lag!(pubsub.call())).events).toBe(5);
    });
  });
}
