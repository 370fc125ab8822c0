import { afterAll, beforeAll, expect, it, onTestFinished, vi } from "vitest";
import { kafkaPubSub } from "../../src/components/kafka/components.ts";
import { reasonOf } from "../../src/faults.ts";
import { numbered, outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { type KafkaServer, startKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { openProxy } from "../servers/toxiproxy.ts";
import { openKafkaDriver } from "./kafka/driver.ts";
import { Member } from "./kafka/member.ts";
import { KafkaScene } from "./kafka/scene.ts";
import { openContext } from "./open-context.ts";

describeWith(["kafka", "toxiproxy"], "a Kafka that goes away and comes back", () => {
  let kafka: KafkaServer;

  beforeAll(async () => {
    kafka = await startKafka({ "log.retention.check.interval.ms": "100", "log.segment.bytes": "1048576" });
  }, 60_000);
  afterAll(() => kafka[Symbol.asyncDispose]());

  const { call, done, driver, fresh, join, take } = new KafkaScene(() => kafka.port);

  it("is waited for by publishes, and read again by itself; nothing that was acknowledged is lost", async () => {
    const topic = fresh("restart");
    const broker = await driver();
    const subscription = await join(broker, topic);
    await broker.publish(topic, numbered(5, "before "), call());
    const held = await take(subscription, 5);
    await kafka.kill();
    const publish = () => broker.publish(topic, [outgoing("meanwhile")], call());
    // On a busy machine the broker may take longer to start than a publish waits for it: then it is tried again.
    const waiting = publish().then((all) => (all[0] instanceof Error ? publish() : all), publish);
    await done(subscription, held);
    await kafka.restart();
    expect(await waiting).toMatchObject([{ position: "0:5" }]);
    await broker.publish(topic, [outgoing("after")], call());
    expect((await take(subscription, 2)).map(textOf)).toEqual(["meanwhile", "after"]);
  }, 60_000);

  it("lets a publish fail as unavailable when its caller or ten seconds have waited for nothing", async () => {
    const topic = fresh("away");
    const broker = await driver();
    await broker.publish(topic, [outgoing("there")], call());
    await kafka.kill();
    try {
      const impatient = broker
        .publish(topic, [outgoing("impatient")], call(300))
        .catch((error: unknown) => error);
      expect(broker.classify(await impatient)).toBe("cancelled");
      const startedAt = performance.now();
      const patient = await broker
        .publish(topic, [outgoing("patient")], call(60_000))
        .catch((error: unknown) => error);
      expect(broker.classify(patient)).toBe("unavailable");
      expect(performance.now() - startedAt).toBeLessThan(12_000);
    } finally {
      await kafka.restart();
    }
    await expect(broker.publish(topic, [outgoing("again")], call())).resolves.toMatchObject([{}]);
  }, 60_000);

  it("that is frozen for a while loses and repeats nothing for its publishers", async () => {
    const topic = fresh("frozen");
    const broker = await driver();
    await broker.publish(topic, [outgoing("0")], call());
    await kafka.freeze();
    const waiting = [1, 2, 3].map((n) => broker.publish(topic, [outgoing(`${n}`)], call()));
    await expect(broker.publish(topic, [], call(1000))).resolves.toEqual([]);
    await expect(broker.ping(call(1000))).rejects.toThrow();
    kafka.thaw();
    await Promise.all(waiting);
    const subscription = await join(broker, topic);
    expect((await take(subscription, 4)).map(textOf)).toEqual(["0", "1", "2", "3"]);
    expect(await subscription.receive(1, call(300))).toEqual([]);
  }, 60_000);

  it("that is away when a component opens is told, without what was configured to be secret", async () => {
    await kafka.kill();
    try {
      const settings = kafkaPubSub.schema.parse({
        brokers: `127.0.0.1:${kafka.port}`,
        authType: "password",
        saslUsername: "alice",
        saslPassword: "hunter2",
        disableTls: "true",
      });
      const opening = kafkaPubSub.configure(settings)(openContext());
      const error = await opening.catch((thrown: unknown) => thrown as Error);
      expect(String(error)).toContain(`127.0.0.1:${kafka.port}`);
      expect(String(error)).not.toContain("hunter2");
    } finally {
      await kafka.restart();
    }
  }, 60_000);

  it("finds the partitions that a topic gets while it is read, and reads them from their first event", async () => {
    const { Kafka, logLevel } = await import("kafkajs");
    const topic = fresh("growing");
    const broker = await driver({ clientConnectionTopicMetadataRefreshInterval: "200ms" });
    const subscription = await join(broker, topic, { start: "latest" });
    const client = new Kafka({ brokers: [`127.0.0.1:${kafka.port}`], logLevel: logLevel.NOTHING });
    const [admin, producer] = [client.admin(), client.producer()];
    await Promise.all([admin.connect(), producer.connect()]);
    onTestFinished(async () => void (await Promise.all([admin.disconnect(), producer.disconnect()])));
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
    await expect
      .poll(() =>
        producer.send({ topic, messages: [{ partition: 2, value: "new" }] }).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    const [received] = await take(subscription, 1);
    expect(received).toMatchObject({ partition: 2, offset: 0n, notCloudEvent: "there is no envelope" });
    expect(textOf(received!)).toBe("new");
  }, 60_000);

  it("counts what retention removed before it was settled, and goes on with what is left", async () => {
    const { Kafka, logLevel } = await import("kafkajs");
    const [topic, group] = [fresh("trimmed"), fresh("group")];
    const broker = await driver();
    const first = await join(broker, topic, { group });
    await broker.publish(topic, numbered(10), call());
    await done(first, await take(first, 2));
    await first.close();
    const admin = new Kafka({ brokers: [`127.0.0.1:${kafka.port}`], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    onTestFinished(() => admin.disconnect());
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "6" }] });
    const again = await join(broker, topic, { group });
    expect((await take(again, 4)).map(textOf)).toEqual(["6", "7", "8", "9"]);
    expect(await again.lag!(call())).toMatchObject({ events: 4, trimmedUnsettled: 4 });
  }, 60_000);

  it("takes no events from a sidecar whose clock is hours ahead, and says why, until the clock is right again", async () => {
    const topic = fresh("clock");
    const broker = await driver();
    await broker.publish(topic, [outgoing("before")], call());
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 3 * 3_600_000 });
    onTestFinished(() => void vi.useRealTimers());
    const [problem] = await broker.publish(topic, [outgoing("ahead")], call());
    expect({ reason: reasonOf(problem), text: String(problem) }).toMatchObject({
      reason: "COMPONENT_UNAVAILABLE",
      text: expect.stringContaining("clock"),
    });
    expect(broker.classify(problem)).toBe("unavailable");
    vi.useRealTimers();
    await expect(broker.publish(topic, [outgoing("after")], call())).resolves.toMatchObject([{}]);
    const subscription = await join(broker, topic);
    expect((await take(subscription, 2)).map(textOf)).toEqual(["before", "after"]);
  }, 60_000);

  it("keeps a member's place, and reads on in seconds, after a firewall has forgotten its connections", async () => {
    const [topic, group] = [fresh("silent"), fresh("group")];
    await using way = await openProxy(kafka.ports.proxied, kafka.ports.proxy);
    // What is on its way when the network falls silent would be waited for as long.
    const patient = { readTimeout: "60s", sessionTimeout: "9s", heartbeatInterval: "200ms" };
    const reader = await openKafkaDriver(way.port, patient);
    onTestFinished(() => reader.close());
    const subscription = await join(reader, topic, { group });
    const other = await driver();
    await other.publish(topic, [outgoing("before")], call());
    const held = await take(subscription, 1);
    await way.poison({ type: "timeout", timeout: 0 });
    await other.publish(topic, [outgoing("after")], call());
    // Reads and heartbeats are lost, and nothing tells the reader.
    expect(await subscription.receive(1, call(800))).toEqual([]);
    await way.mend();
    expect((await take(subscription, 1)).map(textOf)).toEqual(["after"]);
    await done(subscription, held);
    // Nobody else was made to begin where this one had been.
    const second = await join(other, topic, { group });
    expect(await second.receive(1, call(500))).toEqual([]);
  }, 60_000);

  it("gets nothing out of a member that was frozen for longer than its session, not even with an answer that came before", async () => {
    const [topic, group] = [fresh("frozen"), fresh("group")];
    await using way = await openProxy(kafka.ports.proxied, kafka.ports.proxy);
    const fields = { sessionTimeout: "6s", heartbeatInterval: "50ms" };
    const other = await driver({ ...fields, heartbeatInterval: "200ms" });
    await other.publish(topic, numbered(3), call());
    const member = await Member.start(way.port, topic, group, { ordered: false, fields });
    onTestFinished(() => member.kill("SIGKILL"));
    expect(await member.line()).toBe("received 0");
    // So that a heartbeat is under way most of the time, and its answer is read when the member goes on.
    await way.poison({ type: "latency", latency: 900 });
    const second = await join(other, topic, { group });
    expect(await second.receive(1, call(1500))).toEqual([]);
    member.kill("SIGSTOP");
    expect((await take(second, 3)).map(textOf)).toEqual(["0", "1", "2"]);
    member.kill("SIGCONT");
    member.say("settle");
    expect(await member.line()).toBe("settled");
    await other.publish(topic, [outgoing("3")], call());
    // It has read 1 and 2, but they are the other's; once that has left with them, it gets them anew.
    const next = member.line();
    expect(
      await Promise.race([next, second.receive(1, call(3000)).then((all) => all.map(textOf).join())]),
    ).toBe("3");
    await second.close();
    expect(await next).toBe("received 0");
  }, 60_000);
});
