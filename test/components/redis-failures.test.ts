import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import type { Call } from "../../src/blocks/call.ts";
import type { DriverSubscription, PubSubDriver, Received } from "../../src/blocks/pubsub/driver.ts";
import { numbered, outgoing, PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { startRedis } from "../servers/redis.ts";
import { startRedisCluster } from "../servers/redis-cluster.ts";
import { startRedisSentinel } from "../servers/redis-sentinel.ts";
import { describeWith } from "../servers/require.ts";
import { until } from "../servers/until.ts";
import { ask } from "./redis-ask.ts";
import { hostOf, openPubSub, openState, type Place } from "./redis-drivers.ts";
import { readableTelemetry } from "./redis-log.ts";

const childPath = fileURLToPath(new URL("./redis-child.ts", import.meta.url));

describeWith("redis", "pubsub.redis when something dies", () => {
  const drivers: { close(): Promise<void> }[] = [];
  afterEach(async () => {
    for (const driver of drivers.splice(0)) await driver.close().catch(() => {});
  });

  /** A driver that is closed after the test, in the short forms of the suite. */
  const fixtureOf = async (driver: PubSubDriver): Promise<PubSubFixture> => {
    const fixture = new PubSubFixture();
    fixture.use(driver, undefined);
    drivers.push(fixture);
    return fixture;
  };
  const fixtureOn = async (at: Place | string, fields: Record<string, string> = {}) =>
    fixtureOf(await openPubSub(at, fields));

  describe("a consumer", () => {
    it.each([false, true])(
      "that is killed: others get what it held within seconds, and it has counted (ordered: %s)",
      { timeout: 30_000 },
      async (ordered) => {
        await using server = await startRedis();
        const pubsub = await fixtureOn(server);
        const [topic, group] = [pubsub.topic(), pubsub.group()];
        const child = spawn(
          process.execPath,
          [childPath, hostOf(server), topic, group, ordered ? "ordered" : ""],
          {
            stdio: ["ignore", "pipe", "inherit"],
          },
        );
        const held: string[] = [];
        createInterface({ input: child.stdout }).on("line", (line) => held.push(line));
        await pubsub.publish(topic, [outgoing("0", { key: "a" }), outgoing("1", { key: "b" })]);
        await until(() => held.length === 2, "the child holds both", 10_000);
        const staying = await pubsub.open(topic, { group, ordered });
        expect(await pubsub.rest(staying)).toEqual([]);
        child.kill("SIGKILL");
        await once(child, "close");
        const received = await pubsub.take(staying, 2);
        expect(received.map((one) => [textOf(one), one.attempt])).toEqual([
          ["0", 2],
          ["1", 2],
        ]);
      },
    );

    it("that is slow keeps what it holds for as long as it lives", { timeout: 30_000 }, async () => {
      await using server = await startRedis();
      const pubsub = await fixtureOn(server, { processingTimeout: "1s", redeliverInterval: "1s" });
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const [slow, other] = [await pubsub.open(topic, { group }), await pubsub.open(topic, { group })];
      await pubsub.publish(topic, ["slow"]);
      const held = await pubsub.take(slow, 1);
      expect((await other.receive(1, { signal: AbortSignal.timeout(7000) })).map(textOf)).toEqual([]);
      await pubsub.done(slow, held);
      expect((await slow.lag!(pubsub.call())).events).toBe(0);
    });

    it("that is none of ours loses what it holds for longer than processingTimeout", async () => {
      await using server = await startRedis();
      const pubsub = await fixtureOn(server, { processingTimeout: "1s", redeliverInterval: "1s" });
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const ours = await pubsub.open(topic, { group });
      await ask(server, "XADD", topic, "*", "data", "not json");
      // In the time it takes, ours may have been faster: what it gets it gives back.
      const [first] = await pubsub.take(ours, 1);
      await pubsub.done(ours, [first!]);
      await pubsub.closeSubscription(ours);
      await ask(server, "XADD", topic, "*", "data", "held by another");
      await ask(server, "XREADGROUP", "GROUP", group, "another", "COUNT", "1", "STREAMS", topic, ">");
      const back = await pubsub.open(topic, { group });
      const [received] = await pubsub.take(back, 1);
      expect([textOf(received!), received!.attempt]).toEqual(["held by another", 2]);
    });
  });

  describe("a server", () => {
    it("that is emptied: groups are made again, in the log and in health, and go on", {
      timeout: 30_000,
    }, async () => {
      await using server = await startRedis();
      const { telemetry, lines } = readableTelemetry();
      const pubsub = await fixtureOf(await openPubSub(server, {}, { telemetry }));
      const topic = pubsub.topic();
      const group = await pubsub.open(topic);
      const ordered = await pubsub.open(topic, { ordered: true });
      const broadcast = await pubsub.open(topic, { group: undefined, start: { at: "latest" } });
      const pattern = await pubsub.open(`${topic}.*`);
      const all = [group, ordered, broadcast];
      await pubsub.publish(topic, ["before"]);
      const held = await pubsub.take(group, 1);
      const waiting = all.slice(1).map((subscription) => pubsub.consume(subscription, 1));
      await Promise.all(waiting);
      await ask(server, "FLUSHALL");
      await pubsub.publish(topic, [outgoing("after", { key: "k" })]);
      await pubsub.done(group, held);
      for (const subscription of all) expect(await pubsub.takeTexts(subscription, 1)).toEqual(["after"]);
      await pubsub.publish(`${topic}.new`, ["new"]);
      expect(await pubsub.takeTexts(pattern, 1)).toEqual(["new"]);
      expect(lines.filter((line) => line.includes("has been made again")).length).toBeGreaterThanOrEqual(3);
      expect(group.trouble).toMatch(new RegExp(`lost the group .* of topic "${topic}", .* made again at 2`));
    });

    it("that is emptied: who asks for a pattern later finds topics whose groups were made again", async () => {
      await using server = await startRedis();
      const { telemetry, lines } = readableTelemetry();
      const pubsub = await fixtureOf(await openPubSub(server, {}, { telemetry }));
      const topic = pubsub.topic();
      await pubsub.publish(`${topic}.one`, ["before"]);
      const group = await pubsub.open(`${topic}.one`);
      await pubsub.consume(group, 1);
      await ask(server, "FLUSHALL");
      const waiting = pubsub.takeTexts(group, 1);
      await expect.poll(() => lines.join(), { timeout: 20_000 }).toContain("has been made again");
      await pubsub.publish(`${topic}.one`, ["after"]);
      expect(await waiting).toEqual(["after"]);
      const pattern = await pubsub.open(`${topic}.*`);
      expect(await pubsub.takeTexts(pattern, 1)).toEqual(["after"]);
    });

    it("that is killed and comes back: publishes wait, nothing is lost, and order holds", {
      timeout: 60_000,
    }, async () => {
      await using server = await startRedis();
      const { telemetry, lines } = readableTelemetry();
      const pubsub = await fixtureOf(await openPubSub(server, {}, { telemetry }));
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic, { ordered: true });
      await pubsub.publish(topic, numbered(20, "", "k"));
      const first = await pubsub.take(subscription, 1);
      await server.kill();
      const publishing = pubsub.publish(topic, numbered(10, "later", "k"));
      const settling = pubsub.done(subscription, first);
      await server.restart();
      await Promise.all([publishing, settling]);
      const got: string[] = [];
      while (!got.includes("later9")) got.push(...(await pubsub.consume(subscription, 1)));
      const distinct = [...new Set(got)].filter((text) => text !== "0");
      expect(distinct).toEqual(
        [...numbered(20), ...numbered(10, "later")]
          .map((_, i) => (i < 20 ? `${i}` : `later${i - 20}`))
          .slice(1),
      );
      expect(lines.join("")).toContain("connected to Redis again");
    });

    it("that freezes for seconds loses nothing and nobody", { timeout: 60_000 }, async () => {
      await using server = await startRedis();
      const pubsub = await fixtureOn(server);
      const [topic, group] = [pubsub.topic(), pubsub.group()];
      const members = [await pubsub.open(topic, { group }), await pubsub.open(topic, { group })];
      await pubsub.publish(topic, ["one", "other"]);
      // One each: whoever speaks first after it must not take the other for dead.
      const held = await Promise.all(members.map((member) => pubsub.take(member, 1)));
      await server.freeze();
      const publishing = pubsub.publish(topic, ["meanwhile"]);
      // Longer than a member lives that gives no sign of life.
      const frozenAt = performance.now();
      await until(() => performance.now() - frozenAt > 6000, "six seconds pass", 10_000);
      server.thaw();
      await publishing;
      const waiting = { signal: AbortSignal.timeout(3000) };
      const taken = await Promise.all(members.map((member) => receiveAll(member, waiting)));
      expect(new Set(taken.flat().map(textOf))).toEqual(new Set(["meanwhile"]));
      await Promise.all(members.map((member, index) => pubsub.done(member, held[index]!)));
    });

    it("that stays away: a publish fails as unavailable after ten seconds, or when its call ends", {
      timeout: 30_000,
    }, async () => {
      await using server = await startRedis();
      const driver = await openPubSub(server);
      drivers.push(driver);
      await server.kill();
      const failure = (signal: AbortSignal) =>
        driver.publish("topic", [outgoing("x")], { signal }).then(
          () => undefined,
          (error: unknown) => driver.classify(error),
        );
      const startedAt = performance.now();
      expect(await failure(AbortSignal.timeout(200))).toBe("cancelled");
      expect(performance.now() - startedAt).toBeLessThan(2000);
      expect(await failure(new AbortController().signal)).toBe("unavailable");
      expect(performance.now() - startedAt).toBeLessThan(15_000);
      await expect(driver.ping({ signal: AbortSignal.timeout(300) })).rejects.toThrow();
    });
  });

  describe("a primary", () => {
    it("that is made a replica under the same address: publishes connect anew, and wait for it", async () => {
      await using server = await startRedis();
      const driver = await openPubSub(server);
      drivers.push(driver);
      const publish = async (text: string) =>
        (await driver.publish("topic", [outgoing(text)], { signal: AbortSignal.timeout(10_000) }))[0];
      const clients = async (): Promise<string[]> =>
        String(await ask(server, "CLIENT", "LIST")).match(/(?<=^id=)\d+/gm) ?? [];
      await publish("before");
      const before = await clients();
      await ask(server, "REPLICAOF", "127.0.0.1", "1");
      const published = publish("meanwhile");
      // Behind the address there may be another server by now.
      const still = async () => (await clients()).filter((id) => before.includes(id));
      await expect.poll(still, { timeout: 5000 }).toEqual([]);
      await ask(server, "REPLICAOF", "NO", "ONE");
      expect(await published).not.toBeInstanceOf(Error);
    });

    it("with a sentinel: the replica takes over, and publishing and receiving go on", {
      timeout: 60_000,
    }, async () => {
      await using set = await startRedisSentinel();
      const fields = { failover: "true", sentinelMasterName: set.primaryName, waitReplicas: "1" };
      const store = await openState(set.sentinel, { failover: "true", sentinelMasterName: set.primaryName });
      drivers.push(store);
      const pubsub = await fixtureOn(set.sentinel, fields);
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["before"]);
      await set.primary.kill();
      const one = await openPubSubLater(set.sentinel, set.primaryName, pubsub, topic);
      drivers.push(one);
      const got = new Set<string>();
      while (got.size < 2) for (const text of await pubsub.consume(subscription, 1)) got.add(text);
      expect([...got].sort()).toEqual(["after", "before"]);
      const call = { signal: AbortSignal.timeout(15_000) };
      expect(await store.get(["nothing"], call)).toEqual([undefined]);
    });

    it("of a cluster: its replica takes over, and publishing and receiving go on", {
      timeout: 90_000,
    }, async () => {
      await using cluster = await startRedisCluster({ replicas: 1 });
      const pubsub = await fixtureOn(cluster.nodes.map(hostOf).join(","), { redisType: "cluster" });
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      await pubsub.publish(topic, ["before"]);
      const slot = await ask(cluster.nodes[0]!, "CLUSTER", "KEYSLOT", topic);
      const port = await primaryOf(cluster.nodes[0]!, Number(slot));
      await cluster.nodes.find((node) => node.port === port)!.kill();
      await until(() => pubsub.publish(topic, ["after"]).then(() => true), "publishing goes on", 30_000);
      const got = new Set<string>();
      while (!got.has("after")) for (const text of await pubsub.consume(subscription, 1)) got.add(text);
      expect(got.has("before")).toBe(true);
    });
  });
});

/** Everything that comes until the call ends. */
async function receiveAll(member: DriverSubscription, call: Call): Promise<Received[]> {
  const all: Received[] = [];
  while (!call.signal.aborted) all.push(...(await member.receive(10, call)));
  return all;
}

/** With one replica gone nobody can wait for replicas: a second driver publishes without. */
async function openPubSubLater(
  at: Place,
  name: string,
  pubsub: PubSubFixture,
  topic: string,
): Promise<PubSubDriver> {
  const fields = { failover: "true", sentinelMasterName: name };
  const driver = await until(() => openPubSub(at, fields), "the new primary is there", 20_000);
  await until(() => pubsub.publish(topic, ["after"], driver).then(() => true), "publishing goes on", 20_000);
  return driver;
}

/** The port of the primary that has a slot. */
async function primaryOf(node: Place, slot: number): Promise<number> {
  const ranges = (await ask(node, "CLUSTER", "SLOTS")) as [number, number, [string, number]][];
  return ranges.find(([from, to]) => slot >= from && slot <= to)![2][1];
}
