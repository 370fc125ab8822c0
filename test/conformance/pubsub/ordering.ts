import { describe, expect, it } from "vitest";
import type { DriverSubscription, Received } from "../../../src/blocks/pubsub/driver.ts";
import { numbered, outgoing, type PubSubFixture, seeded, textOf } from "./fixture.ts";

/** Order within a key, parallelism across keys. */
export function orderingConformance(pubsub: PubSubFixture): void {
  describe("ordering by key", () => {
    const keyed = (...texts: string[]) => texts.map((text) => outgoing(text, { key: text[0]! }));

    it("never has two events of a key out at once", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, keyed("a0", "a1", "a2"));
      for (const text of ["a0", "a1", "a2"]) {
        const received = await subscription.receive(10, pubsub.call());
        expect(received.map(textOf)).toEqual([text]);
        expect(await pubsub.rest(subscription)).toEqual([]);
        await pubsub.done(subscription, received);
      }
    });

    it("gives events of other keys meanwhile", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, keyed("a0", "a1", "b0", "c0", "b1"));
      expect((await pubsub.takeTexts(subscription, 3)).sort()).toEqual(["a0", "b0", "c0"]);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("wakes a receive that waits when the event before it is done", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, keyed("a0", "a1"));
      const first = await pubsub.take(subscription, 1);
      const waiting = subscription.receive(1, pubsub.call());
      await pubsub.done(subscription, first);
      expect((await waiting).map(textOf)).toEqual(["a1"]);
    });

    it("holds a key while its event waits to be given again, and that key only", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, keyed("a0", "a1", "b0", "b1"));
      const [a0, b0] = (await pubsub.take(subscription, 2)).sort((x, y) =>
        textOf(x).localeCompare(textOf(y)),
      );
      const settledAtMs = performance.now();
      await pubsub.again(subscription, [a0!], 500);
      await pubsub.done(subscription, [b0!]);
      expect(await pubsub.consume(subscription, 1)).toEqual(["b1"]);
      const again = await pubsub.take(subscription, 1);
      expect(performance.now() - settledAtMs).toBeGreaterThanOrEqual(498);
      expect([textOf(again[0]!), again[0]!.attempt]).toEqual(["a0", 2]);
      await pubsub.done(subscription, again);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["a1"]);
    });

    it("gives a returned event before those that follow it", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, keyed("a0", "a1"));
      await pubsub.returned(subscription, await pubsub.take(subscription, 1));
      const received = await subscription.receive(10, pubsub.call());
      expect(received.map((one) => [textOf(one), one.attempt])).toEqual([["a0", 1]]);
    });

    it("gives the earliest unsettled event of a key first after its subscriber has left", async (context) => {
      pubsub.needs(context, "ordering");
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const leaving = await pubsub.open(topic, { group, ordered: true });
      await pubsub.publish(topic, keyed("a0", "a1"));
      await pubsub.take(leaving, 1);
      await pubsub.closeSubscription(leaving);
      const staying = await pubsub.open(topic, { group, ordered: true });
      expect(await pubsub.consume(staying, 1)).toEqual(["a0"]);
      expect(await pubsub.consume(staying, 1)).toEqual(["a1"]);
    });

    it("orders what was published before the group was made", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      await pubsub.publish(topic, keyed("a0", "a1", "a2"));
      const subscription = await pubsub.open(topic, { ordered: true });
      for (const text of ["a0", "a1", "a2"]) expect(await pubsub.consume(subscription, 1)).toEqual([text]);
    });

    it("lets a backlog of one key not keep another key from being received", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, numbered(1000, "a", "a"));
      await pubsub.publish(topic, keyed("b0"));
      const received = await pubsub.take(subscription, 2);
      expect(received.map(textOf).sort()).toEqual(["a0", "b0"]);
      expect(await pubsub.rest(subscription)).toEqual([]);
    });

    it("leaves events without a key free", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, [...numbered(5), ...keyed("a0", "a1")]);
      expect((await pubsub.takeTexts(subscription, 6)).sort()).toEqual(["0", "1", "2", "3", "4", "a0"]);
    });

    it("ignores keys where no order is asked for", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, keyed("a0", "a1", "a2"));
      expect(await pubsub.takeTexts(subscription, 3)).toEqual(["a0", "a1", "a2"]);
    });

    it("takes the names of JavaScript's own properties as keys like any other", async (context) => {
      pubsub.needs(context, "ordering");
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      const keys = ["__proto__", "constructor", "toString"];
      await pubsub.publish(
        topic,
        keys.flatMap((key) => [outgoing(`${key}0`, { key }), outgoing(`${key}1`, { key })]),
      );
      expect((await pubsub.consume(subscription, 3)).sort()).toEqual(keys.map((key) => `${key}0`).sort());
      expect((await pubsub.consume(subscription, 3)).sort()).toEqual(keys.map((key) => `${key}1`).sort());
    });

    it("keeps the order of each key over two members, through retries and returns", async (context) => {
      pubsub.needs(context, "ordering");
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const spec = { group, ordered: true };
      await inOrder(topic, [await pubsub.open(topic, spec), await pubsub.open(topic, spec)]);
    });

    it("keeps the order of each key over two drivers, through retries and returns", async (context) => {
      pubsub.needs(context, "ordering");
      const second = pubsub.second(context);
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const spec = { group, ordered: true };
      await inOrder(topic, [await pubsub.open(topic, spec), await pubsub.open(topic, spec, second)]);
    });

    it("keeps the order of each key while members come and go", async (context) => {
      pubsub.needs(context, "ordering");
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const [keys, perKey] = [5, 20];
      await publishKeys(topic, keys, perKey);
      const next = new Array<number>(keys).fill(0);
      let left = keys * perKey;
      while (left > 0) {
        const member = await pubsub.open(topic, { group, ordered: true });
        const received = await member.receive(keys, pubsub.call());
        for (const one of received) expect(Number(textOf(one).split(":")[1])).toBe(next[Number(one.key)]);
        const settled = received.slice(0, Math.ceil(received.length / 2));
        await pubsub.done(member, settled);
        for (const one of settled) next[Number(one.key)]! += 1;
        left -= settled.length;
        await pubsub.closeSubscription(member);
      }
    });

    async function publishKeys(topic: string, keys: number, perKey: number): Promise<void> {
      for (let index = 0; index < perKey; index += 1) {
        const batch = Array.from({ length: keys }, (_, key) =>
          outgoing(`${key}:${index}`, { key: `${key}` }),
        );
        await pubsub.publish(topic, batch);
      }
    }

    /** Members consume with random outcomes; each key's next event comes only after the one before is done. */
    async function inOrder(topic: string, members: readonly DriverSubscription[]): Promise<void> {
      const [keys, perKey] = [8, 25];
      const next = new Array<number>(keys).fill(0);
      const out = new Set<string>();
      const finished = new AbortController();
      const mistakes: string[] = [];
      let left = keys * perKey;
      const take = (received: Received): void => {
        const expected = `${received.key}:${next[Number(received.key)]}`;
        if (textOf(received) !== expected) mistakes.push(`${textOf(received)} came, expected ${expected}`);
        if (out.has(received.key)) mistakes.push(`${textOf(received)} came while its key was out`);
        out.add(received.key);
      };
      const consume = async (member: DriverSubscription, random: () => number) => {
        const signal = AbortSignal.any([finished.signal, pubsub.call().signal]);
        while (!signal.aborted) {
          const batch = await member.receive(4, { signal });
          for (const received of batch) take(received);
          for (const received of batch.toSorted(() => random() - 0.5)) {
            const dice = random();
            out.delete(received.key);
            if (dice < 0.15) await pubsub.again(member, [received], dice < 0.08 ? 5 : 0);
            else if (dice < 0.25) await pubsub.returned(member, [received]);
            else {
              next[Number(received.key)]! += 1;
              left -= 1;
              await pubsub.done(member, [received]);
            }
          }
          if (left === 0) finished.abort();
        }
      };
      const consuming = members.map((member, index) => consume(member, seeded(index + 1)));
      await publishKeys(topic, keys, perKey);
      await Promise.all(consuming);
      expect(mistakes).toEqual([]);
      expect(next).toEqual(new Array<number>(keys).fill(perKey));
    }
  });
}
