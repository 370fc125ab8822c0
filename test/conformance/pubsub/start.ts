import { describe, expect, it } from "vitest";
import { type StartAt, UnknownPosition } from "../../../src/blocks/pubsub/driver.ts";
import { numbered, type PubSubFixture } from "./fixture.ts";

/** Where a new group begins. */
export function startConformance(pubsub: PubSubFixture): void {
  describe("start", () => {
    it("begins a new group at the earliest event that the topic has", async () => {
      const topic = pubsub.topic();
      await pubsub.publish(topic, numbered(3));
      const subscription = await pubsub.open(topic, { start: { at: "earliest" } });
      await pubsub.publish(topic, ["after"]);
      expect(await pubsub.takeTexts(subscription, 4)).toEqual(["0", "1", "2", "after"]);
    });

    it("begins a new group with what is published from when `open` has resolved", async (context) => {
      pubsub.needs(context, "groups");
      const topic = pubsub.topic();
      await pubsub.publish(topic, numbered(3));
      const subscription = await pubsub.open(topic, { start: { at: "latest" } });
      await pubsub.publish(topic, ["after"]);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["after"]);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("begins a group on a topic that nobody has published to", async () => {
      for (const at of ["earliest", "latest"] as const) {
        const topic = pubsub.topic();
        const subscription = await pubsub.open(topic, { start: { at } });
        await pubsub.publish(topic, ["first"]);
        expect(await pubsub.takeTexts(subscription, 1)).toEqual(["first"]);
      }
    });

    it("begins a new group with the first event published at a time or after it", async (context) => {
      pubsub.needs(context, "startAtTime");
      const topic = pubsub.topic();
      for (const text of ["0", "1", "2"]) {
        await pubsub.publish(topic, [text]);
        const publishedAtMs = Date.now();
        await expect.poll(() => Date.now(), { interval: 1 }).toBeGreaterThan(publishedAtMs + 1);
      }
      const times = (await pubsub.take(await pubsub.open(topic), 3)).map(
        ({ publishedAtMs }) => publishedAtMs,
      );
      const startedAt = (timeMs: number) => pubsub.open(topic, { start: { at: "time", timeMs } });
      expect(await pubsub.takeTexts(await startedAt(times[1]!), 2)).toEqual(["1", "2"]);
      expect(await pubsub.takeTexts(await startedAt(times[1]! + 1), 1)).toEqual(["2"]);
      expect(await pubsub.takeTexts(await startedAt(0), 3)).toEqual(["0", "1", "2"]);
      const afterAll = await startedAt(Date.now() + 60_000);
      expect(await pubsub.rest(afterAll)).toEqual([]);
    });

    it("begins a new group after a position, as published and as received", async (context) => {
      pubsub.needs(context, "positions");
      const topic = pubsub.topic();
      const published = await pubsub.publish(topic, numbered(5));
      const received = await pubsub.take(await pubsub.open(topic), 5);
      for (const index of [0, 3]) {
        for (const { position } of [published[index]!, received[index]!]) {
          const subscription = await pubsub.open(topic, { start: { at: "position", position } });
          expect(await pubsub.takeTexts(subscription, 4 - index)).toEqual(
            ["0", "1", "2", "3", "4"].slice(index + 1),
          );
        }
      }
      const atEnd = await pubsub.open(topic, { start: { at: "position", position: published[4]!.position } });
      await pubsub.publish(topic, ["after"]);
      expect(await pubsub.takeTexts(atEnd, 1)).toEqual(["after"]);
    });

    it("refuses a position that it never gave", async (context) => {
      pubsub.needs(context, "positions");
      const error: unknown = await pubsub
        .open(pubsub.topic(), { start: { at: "position", position: "no such position" } })
        .catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(UnknownPosition);
    });

    it("goes on where an existing group is, whatever start it is given", async (context) => {
      pubsub.needs(context, "groups");
      const { supports } = pubsub.driver;
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const [{ position }] = (await pubsub.publish(topic, numbered(3))) as [{ position: string }];
      await pubsub.closeSubscription(await pubsub.open(topic, { group, start: { at: "latest" } }));
      await pubsub.publish(topic, ["after"]);
      const starts: StartAt[] = [{ at: "earliest" }, { at: "latest" }];
      if (supports.startAtTime) starts.push({ at: "time", timeMs: 0 });
      if (supports.positions) starts.push({ at: "position", position });
      for (const start of starts) {
        const subscription = await pubsub.open(topic, { group, start });
        expect(await pubsub.takeTexts(subscription, 1)).toEqual(["after"]);
        expect(await pubsub.rest(subscription)).toEqual([]);
        await pubsub.closeSubscription(subscription);
      }
    });
  });
}
