import { type Admin, AssignerProtocol, Kafka, logLevel } from "kafkajs";
import { pino } from "pino";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";
import { openKafkaDriver } from "./kafka/driver.ts";
import { Member } from "./kafka/member.ts";
import { KafkaScene } from "./kafka/scene.ts";

const sessionMs = 30_000;
/** No heartbeat of the tests is late by accident, and no session ends in one. */
const patient = { sessionTimeout: "30s", heartbeatInterval: "200ms" };

describeWith("kafka", "members of a group of Kafka that have a name (groupInstanceId)", () => {
  let port = 0;
  let admin: Admin;

  beforeAll(async () => {
    ({ port } = await sharedKafka());
    admin = new Kafka({ brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
  }, 60_000);
  afterAll(() => admin.disconnect());

  const { call, done, fresh, join, take } = new KafkaScene(() => port, {}, 25_000);

  /** A driver, and in which generations of the group it was. */
  const opened = async (fields: Readonly<Record<string, string>>) => {
    const generations: number[] = [];
    const write = (line: string) => {
      const { msg, generation } = JSON.parse(line) as { msg: string; generation?: number };
      if (msg === "joined the group") generations.push(generation!);
    };
    const telemetry = { ...quietTelemetry(), log: pino({ level: "debug" }, { write }) };
    const driver = await openKafkaDriver(port, { ...patient, ...fields }, { telemetry });
    onTestFinished(() => driver.close());
    return { driver, generations };
  };

  const start = async (topic: string, group: string, groupInstanceId: string, more = {}): Promise<Member> => {
    const fields = { ...patient, groupInstanceId, ...more };
    const member = await Member.start(port, topic, group, { fields });
    onTestFinished(() => member.kill("SIGKILL"));
    return member;
  };

  /** The partitions of each member of a group, by the beginning of its id, when all have some. */
  const shares = async (group: string): Promise<Record<string, readonly number[]>> => {
    const { members } = (await admin.describeGroups([group])).groups[0]!;
    return Object.fromEntries(
      members.map(({ memberId, memberAssignment }) => {
        const assignment = AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment ?? {};
        return [memberId.slice(0, -37), Object.values(assignment).flat().sort()];
      }),
    );
  };

  const publish = (driver: PubSubDriver, topic: string, partition: number, text: string) =>
    driver.publish(topic, [outgoing(text, { partition })], call());

  it("go on at once with what they had when they are killed and come back, and the others notice nothing", async () => {
    const [topic, group] = [fresh("killed"), fresh("group")];
    const { driver, generations } = await opened({ groupInstanceId: "other", topicPartitions: "4" });
    const subscription = await join(driver, topic, { group });
    const first = await start(topic, group, "one");
    await expect
      .poll(async () => Object.values(await shares(group)).map(({ length }) => length), { timeout: 25_000 })
      .toEqual([2, 2]);
    const before = await shares(group);
    const partition = before.one![0]!;
    await publish(driver, topic, partition, "held");
    expect(await first.line()).toBe("received held");
    const rounds = generations.length;
    const killedAt = performance.now();
    first.kill("SIGKILL");
    const again = await start(topic, group, "one");
    expect(await again.line()).toBe("received held");
    expect(performance.now() - killedAt).toBeLessThan(sessionMs / 2);
    again.say("settle");
    expect(await again.line()).toBe("settled");
    await publish(driver, topic, before.one![1]!, "next");
    expect(await again.line()).toBe("received next");
    await publish(driver, topic, before.other![0]!, "mine");
    expect((await take(subscription, 1)).map(textOf)).toEqual(["mine"]);
    expect(await shares(group)).toEqual(before);
    expect(generations.slice(rounds)).toEqual([]);
  }, 60_000);

  it("put out who has the same name: it stops, says so, loses nothing, and goes on when the place is free", async () => {
    const [one, two, group] = [fresh("one"), fresh("two"), fresh("group")];
    // As usual, there is time to ask for the second topic before the group is asked about it.
    const twin = { groupInstanceId: "twin", topicRefreshInterval: "10s" };
    const first = await opened(twin);
    const [firstOne, firstTwo] = [
      await join(first.driver, one, { group }),
      await join(first.driver, two, { group }),
    ];
    for (const topic of [one, two]) await publish(first.driver, topic, 0, "held");
    const held = await Promise.all([take(firstOne, 1), take(firstTwo, 1)]);
    const second = await opened(twin);
    const secondOne = await join(second.driver, one, { group });
    const secondTwo = await join(second.driver, two, { group });
    const taken = await Promise.all([take(secondOne, 1), take(secondTwo, 1)]);
    expect(taken.flat().map(textOf)).toEqual(["held", "held"]);
    // It has the share of both topics, and nobody shared out anew.
    expect(new Set(second.generations)).toEqual(new Set(first.generations.slice(-1)));
    await expect.poll(() => firstOne.trouble).toContain('the same groupInstanceId "twin"');
    await done(firstOne, held[0]);
    for (let index = 0; index < 20; index += 1) await publish(first.driver, one, 0, `event ${index}`);
    const rest = await take(secondOne, 20);
    expect(rest.map(textOf)).toEqual(Array.from({ length: 20 }, (_, index) => `event ${index}`));
    expect(await firstOne.receive(1, call(500))).toEqual([]);
    // Who subscribes here anew does not take the place either.
    await firstOne.close();
    await firstTwo.close();
    const anew = await join(first.driver, one, { group });
    expect(await anew.receive(1, call(500))).toEqual([]);
    expect(anew.trouble).toContain("twin");
    expect(secondOne.trouble).toBe("");
    await done(secondOne, [...taken[0], ...rest.slice(0, 19)]);
    await second.driver.close();
    expect((await take(anew, 1)).map(textOf)).toEqual(["event 19"]);
    expect(anew.trouble).toBe("");
  }, 60_000);

  it("give their partitions away at once when they leave on purpose", async () => {
    const [topic, group] = [fresh("leaving"), fresh("group")];
    const first = await opened({ groupInstanceId: "one", sessionTimeout: "60s", topicPartitions: "4" });
    const second = await opened({ groupInstanceId: "two", sessionTimeout: "60s" });
    const held = await join(first.driver, topic, { group });
    const other = await join(second.driver, topic, { group });
    for (const partition of [0, 1, 2, 3]) await publish(first.driver, topic, partition, `p${partition}`);
    expect(await take(held, 1)).toHaveLength(1);
    await first.driver.close();
    expect((await take(other, 4)).map(textOf).sort()).toEqual(["p0", "p1", "p2", "p3"]);
  }, 60_000);

  it("ask for a new share when they come back for other topics, or to more partitions", async () => {
    const [before, after, group] = [fresh("before"), fresh("after"), fresh("group")];
    const { driver } = await opened({});
    for (const topic of [before, after]) await publish(driver, topic, 0, "first");
    const first = await start(before, group, "one");
    expect(await first.line()).toBe("received first");
    first.kill("SIGKILL");
    const second = await start(after, group, "one", { topicRefreshInterval: "1h" });
    expect(await second.line()).toBe("received first");
    second.say("settle");
    expect(await second.line()).toBe("settled");
    const position = () => admin.fetchOffsets({ groupId: group, topics: [after] });
    await expect
      .poll(position, { timeout: 10_000 })
      .toMatchObject([{ partitions: [{ partition: 0, offset: "1" }] }]);
    second.kill("SIGKILL");
    await admin.createPartitions({ topicPartitions: [{ topic: after, count: 2 }] });
    const third = await start(after, group, "one");
    // A driver keeps in mind for minutes what partitions there are.
    const { driver: fromNow } = await opened({});
    expect(await publish(fromNow, after, 1, "new")).toEqual([{ position: "1:0" }]);
    expect(await third.line()).toBe("received new");
  }, 60_000);
});
