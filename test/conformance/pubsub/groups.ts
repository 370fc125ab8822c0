import { describe, expect, it } from "vitest";
import type { DriverSubscription, PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import { numbered, type PubSubFixture, textOf } from "./fixture.ts";

/** Members of a group share, groups do not. */
export function groupConformance(pubsub: PubSubFixture): void {
  describe("groups", () => {
    it("gives every event to every group", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      const subscriptions = [await pubsub.open(topic), await pubsub.open(topic), await pubsub.open(topic)];
      await pubsub.publish(topic, numbered(10));
      const texts = numbered(10).map((_, index) => `${index}`);
      for (const subscription of subscriptions) expect(await pubsub.consume(subscription, 10)).toEqual(texts);
      for (const subscription of subscriptions) expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("keeps what one group does from the others", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      const [one, other] = [await pubsub.open(topic), await pubsub.open(topic)];
      await pubsub.publish(topic, ["event"]);
      await pubsub.again(one, await pubsub.take(one, 1));
      expect((await pubsub.take(other, 1))[0]!.attempt).toBe(1);
      expect((await pubsub.take(one, 1))[0]!.attempt).toBe(2);
    });

    it("is the group of one topic: the same name on another topic is another group", async () => {
      const group = pubsub.group();
      const [one, other] = [pubsub.topic(), pubsub.topic()];
      const first = await pubsub.open(one, { group });
      const second = await pubsub.open(other, { group });
      await pubsub.publish(one, ["one"]);
      await pubsub.publish(other, ["other"]);
      expect(await pubsub.takeTexts(first, 1)).toEqual(["one"]);
      expect(await pubsub.takeTexts(second, 1)).toEqual(["other"]);
    });

    it("keeps events for a group whose members are all away", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      await pubsub.closeSubscription(await pubsub.open(topic, { group, start: { at: "latest" } }));
      await pubsub.publish(topic, ["while away"]);
      const back = await pubsub.open(topic, { group, start: { at: "latest" } });
      expect(await pubsub.takeTexts(back, 1)).toEqual(["while away"]);
    });

    it("gives each event to one member only", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      await shared(
        topic,
        [await pubsub.open(topic, { group }), await pubsub.open(topic, { group })],
        [pubsub.driver],
      );
    });

    it("gives each event to one member only, over two drivers", async (context) => {
      const second = pubsub.second(context);
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const members = [await pubsub.open(topic, { group }), await pubsub.open(topic, { group }, second)];
      await shared(topic, members, [pubsub.driver, second]);
    });

    it("gives no event to a second member while the first holds it", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const [one, other] = [await pubsub.open(topic, { group }), await pubsub.open(topic, { group })];
      await pubsub.publish(topic, numbered(5));
      await pubsub.take(one, 5);
      expect(await pubsub.rest(other)).toEqual([]);
    });

    it("gives the work of a member that leaves to one that waits, over two drivers", async (context) => {
      const second = pubsub.second(context);
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const leaving = await pubsub.open(topic, { group });
      await pubsub.publish(topic, numbered(5));
      await pubsub.take(leaving, 5);
      const staying = await pubsub.open(topic, { group }, second);
      const taking = pubsub.takeTexts(staying, 5);
      await pubsub.closeSubscription(leaving);
      expect((await taking).sort()).toEqual(["0", "1", "2", "3", "4"]);
    });

    /** Members take in turn until all is consumed; everything came exactly once. */
    async function shared(
      topic: string,
      members: DriverSubscription[],
      publishers: PubSubDriver[],
    ): Promise<void> {
      const total = 200;
      const got: string[] = [];
      const finished = new AbortController();
      const consume = async (member: DriverSubscription) => {
        const signal = AbortSignal.any([finished.signal, pubsub.call().signal]);
        while (!signal.aborted) {
          const received = await member.receive(7, { signal });
          got.push(...received.map(textOf));
          await pubsub.done(member, received);
          if (got.length >= total) finished.abort();
        }
      };
      const consuming = members.map(consume);
      for (let first = 0; first < total; first += 20) {
        const publisher = publishers[(first / 20) % publishers.length]!;
        await pubsub.publish(topic, numbered(total).slice(first, first + 20), publisher);
      }
      await Promise.all(consuming);
      expect(got.map(Number).sort((a, b) => a - b)).toEqual(numbered(total).map((_, index) => index));
    }
  });
}
