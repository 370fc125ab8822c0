/** What must not keep a group of Kafka from going on. */
import {
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  type Admin,
  Kafka,
  logLevel,
  ResourcePatternTypes,
} from "kafkajs";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { DriverSubscription } from "../../src/blocks/pubsub/driver.ts";
import { numbered, outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { type KafkaServer, startKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { openProxy } from "../servers/toxiproxy.ts";
import { KafkaScene } from "./kafka/scene.ts";

/** Who may be refused something. */
const alice = {
  authType: "password",
  saslUsername: "alice",
  saslPassword: "secret",
  disableTls: "true",
};

describeWith(["kafka", "toxiproxy"], "a group of Kafka", () => {
  let kafka: KafkaServer;
  let admin: Admin;

  beforeAll(async () => {
    kafka = await startKafka();
    admin = new Kafka({ brokers: [`127.0.0.1:${kafka.port}`], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
  }, 60_000);
  afterAll(async () => {
    await admin.disconnect();
    await kafka[Symbol.asyncDispose]();
  });

  const { call, done, driver, fresh, join, take } = new KafkaScene(() => kafka.port, {}, 30_000);
  const asAlice = new KafkaScene(() => kafka.ports.sasl, alice, 30_000);

  /** Lets a user do this to a topic, and everybody else nothing. */
  const allow = (topic: string, operation: AclOperationTypes, user = "alice") =>
    admin.createAcls({
      acl: [
        {
          resourceType: AclResourceTypes.TOPIC,
          resourceName: topic,
          resourcePatternType: ResourcePatternTypes.LITERAL,
          principal: `User:${user}`,
          host: "*",
          operation,
          permissionType: AclPermissionTypes.ALLOW,
        },
      ],
    });
  const everything = async (subscriptions: readonly DriverSubscription[], count: number) => {
    const taken: string[] = [];
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, call().signal]);
    await Promise.all(
      subscriptions.map(async (each) => {
        while (!signal.aborted) {
          const batch = await each.receive(10, { signal });
          taken.push(...batch.map(textOf));
          await done(each, batch);
          if (taken.length >= count) over.abort();
        }
      }),
    );
    return taken.sort();
  };

  it("goes on with its other topics when one may not be used any more, and says so to who opens that", async () => {
    const [good, bad, group] = [fresh("good"), fresh("bad"), fresh("group")];
    const plain = await driver({ topicPartitions: "2" });
    for (const topic of [good, bad]) await plain.publish(topic, numbered(2), call());
    const first = await asAlice.driver();
    const one = await join(first, good, { group });
    await join(first, bad, { group });
    await done(one, await take(one, 2));
    await allow(bad, AclOperationTypes.READ, "bob");
    const second = await asAlice.driver();
    const other = await join(second, good, { group });
    for (const partition of [0, 1])
      await plain.publish(good, [outgoing(`${partition}`, { partition })], call());
    expect(await everything([one, other], 2)).toEqual(["0", "1"]);
    await expect(join(second, bad, { group: fresh("group") })).rejects.toThrow(
      /may not be used|AUTHORIZATION/,
    );
  }, 60_000);

  it("is told when it may see a topic but not read it, and reads the others of a pattern", async () => {
    const name = fresh("pattern").replaceAll("-", "");
    const [good, bad] = [`${name}.good`, `${name}.bad`];
    const plain = await driver();
    for (const topic of [good, bad]) await plain.publish(topic, [outgoing(topic)], call());
    await allow(bad, AclOperationTypes.DESCRIBE);
    const broker = await asAlice.driver();
    await expect(join(broker, bad)).rejects.toThrow(/AUTHORIZATION/);
    const all = await join(broker, `${name}.*`);
    expect((await take(all, 1)).map(textOf)).toEqual([good]);
    const group = fresh("group");
    await join(broker, good, { group });
    await expect(join(broker, bad, { group })).rejects.toThrow(/AUTHORIZATION/);
    await allow(bad, AclOperationTypes.READ);
    expect((await take(all, 1)).map(textOf)).toEqual([bad]);
    expect((await take(await join(broker, bad, { group }), 1)).map(textOf)).toEqual([bad]);
  }, 60_000);

  it("is told that it may not publish to a topic that it may read", async () => {
    const topic = fresh("read-only");
    const plain = await driver();
    await plain.publish(topic, [outgoing("there")], call());
    await allow(topic, AclOperationTypes.READ);
    const broker = await asAlice.driver();
    const [answer] = await broker.publish(topic, [outgoing("no")], call());
    expect(broker.classify(answer)).toBe("refused");
    expect(String(answer)).toContain(`the topic "${topic}" refuses events`);
    expect(String(answer)).toContain("TOPIC_AUTHORIZATION_FAILED");
    const subscription = await join(broker, topic);
    expect((await take(subscription, 1)).map(textOf)).toEqual(["there"]);
  }, 60_000);

  it("commits what was settled of each of its topics when it leaves them all at once", async () => {
    const group = fresh("group");
    const topics = ["a", "b", "c", "d", "e"].map(fresh);
    const first = await driver({ commitInterval: "1h" });
    const all = await Promise.all(topics.map((topic) => join(first, topic, { group })));
    for (const [index, topic] of topics.entries()) {
      await first.publish(topic, numbered(2), call());
      await done(all[index]!, await take(all[index]!, 2));
    }
    await Promise.all(all.map((each) => each.close()));
    const second = await driver();
    for (const topic of topics) {
      const again = await join(second, topic, { group });
      expect((await again.lag!(call())).events).toBe(0);
    }
  }, 60_000);

  it("passes over nothing of a topic that is deleted and made anew while it is read", async () => {
    const [topic, group] = [fresh("anew"), fresh("group")];
    const reader = await driver({ commitInterval: "50ms" });
    const subscription = await join(reader, topic, { group });
    await reader.publish(topic, numbered(20, "old "), call());
    const held = await take(subscription, 20);
    await done(
      subscription,
      held.filter((_, index) => index < 10 || index >= 12),
    );
    await admin.deleteTopics({ topics: [topic] });
    const publish = () => reader.publish(topic, [outgoing("new 0")], call()).catch(() => []);
    await expect.poll(async () => (await publish())[0]).toEqual({ position: "0:0" });
    const [first] = await take(subscription, 1);
    expect(textOf(first!)).toBe("new 0");
    const others = Array.from({ length: 24 }, (_, index) => `new ${index + 1}`);
    await reader.publish(
      topic,
      others.map((text) => outgoing(text)),
      call(),
    );
    const rest = await take(subscription, 24);
    expect(rest.map(textOf)).toEqual(others);
    // The first is not settled, so the group is there, whatever it held of what was deleted.
    await done(subscription, rest);
    const position = async () =>
      (await admin.fetchOffsets({ groupId: group, topics: [topic] }))[0]!.partitions[0];
    await expect
      .poll(position)
      .toMatchObject({ offset: "0", metadata: expect.stringContaining("outrider1") });
    await done(subscription, [first!, ...held.slice(10, 12)]);
    await expect.poll(position).toMatchObject({ offset: "25" });
  }, 60_000);

  it("is read over a network that is too narrow for as much as is asked for at once", async () => {
    const topic = fresh("narrow");
    const publisher = await driver();
    for (let index = 0; index < 60; index++)
      await publisher.publish(topic, [outgoing("x".repeat(10_000))], call());
    await using way = await openProxy(kafka.ports.proxied, kafka.ports.proxy);
    const far = new KafkaScene(() => way.port);
    const subscription = await join(await far.driver({ readTimeout: "1s" }), topic);
    await way.poison({ type: "bandwidth", rate: 200 });
    expect(await take(subscription, 60, call(50_000))).toHaveLength(60);
  }, 60_000);
});
