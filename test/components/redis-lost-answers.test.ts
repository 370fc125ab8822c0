import { afterEach, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { EtagMismatch, type StateDriver } from "../../src/blocks/state/driver.ts";
import { Feed } from "../../src/components/redis/feed.ts";
import { Link } from "../../src/components/redis/link.ts";
import { connectionSettings, pubSubSchema, streamSettings } from "../../src/components/redis/settings.ts";
import { Topics } from "../../src/components/redis/topics.ts";
import { outgoing, PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { setOf } from "../conformance/state/fixture.ts";
import { sharedRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import { type Proxy as Network, openProxy } from "../servers/toxiproxy.ts";
import { until } from "../servers/until.ts";
import { openContext } from "./open-context.ts";
import { ask } from "./redis-ask.ts";
import { hostOf, openPubSub, openState, type Place } from "./redis-drivers.ts";

describeWith(["redis", "toxiproxy"], "Redis does what it is asked to, and its answer is lost", () => {
  let server: Place;
  let proxy: Network;
  /** Through the proxy. */
  let there: PubSubDriver;
  /** Beside it. */
  const pubsub = new PubSubFixture();

  beforeEach(async () => {
    server = await sharedRedis();
    proxy = await openProxy(server.port);
    there = await openPubSub(proxy);
    pubsub.use(await openPubSub(server), undefined);
  });
  afterEach(async () => {
    await there.close().catch(() => {});
    await pubsub.close();
    await proxy[Symbol.asyncDispose]();
  });

  /** No answer comes through until `mend`, and then on another connection. */
  const loseAnswers = () => proxy.poison({ type: "timeout", timeout: 0 }, "downstream");
  const reconnect = async () => {
    await proxy.cut();
    await proxy.mend();
  };

  describe("pubsub.redis", () => {
    it("receives again what it was given in it, uncounted", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const subscription = await pubsub.open(topic, { group }, there);
      await pubsub.publish(topic, ["first"]);
      const held = await pubsub.take(subscription, 1);
      await pubsub.publish(topic, ["second"]);
      await loseAnswers();
      const receiving = pubsub.take(subscription, 1);
      await until(
        async () => ((await ask(server, "XPENDING", topic, group)) as [number])[0] === 2,
        "both are out",
        5000,
      );
      await reconnect();
      const received = await receiving;
      expect(received.map((one) => [textOf(one), one.attempt])).toEqual([["second", 1]]);
      await pubsub.done(subscription, [...held, ...received]);
      expect((await subscription.lag!(pubsub.call())).events).toBe(0);
    });

    it("does not take back what it gave back in it, and what another has now", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const subscription = await pubsub.open(topic, { group }, there);
      await pubsub.publish(topic, ["event"]);
      const held = await pubsub.take(subscription, 1);
      const other = await pubsub.open(topic, { group });
      await loseAnswers();
      const settling = pubsub.again(subscription, held);
      const taken = await pubsub.take(other, 1);
      expect(taken[0]!.attempt).toBe(2);
      await reconnect();
      await settling;
      expect(await pubsub.rest(other)).toEqual([]);
      expect(await pubsub.rest(subscription)).toEqual([]);
      await pubsub.done(other, taken);
      expect((await other.lag!(pubsub.call())).events).toBe(0);
    });

    it("does not take back what it gave back in it, and has received again itself", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const subscription = await pubsub.open(topic, { group, ordered: true }, there);
      await pubsub.publish(topic, [outgoing("first", { key: "k" }), outgoing("second", { key: "k" })]);
      const held = await pubsub.take(subscription, 1);
      await loseAnswers();
      const settlements = held.map(({ receipt }) => ({ receipt, kind: "returned" }) as const);
      await expect(subscription.settle(settlements, { signal: AbortSignal.timeout(500) })).rejects.toThrow();
      await reconnect();
      const received = await pubsub.take(subscription, 1);
      expect(received.map((one) => [textOf(one), one.attempt])).toEqual([["first", 1]]);
      // Nobody has said that it was done.
      await subscription.settle(settlements, pubsub.call());
      expect(await pubsub.rest(subscription)).toEqual([]);
      await pubsub.done(subscription, received);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["second"]);
    });

    it("goes on with what it holds under another name when a claim was lost", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const subscription = await pubsub.open(topic, { group }, there);
      await pubsub.publish(topic, ["first"]);
      const held = await pubsub.take(subscription, 1);
      const nameOf = async () => {
        const pending = (await ask(server, "XPENDING", topic, group, "-", "+", "10")) as string[][];
        return pending.map(([, consumer]) => String(consumer));
      };
      const [before] = await nameOf();
      await loseAnswers();
      await pubsub.publish(topic, ["second"]);
      const receiving = pubsub.take(subscription, 1);
      await until(async () => (await nameOf()).length === 2, "both are out", 5000);
      await reconnect();
      const received = await receiving;
      const names = await nameOf();
      expect(new Set(names).size).toBe(1);
      // What is done late for the old name concerns nobody.
      expect(names).not.toContain(before);
      await pubsub.done(subscription, [...held, ...received]);
      expect(await nameOf()).toEqual([]);
    });

    /** A member that has two events, and does not know whether Redis has heard its other name. */
    const halfRenamed = async (topic: string, group: string) => {
      const fields = pubSubSchema.parse({ redisHost: hostOf(proxy) });
      const context = openContext();
      const link = await Link.open(connectionSettings(fields), context);
      onTestFinished(() => link.close());
      const feed = new Feed({
        link,
        log: context.telemetry.log,
        settings: streamSettings(fields),
        topics: new Topics(link),
        topic,
        group,
        broadcast: false,
        ordered: false,
        raw: false,
        member: "member",
      });
      await feed.join("0", pubsub.call());
      const pending = async () =>
        ((await ask(server, "XPENDING", topic, group, "-", "+", "10")) as string[][]).map(([, name]) => name);
      /** Asks for more, and gives up when Redis has done so, without having heard of it. */
      const takeInVain = async (names: readonly string[]) => {
        await loseAnswers();
        const leaving = new AbortController();
        const taking = feed.take(1, { signal: leaving.signal });
        await expect.poll(pending, { timeout: 5000 }).toEqual(names);
        leaving.abort();
        await expect(taking).rejects.toThrow();
        await reconnect();
        await feed.lag(pubsub.call());
      };
      await pubsub.publish(topic, ["first"]);
      const [first] = await feed.take(1, pubsub.call());
      await pubsub.publish(topic, ["second"]);
      await takeInVain(["member-1", "member-1"]);
      const [second] = await feed.take(1, pubsub.call());
      await pubsub.publish(topic, ["third"]);
      await takeInVain(["member-2", "member-2", "member-2"]);
      await takeInVain(["member-3", "member-3", "outrider:parked"]);
      return { feed, pending, held: [first!, second!] };
    };

    it("settles what it holds although it does not know whether Redis has heard its other name", async () => {
      const { feed, pending, held } = await halfRenamed(pubsub.topic(), pubsub.group());
      const settlements = held.map(({ receipt }) => ({ receipt, kind: "done" }) as const);
      await feed.settle(settlements, pubsub.call());
      expect(await pending()).toEqual(["outrider:parked"]);
      expect((await feed.take(1, pubsub.call())).map(textOf)).toEqual(["third"]);
    });

    it("gives back at once when it leaves, although it does not know whether Redis has heard its other name", async () => {
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const { feed, pending } = await halfRenamed(topic, group);
      await feed.leave(pubsub.call());
      expect(await pending()).toEqual(["outrider:parked", "outrider:parked", "outrider:parked"]);
      const others = await pubsub.open(topic, { group });
      const received = await pubsub.take(others, 3);
      expect(received.map((one) => [textOf(one), one.attempt])).toEqual([
        ["first", 1],
        ["second", 1],
        ["third", 1],
      ]);
    });

    it("publishes again, and an event that is there already is not there twice", async () => {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["before"], there);
      await pubsub.consume(subscription, 1);
      await loseAnswers();
      const publishing = there.publish(topic, [outgoing("once")], pubsub.call());
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["once"]);
      await reconnect();
      const [published] = await publishing;
      expect(published).toMatchObject({ position: expect.stringMatching(/^\d+-\d+$/) });
      await pubsub.publish(topic, ["after"], there);
      expect(await pubsub.takeTexts(subscription, 1)).toEqual(["after"]);
    });
  });

  describe("state.redis", () => {
    it("does not write again: it says that it does not know, and the write may be there", async () => {
      const store: StateDriver = await openState(proxy);
      const call = { signal: AbortSignal.timeout(20_000) };
      const key = `lost-answers-${process.pid}-${Math.random()}`;
      const [before] = await store.write([setOf(key, "before")], call);
      await loseAnswers();
      const precondition = { kind: "etag", etag: before! } as const;
      const writing = store
        .write([setOf(key, "after", { precondition })], call)
        .catch((error: unknown) => error);
      await until(async () => (await ask(server, "HGET", key, "data")) === "after", "it is written", 5000);
      await reconnect();
      const error = await writing;
      expect(error).not.toBeInstanceOf(EtagMismatch);
      expect(store.classify(error)).toBe("unavailable");
      expect((await store.get([key], call))[0]!.value).toEqual(Buffer.from("after"));
      await store.close();
    });
  });
});
