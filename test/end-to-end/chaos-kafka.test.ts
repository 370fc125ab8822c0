import { Kafka, logLevel } from "kafkajs";
import { type KafkaServer, startKafka } from "../servers/kafka.ts";
import { chaosTest } from "./chaos.ts";
import { topic } from "./crash-test.ts";

chaosTest({
  needs: ["kafka"],
  type: "pubsub.kafka",
  start: () => startKafka({ "num.partitions": "4" }),
  metadata: (port) => ({
    brokers: `127.0.0.1:${port}`,
    sessionTimeout: "6s",
    heartbeatInterval: "500ms",
    commitInterval: "500ms",
  }),
  // The broker says where it is to be found, so there is one way to it.
  ways: (server) => {
    const { ports } = server as KafkaServer;
    return [{ upstream: ports.proxied, listen: ports.proxy }];
  },
  rewinds: true,
  async explain({ port }) {
    const admin = new Kafka({ brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const ends = await admin.fetchTopicOffsets(topic);
    const { groups } = await admin.listGroups();
    const told = groups.map(async ({ groupId }) => ({
      groupId,
      offsets: await admin.fetchOffsets({ groupId, topics: [topic] }),
      described: await admin.describeGroups([groupId]),
    }));
    const text = JSON.stringify({ ends, groups: await Promise.all(told) }, undefined, 1);
    await admin.disconnect();
    return text;
  },
});
