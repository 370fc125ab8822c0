import { describe, expect, it } from "vitest";
import { numbered, outgoing, type PubSubFixture, textOf } from "./fixture.ts";

/** `receive` waits, never gives more than asked for, and loses nothing. */
export function receiveConformance(pubsub: PubSubFixture): void {
  describe("receive", () => {
    it("gives events in the order in which they were published, when nobody competes", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const texts = numbered(200).map((_, index) => `${index}`);
      for (let first = 0; first < 200; first += 50)
        await pubsub.publish(topic, numbered(200).slice(first, first + 50));
      expect(await pubsub.takeTexts(subscription, 200)).toEqual(texts);
    });

    it("gives 1 to `max` events, whatever there are", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, numbered(20));
      let count = 0;
      for (const max of [1, 2, 3, 7]) {
        const received = await subscription.receive(max, pubsub.call());
        expect(received.length).toBeGreaterThanOrEqual(1);
        expect(received.length).toBeLessThanOrEqual(max);
        count += received.length;
      }
      expect(await pubsub.takeTexts(subscription, 20 - count)).toHaveLength(20 - count);
    });

    it("waits, and wakes when an event is published", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      let woke = false;
      const waiting = subscription.receive(10, pubsub.call()).finally(() => {
        woke = true;
      });
      expect(await pubsub.rest(await pubsub.open(topic))).toEqual([]);
      expect(woke).toBe(false);
      await pubsub.publish(topic, ["event"]);
      expect((await waiting).map(textOf)).toEqual(["event"]);
    });

    it("waits again after it has given everything", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      for (const text of ["first", "second", "third"]) {
        const waiting = subscription.receive(10, pubsub.call());
        await pubsub.publish(topic, [text]);
        expect((await waiting).map(textOf)).toEqual([text]);
      }
    });

    it("counts the first time as attempt 1", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["event"]);
      expect((await pubsub.take(subscription, 1))[0]!.attempt).toBe(1);
    });

    it("does not give again what it gave, as long as it is neither settled nor given back", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, numbered(3));
      await pubsub.take(subscription, 3);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("returns none when the signal aborts, before or while it waits, and goes on with another signal", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      expect(await subscription.receive(1, { signal: AbortSignal.abort() })).toEqual([]);
      const controller = new AbortController();
      const waiting = subscription.receive(1, { signal: controller.signal });
      controller.abort();
      expect(await waiting).toEqual([]);
      await pubsub.publish(topic, ["event"]);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["event"]);
    });

    const races: [string, (abort: () => void, publish: () => void) => void][] = [
      [
        "before",
        (abort, publish) => {
          abort();
          publish();
        },
      ],
      [
        "after",
        (abort, publish) => {
          publish();
          abort();
        },
      ],
      [
        "just after",
        (abort, publish) => {
          publish();
          queueMicrotask(abort);
        },
      ],
      [
        "one turn after",
        (abort, publish) => {
          publish();
          setImmediate(abort);
        },
      ],
    ];
    it.each(races)(
      "loses nothing and gives nothing twice when the signal aborts %s a publish",
      async (_when, race) => {
        const topic = pubsub.topic();
        const subscription = await pubsub.open(topic);
        const got: string[] = [];
        const publishes: Promise<unknown>[] = [];
        const rounds = 100;
        for (let round = 0; round < rounds; round += 1) {
          const controller = new AbortController();
          const receiving = subscription.receive(4, { signal: controller.signal });
          race(
            () => controller.abort(),
            () => publishes.push(pubsub.publish(topic, [`${round}`])),
          );
          got.push(...(await receiving).map(textOf));
        }
        await Promise.all(publishes);
        got.push(...(await pubsub.takeTexts(subscription, rounds - got.length)));
        expect(got.map(Number).sort((a, b) => a - b)).toEqual(
          Array.from({ length: rounds }, (_, index) => index),
        );
      },
    );

    it("returns none when the subscription closes while it waits", async () => {
      const subscription = await pubsub.open(pubsub.topic());
      const waiting = subscription.receive(1, pubsub.call());
      await pubsub.closeSubscription(subscription);
      expect(await waiting).toEqual([]);
    });

    it("gives what one subscriber gave back to another that waits for it", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const leaving = await pubsub.open(topic, { group });
      await pubsub.publish(topic, [outgoing("event")]);
      await pubsub.take(leaving, 1);
      const staying = await pubsub.open(topic, { group });
      const waiting = staying.receive(1, pubsub.call());
      await pubsub.closeSubscription(leaving);
      expect((await waiting).map(textOf)).toEqual(["event"]);
    });
  });
}
