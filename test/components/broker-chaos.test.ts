import { expect, it } from "vitest";
import { type KafkaServer, startKafka } from "../servers/kafka.ts";
import { startNats } from "../servers/nats.ts";
import { startPostgresql } from "../servers/postgresql.ts";
import { startRedis } from "../servers/redis.ts";
import { describeWith, type Need } from "../servers/require.ts";
import { type Broker, chaos } from "./broker-chaos.ts";
import { openPubSub as openJetStream } from "./jetstream-server.ts";
import { openKafkaDriver } from "./kafka/driver.ts";
import { Schema } from "./postgresql-schema.ts";
import { openPubSub as openRedis } from "./redis-drivers.ts";

/** Longer, and again as it was: OUTRIDER_CRASH_SECONDS=60 OUTRIDER_TEST_SEED=42 npx vitest run test/components/broker-chaos.test.ts */
const seconds = Number(process.env["OUTRIDER_CRASH_SECONDS"] ?? 8);
const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Math.floor(Math.random() * 1e9));

const brokers: Record<string, Broker & { readonly need: Need }> = {
  "pubsub.postgresql": {
    need: "postgresql",
    start: () => startPostgresql({ fsync: "off" }),
    open: (port) =>
      new Schema(`postgresql://postgres@127.0.0.1:${port}/postgres`).pubsub({ schema: "log", timeout: "1s" }),
  },
  "pubsub.redis": {
    need: "redis",
    start: () => startRedis(),
    open: (port) => openRedis({ host: "127.0.0.1", port }),
  },
  "pubsub.kafka": {
    need: "kafka",
    start: () => startKafka(),
    open: (port) =>
      openKafkaDriver(port, { sessionTimeout: "6s", heartbeatInterval: "500ms", topicPartitions: "4" }),
    rewinds: true,
    way: (server) => {
      const { ports } = server as KafkaServer;
      return { upstream: ports.proxied, listen: ports.proxy };
    },
  },
  "pubsub.jetstream": {
    need: "nats",
    start: () => startNats(),
    // A server that is killed forgets what was settled in its last moments.
    spared: true,
    open: (port) => openJetStream({ natsURL: `nats://127.0.0.1:${port}` }),
  },
};

for (const [type, { need, ...broker }] of Object.entries(brokers)) {
  describeWith(
    [need, "toxiproxy"],
    `${type} under load, while its server is killed, frozen and cut off`,
    () => {
      it("loses nothing and keeps the order of each key", { timeout: seconds * 2000 + 150_000 }, async () => {
        const { acknowledged, disturbances, missing, overtaken, received } = await chaos(
          broker,
          seed,
          seconds * 1000,
        );
        const happened = `OUTRIDER_TEST_SEED=${seed}: ${received} received; ${disturbances.join(", ")}`;
        expect({ missing, overtaken }, happened).toEqual({ missing: [], overtaken: [] });
        expect(acknowledged, happened).toBeGreaterThan(100);
        expect(disturbances.length, happened).toBeGreaterThan(0);
      });
    },
  );
}
