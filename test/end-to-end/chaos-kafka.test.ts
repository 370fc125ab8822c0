import { type KafkaServer, startKafka } from "../servers/kafka.ts";
import { chaosTest } from "./chaos.ts";

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
});
