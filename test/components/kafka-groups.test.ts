import { Kafka, logLevel } from "kafkajs";
import { pino } from "pino";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import type { DriverSubscription, PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { numbered, outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";
import { openKafkaDriver } from "./kafka/driver.ts";
import { Member } from "./kafka/member.ts";
import { KafkaScene } from "./kafka/scene.ts";

describeWith("kafka", "a group of Kafka over several partitions", () => {
  let port = 0;

  beforeAll(async () => {
    ({ port } = await sharedKafka());
  }, 60_000);

  const { call, done, driver, fresh, take, ...scene } = new KafkaScene(
    () => port,
    { topicPartitions: "4" },
    15_000,
  );
  const join = (from: PubSubDriver, topic: string, group: string, ordered = true) =>
    scene.join(from, topic, { group, ordered });

  it("gives every member a share, and loses, doubles and disorders nothing while members come and go", async () => {
    const [topic, group] = [fresh("shared"), fresh("group")];
    const [keys, perKey] = [20, 60];
    const publisher = await driver();
    const next = new Map<string, number>();
    const mistakes: string[] = [];
    const by = new Map<number, number>();
    let left = keys * perKey;
    const finished = new AbortController();

    const consume = async (member: number, subscription: DriverSubscription, leave: AbortSignal) => {
      const signal = AbortSignal.any([finished.signal, leave, call(30_000).signal]);
      while (!signal.aborted) {
        const batch = await subscription.receive(5, { signal });
        for (const received of batch) {
          const [key, index] = textOf(received).split(":") as [string, string];
          const expected = next.get(key) ?? 0;
          if (Number(index) !== expected)
            mistakes.push(`member ${member}: ${key}:${index}, expected ${expected}`);
          next.set(key, expected + 1);
          left -= 1;
          by.set(member, (by.get(member) ?? 0) + 1);
        }
        await done(subscription, batch);
        if (left === 0) finished.abort();
      }
      await subscription.close();
    };

    const leaveFirst = new AbortController();
    const never = new AbortController().signal;
    const running = [consume(0, await join(await driver(), topic, group), leaveFirst.signal)];
    for (let index = 0; index < perKey; index += 1) {
      const batch = Array.from({ length: keys }, (_, key) =>
        outgoing(`k${key}:${index}`, { key: `k${key}` }),
      );
      await publisher.publish(topic, batch, call());
      if (index === 10) running.push(consume(1, await join(await driver(), topic, group), never));
      if (index === 25) running.push(consume(2, await join(await driver(), topic, group), never));
      if (index === 40) leaveFirst.abort();
    }
    await Promise.all(running);
    expect(mistakes).toEqual([]);
    expect(left).toBe(0);
    expect([...next.values()]).toEqual(new Array(keys).fill(perKey));
    expect([...by.keys()].sort()).toEqual([0, 1, 2]);
  }, 60_000);

  it("moves a partition only when what is out of it has been settled", async () => {
    const [topic, group] = [fresh("moving"), fresh("group")];
    const [first, second] = [await driver(), await driver()];
    const one = await join(first, topic, group, false);
    for (const partition of [0, 1, 2, 3]) {
      await first.publish(topic, [outgoing(`p${partition}`, { partition })], call());
    }
    const held = await take(one, 4);
    const other = await join(second, topic, group, false);
    // Two of the four are to move; the newcomer gets nothing of them while they are held.
    expect(await other.receive(10, call(500))).toEqual([]);
    await done(one, held);
    for (const partition of [0, 1, 2, 3]) {
      await first.publish(topic, [outgoing(`q${partition}`, { partition })], call());
    }
    const shares = await Promise.all([take(one, 2), take(other, 2)]);
    expect(shares.flat().map(textOf).sort()).toEqual(["q0", "q1", "q2", "q3"]);
  }, 30_000);

  it.each(["SIGKILL", "SIGSTOP"] as const)(
    "takes over from a member after %s when its session ends, and counts nothing that it settles later",
    async (signal) => {
      const [topic, group] = [fresh("silent"), fresh("group")];
      const other = await driver({ sessionTimeout: "2s", heartbeatInterval: "200ms", topicPartitions: "1" });
      await other.publish(topic, [outgoing("a0", { key: "a" }), outgoing("a1", { key: "a" })], call());
      const member = await Member.start(port, topic, group);
      onTestFinished(() => member.kill("SIGKILL"));
      expect(await member.line()).toBe("received a0");
      const two = await join(other, topic, group);
      member.kill(signal);
      const taken = await take(two, 1, call(12_000));
      expect(taken.map(textOf)).toEqual(["a0"]);
      if (signal === "SIGSTOP") {
        member.kill("SIGCONT");
        member.say("settle");
        expect(await member.line()).toBe("settled");
        // What it settled is still out here, so its key waits.
        expect(await two.receive(1, call(300))).toEqual([]);
      }
      await done(two, taken);
      expect((await take(two, 1)).map(textOf)).toEqual(["a1"]);
    },
    30_000,
  );

  it("is shared out once when a topic is added, and once when a topic grows", async () => {
    const [one, two, group, found] = [fresh("one"), fresh("two"), fresh("group"), fresh("found")];
    let rounds = 0;
    const write = (line: string) => {
      const { msg, group: which } = JSON.parse(line) as { msg: string; group?: string };
      if (msg === "joined the group" && which === group) rounds += 1;
    };
    const telemetry = { ...quietTelemetry(), log: pino({ level: "debug" }, { write }) };
    const member = await openKafkaDriver(port, { topicPartitions: "1" }, { telemetry });
    onTestFinished(() => member.close());
    const looking = await join(member, `${found}.*`, group);
    await join(member, one, group);
    const second = await join(member, two, group);
    const before = rounds;
    // Who finds a topic has looked for news of all the others.
    for (const topic of [`${found}.a`, `${found}.b`]) {
      await member.publish(topic, [outgoing(topic)], call());
      expect((await take(looking, 1)).map(textOf)).toEqual([topic]);
    }
    const admin = new Kafka({ brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.createPartitions({ topicPartitions: [{ topic: two, count: 2 }] });
    await admin.disconnect();
    const grown = () => member.publish(two, [outgoing("grown", { partition: 1 })], call());
    await expect.poll(async () => (await grown())[0] instanceof Error, { timeout: 15_000 }).toBe(false);
    expect((await take(second, 1)).map(textOf)).toEqual(["grown"]);
    expect(rounds - before).toBe(1);
  }, 60_000);

  it("has the partitions of a member that leaves at once, and does not wait for its session to end", async () => {
    const [topic, group] = [fresh("leaving"), fresh("group")];
    const fields = { sessionTimeout: "60s", heartbeatInterval: "200ms" };
    const [first, second] = [await driver(fields), await driver(fields)];
    const one = await join(first, topic, group);
    const other = await join(second, topic, group);
    for (const partition of [0, 1, 2, 3])
      await first.publish(topic, [outgoing(`p${partition}`, { partition })], call());
    const [held] = await take(one, 1);
    await first.close();
    // What it held comes again, and the other's own come as well, long before a minute is over.
    expect((await take(other, 4)).map(textOf).sort()).toEqual(["p0", "p1", "p2", "p3"]);
    expect(held).toBeDefined();
  }, 30_000);

  it("goes to the partition that it is told to, and refuses one that there is not, alone", async () => {
    const topic = fresh("partition");
    const publisher = await driver();
    const results = await publisher.publish(
      topic,
      [
        outgoing("two", { partition: 2 }),
        outgoing("nine", { partition: 9 }),
        outgoing("three", { partition: 3 }),
      ],
      call(),
    );
    expect(results[0]).toEqual({ position: "2:0" });
    expect(results[1]).toBeInstanceOf(Error);
    expect((results[1] as Error).message).toContain("there is no partition 9: the topic has 4");
    expect(results[2]).toEqual({ position: "3:0" });
  });

  it("keeps a key in its partition, and tells where each event is", async () => {
    const topic = fresh("keys");
    const publisher = await driver();
    const results = await publisher.publish(topic, numbered(10, "x", "key"), call());
    const partitions = new Set(
      results.map((result) => (result as { position: string }).position.split(":")[0]),
    );
    expect(partitions.size).toBe(1);
  });

  it("begins at an offset of each partition, when they are given", async () => {
    const topic = fresh("offsets");
    const publisher = await driver();
    for (const partition of [0, 1]) {
      const events = [0, 1, 2].map((index) => outgoing(`${partition}/${index}`, { partition }));
      await publisher.publish(topic, events, call());
    }
    const start = { at: "position", position: "0:1,1:0" } as const;
    const subscription = await publisher.open(
      { topic, group: fresh("group"), start, ordered: false, raw: false },
      call(),
    );
    expect((await take(subscription, 3)).map(textOf).sort()).toEqual(["0/2", "1/1", "1/2"]);
  });

  it("tells the lag of each partition", async () => {
    const topic = fresh("lag");
    const publisher = await driver();
    const subscription = await join(publisher, topic, fresh("group"));
    for (const partition of [1, 1, 3])
      await publisher.publish(topic, [outgoing("event", { partition })], call());
    expect((await subscription.lag!(call())).partitions?.map(({ events }) => events)).toEqual([0, 2, 0, 1]);
  });

  it("refuses an event that is larger than allowed, and takes the others of the call", async () => {
    const topic = fresh("large");
    const publisher = await driver({ maxMessageBytes: "10000" });
    const results = await publisher.publish(
      topic,
      [outgoing("small"), outgoing("x".repeat(20_000)), outgoing("also")],
      call(),
    );
    expect(results.map((result) => result instanceof Error)).toEqual([false, true, false]);
    expect((results[1] as Error).message).toContain("maxMessageBytes (10000) allows");
  });

  it("says which topic does not exist, where none is made", async () => {
    const publisher = await driver({ createTopics: "false" });
    const topic = fresh("missing");
    await expect(publisher.publish(topic, [outgoing("event")], call())).rejects.toThrow(
      `the topic "${topic}" does not exist: this component is told not to make any (createTopics)`,
    );
  });

  it.each(["gzip", "snappy", "lz4", "zstd"])("carries events compressed with %s", async (compression) => {
    const topic = fresh(compression);
    const publisher = await driver({ compression });
    const subscription = await join(publisher, topic, fresh("group"), false);
    const texts = Array.from({ length: 300 }, (_, i) => `event ${i} `.repeat(10));
    await publisher.publish(
      topic,
      texts.map((text) => outgoing(text)),
      call(),
    );
    expect((await take(subscription, 300)).map(textOf).sort()).toEqual(texts.toSorted());
  });

  it("keeps events that are to be tried much later in topics, through restarts, and no other group gets them", async () => {
    const [topic, group] = [fresh("later"), fresh("group")];
    const broker = await driver({ retryTopics: "200ms,700ms", topicPartitions: "2" });
    const first = await join(broker, topic, group, false);
    const other = await join(broker, topic, fresh("other"), false);
    await broker.publish(topic, [outgoing("event", { key: "k", headers: { h: "v" } })], call());
    const [received] = await take(first, 1);
    await done(other, await take(other, 1));
    const settledAt = performance.now();
    await first.settle([{ receipt: received!.receipt, kind: "again", delayMs: 800 }], call());
    await first.close();
    const again = await join(broker, topic, group, false);
    const [second] = await take(again, 1);
    expect(performance.now() - settledAt).toBeGreaterThanOrEqual(798);
    expect(second).toMatchObject({ topic, key: "k", headers: { h: "v" }, attempt: 2 });
    expect(second!.publishedAtMs).toBe(received!.publishedAtMs);
    await again.settle([{ receipt: second!.receipt, kind: "again", delayMs: 300 }], call());
    const [third] = await take(again, 1);
    expect(third!.attempt).toBe(3);
    await done(again, [third!]);
    expect(await again.receive(1, call(500))).toEqual([]);
    expect(await other.receive(1, call(100))).toEqual([]);
    expect((await again.lag!(call())).events).toBe(0);
  }, 30_000);
});
