import { once } from "node:events";
import { connect, createServer } from "node:net";
import { Kafka, logLevel } from "kafkajs";
import { expect, it, onTestFinished } from "vitest";
import { outgoing } from "../conformance/pubsub/fixture.ts";
import { type KafkaServer, startKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { KafkaScene } from "./kafka/scene.ts";

/** Counts what clients send to a broker by way of the port where it says that it is found. */
async function countedWay({ ports }: KafkaServer): Promise<{ readonly sentBytes: number }> {
  const way = { sentBytes: 0 };
  const server = createServer((client) => {
    const upstream = connect(ports.proxied, "127.0.0.1");
    client.on("data", ({ length }) => {
      way.sentBytes += length;
    });
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream]) socket.on("error", () => socket.destroy());
  });
  server.listen(ports.proxy, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return way;
}

describeWith("kafka", "a Kafka topic that an operator deletes while it is published to", () => {
  it("is refused to publishers, and the broker is not asked for it again and again", async () => {
    await using kafka = await startKafka();
    const way = await countedWay(kafka);
    const { call, driver, fresh } = new KafkaScene(() => kafka.ports.proxy, { createTopics: "false" });
    const topic = fresh("deleted");
    const admin = new Kafka({ brokers: [`127.0.0.1:${kafka.port}`], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    onTestFinished(() => admin.disconnect());
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
    const broker = await driver();
    await expect(broker.publish(topic, [outgoing("there")], call())).resolves.toMatchObject([{}]);
    const pings = async (count: number) => {
      const before = way.sentBytes;
      for (let ping = 0; ping < count; ping++) await broker.ping(call());
      return way.sentBytes - before;
    };
    const bytesOfOne = await pings(1);
    await admin.deleteTopics({ topics: [topic] });
    const [refused] = await broker.publish(topic, [outgoing("gone")], call());
    expect(String(refused)).toContain(`the topic "${topic}" does not exist`);
    expect(await pings(20)).toBe(20 * bytesOfOne);
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
    await expect(broker.publish(topic, [outgoing("back")], call())).resolves.toMatchObject([{}]);
  }, 60_000);
});
