import { describe, expect, it } from "vitest";
import { numbered, type PubSubFixture, textOf } from "./fixture.ts";

/** What becomes of what was received. */
export function settleConformance(pubsub: PubSubFixture): void {
  describe("settle", () => {
    it("never gives an event again that is done, not even after the group was left and joined again", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const first = await pubsub.open(topic, { group });
      await pubsub.publish(topic, numbered(10));
      await pubsub.consume(first, 10);
      expect(await pubsub.rest(first)).toEqual([]);
      await pubsub.closeSubscription(first);
      const reopened = await pubsub.open(topic, { group });
      await pubsub.publish(topic, ["new"]);
      expect(await pubsub.takeTexts(reopened, 1)).toEqual(["new"]);
      expect(await pubsub.rest(reopened)).toEqual([]);
    });

    it("takes settlements in any order, one by one and in batches", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const subscription = await pubsub.open(topic, { group });
      await pubsub.publish(topic, numbered(10));
      const received = await pubsub.take(subscription, 10);
      await pubsub.done(subscription, [received[7]!]);
      await pubsub.done(subscription, [received[9]!, received[2]!, received[5]!]);
      await pubsub.done(subscription, []);
      await pubsub.done(subscription, [received[0]!]);
      await pubsub.closeSubscription(subscription);
      const reopened = await pubsub.open(topic, { group });
      expect((await pubsub.takeTexts(reopened, 5)).sort()).toEqual(["1", "3", "4", "6", "8"]);
      expect(await pubsub.rest(reopened)).toEqual([]);
    });

    it("takes several outcomes in one call", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["done", "again", "returned"]);
      const receipts = new Map((await pubsub.take(subscription, 3)).map((one) => [textOf(one), one.receipt]));
      await subscription.settle(
        [
          { receipt: receipts.get("returned"), kind: "returned" },
          { receipt: receipts.get("done"), kind: "done" },
          { receipt: receipts.get("again"), kind: "again", delayMs: 0 },
        ],
        pubsub.call(),
      );
      const attempts = (await pubsub.take(subscription, 2)).map((one) => [textOf(one), one.attempt]);
      expect(new Map(attempts as [string, number][])).toEqual(
        new Map([
          ["again", 2],
          ["returned", 1],
        ]),
      );
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("gives an event again, and counts: attempt 2, 3, 4", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["event"]);
      for (const attempt of [1, 2, 3, 4]) {
        const received = await pubsub.take(subscription, 1);
        expect(received[0]!.attempt).toBe(attempt);
        await pubsub.again(subscription, received);
      }
    });

    it("gives an event again not before its delay has passed, and holds nothing else up", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["delayed"]);
      const received = await pubsub.take(subscription, 1);
      const settledAtMs = performance.now();
      await pubsub.again(subscription, received, 500);
      await pubsub.publish(topic, ["other"]);
      expect(await pubsub.consume(subscription, 1)).toEqual(["other"]);
      const [again] = await pubsub.take(subscription, 1);
      // Two clocks, each rounded to a millisecond.
      expect(performance.now() - settledAtMs).toBeGreaterThanOrEqual(498);
      expect(textOf(again!)).toBe("delayed");
      expect(again!.attempt).toBe(2);
    });

    it("gives events again in the order in which their delays pass", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["late", "soon", "sooner"]);
      const [late, soon, sooner] = await pubsub.take(subscription, 3);
      await pubsub.again(subscription, [late!], 300);
      await pubsub.again(subscription, [soon!], 150);
      await pubsub.again(subscription, [sooner!], 10);
      expect(await pubsub.takeTexts(subscription, 3)).toEqual(["sooner", "soon", "late"]);
    });

    it("keeps the delay of an event when its subscriber has left", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const leaving = await pubsub.open(topic, { group });
      await pubsub.publish(topic, ["event"]);
      await pubsub.again(leaving, await pubsub.take(leaving, 1), 400);
      const settledAtMs = performance.now();
      await pubsub.closeSubscription(leaving);
      const staying = await pubsub.open(topic, { group });
      const [again] = await pubsub.take(staying, 1);
      expect(performance.now() - settledAtMs).toBeGreaterThanOrEqual(350);
      expect(again!.attempt).toBe(2);
    });

    it("gives a returned event again at once, and has not counted it", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["event"]);
      for (let round = 0; round < 3; round += 1) {
        const received = await pubsub.take(subscription, 1);
        expect(received[0]!.attempt).toBe(1);
        await pubsub.returned(subscription, received);
      }
    });

    it("gives what was not settled again when the subscription has closed, in order and uncounted", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const leaving = await pubsub.open(topic, { group });
      await pubsub.publish(topic, numbered(4));
      const received = await pubsub.take(leaving, 3);
      await pubsub.done(leaving, [received[1]!]);
      await pubsub.closeSubscription(leaving);
      const reopened = await pubsub.open(topic, { group });
      const again = await pubsub.take(reopened, 3);
      expect(again.map(textOf)).toEqual(["0", "2", "3"]);
      expect(again.map(({ attempt }) => attempt)).toEqual([1, 1, 1]);
    });

    it("remembers counted attempts when the subscription has closed", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const leaving = await pubsub.open(topic, { group });
      await pubsub.publish(topic, ["event"]);
      await pubsub.again(leaving, await pubsub.take(leaving, 1));
      await pubsub.take(leaving, 1);
      await pubsub.closeSubscription(leaving);
      const reopened = await pubsub.open(topic, { group });
      expect((await pubsub.take(reopened, 1))[0]!.attempt).toBe(2);
    });

    it("counts attempts in the broker, for every sidecar, when it claims that they are durable", async (context) => {
      pubsub.needs(context, "durableAttempts");
      const second = pubsub.second(context);
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const here = await pubsub.open(topic, { group });
      await pubsub.publish(topic, ["event"]);
      await pubsub.again(here, await pubsub.take(here, 1));
      await pubsub.closeSubscription(here);
      const there = await pubsub.open(topic, { group }, second);
      expect((await pubsub.take(there, 1))[0]!.attempt).toBe(2);
    });

    it("passes over what is settled already, whatever the first outcome was", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["done", "again"]);
      const received = await pubsub.take(subscription, 2);
      const done = received.find((one) => textOf(one) === "done")!;
      const again = received.find((one) => textOf(one) === "again")!;
      await pubsub.done(subscription, [done]);
      await pubsub.again(subscription, [done]);
      await pubsub.again(subscription, [again], 100);
      await pubsub.done(subscription, [again]);
      await pubsub.returned(subscription, [again]);
      const [second] = await pubsub.take(subscription, 1);
      expect([textOf(second!), second!.attempt]).toEqual(["again", 2]);
    });

    it("passes over a receipt of an earlier attempt", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["event"]);
      const stale = await pubsub.take(subscription, 1);
      await pubsub.again(subscription, stale);
      const current = await pubsub.take(subscription, 1);
      await pubsub.done(subscription, stale);
      await pubsub.again(subscription, stale);
      expect(await pubsub.rest(subscription)).toEqual([]);
      await pubsub.again(subscription, current);
      expect((await pubsub.take(subscription, 1))[0]!.attempt).toBe(3);
    });

    it("passes over a receipt of another member and of another group", async (context) => {
      pubsub.needs(context, "groups");
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const [mine, theirs, other] = [
        await pubsub.open(topic, { group }),
        await pubsub.open(topic, { group }),
        await pubsub.open(topic),
      ];
      await pubsub.publish(topic, ["event"]);
      const received = await pubsub.take(mine, 1);
      await pubsub.done(theirs, received);
      await pubsub.done(other, received);
      expect(await pubsub.takeTexts(other, 1)).toEqual(["event"]);
      await pubsub.returned(mine, received);
      expect((await pubsub.take(mine, 1)).map(textOf)).toEqual(["event"]);
    });
  });
}
