/** The servers that want to know who comes, and those that are several. */
import { readFileSync } from "node:fs";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { Cluster, Redis } from "ioredis";
import { Kafka, type KafkaConfig, logLevel } from "kafkajs";
import { Client } from "pg";
import { expect, it } from "vitest";
import { type Certificate, certificates } from "./certificates.ts";
import { sharedKafka } from "./kafka.ts";
import { sharedSecureNats } from "./nats.ts";
import { sharedPooler } from "./pgbouncer.ts";
import { sharedPostgresql } from "./postgresql.ts";
import { sharedSecureRedis } from "./redis.ts";
import { sharedRedisCluster, startRedisCluster } from "./redis-cluster.ts";
import { startRedisSentinel } from "./redis-sentinel.ts";
import { describeWith } from "./require.ts";

async function tlsOf(certificate?: Certificate) {
  const { ca } = await certificates();
  const pair = certificate && { cert: readFileSync(certificate.cert), key: readFileSync(certificate.key) };
  return { ca: readFileSync(ca), ...pair };
}

describeWith(["kafka", "openssl"], "Kafka's listeners", () => {
  const topicsOf = async (config: Omit<KafkaConfig, "logLevel">) => {
    const admin = new Kafka({ ...config, retry: { retries: 0 }, logLevel: logLevel.NOTHING }).admin();
    try {
      await admin.connect();
      return await admin.listTopics();
    } finally {
      await admin.disconnect();
    }
  };

  it("take passwords by every mechanism, and refuse wrong ones", async () => {
    const { ports } = await sharedKafka();
    const brokers = [`127.0.0.1:${ports.sasl}`];
    const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const token = `${encoded({ alg: "none" })}.${encoded({ sub: "alice", iat: now, exp: now + 600 })}.`;
    const oauthBearerProvider = async () => ({ value: token });
    const alice = { username: "alice", password: "secret" };
    for (const mechanism of ["plain", "scram-sha-256", "scram-sha-512"] as const) {
      await topicsOf({ brokers, sasl: { mechanism, ...alice } as KafkaConfig["sasl"] });
    }
    await topicsOf({ brokers, sasl: { mechanism: "oauthbearer", oauthBearerProvider } });
    await expect(
      topicsOf({ brokers, sasl: { mechanism: "plain", ...alice, password: "wrong" } }),
    ).rejects.toThrow(/uthentication/);
  });

  it("take certificates, and refuse those that expired or are of another authority", async () => {
    const [{ ports }, { client, expired, foreignClient }] = await Promise.all([
      sharedKafka(),
      certificates(),
    ]);
    await topicsOf({ brokers: [`localhost:${ports.tls}`], ssl: await tlsOf() });
    const mutual = async (certificate?: Certificate) =>
      topicsOf({ brokers: [`localhost:${ports.mutualTls}`], ssl: await tlsOf(certificate) });
    await mutual(client);
    for (const wrong of [expired, foreignClient, undefined]) await expect(mutual(wrong)).rejects.toThrow();
  });
});

describeWith(["redis", "openssl"], "Redis with users and TLS", () => {
  it("lets alice at her keys, and nobody else in", async () => {
    const { port, tlsPort } = await sharedSecureRedis();
    const alice = { username: "alice", password: "secret" };
    const redis = new Redis({ port: tlsPort, tls: await tlsOf(), ...alice });
    await redis.set("app:key", "value");
    await expect(redis.set("other", "value")).rejects.toThrow("NOPERM");
    redis.disconnect();
    const stranger = new Redis({ port, lazyConnect: true, retryStrategy: null });
    // Its handshake is refused as well, which it tells here.
    stranger.on("error", () => {});
    await expect(stranger.get("app:key")).rejects.toThrow("NOAUTH");
    stranger.disconnect();
  });
});

describeWith("redis", "Redis Cluster", () => {
  it("spreads keys over three nodes", async () => {
    const { nodes } = await sharedRedisCluster();
    expect(nodes).toHaveLength(3);
    const cluster = new Cluster([...nodes]);
    for (let index = 0; index < 20; index += 1) await cluster.set(`key-${index}`, "value");
    expect(await cluster.get("key-7")).toBe("value");
    cluster.disconnect();
  });

  it("gives the place of a primary that is killed to its replica", async () => {
    await using cluster = await startRedisCluster({ replicas: 1 });
    const client = new Cluster(
      cluster.nodes.map(({ host, port }) => ({ host, port })),
      {
        clusterRetryStrategy: () => 100,
      },
    );
    await client.set("key", "value");
    await cluster.nodes[0]!.kill();
    const write = async () => {
      for (const key of ["a", "b", "c", "d", "e", "f"]) await client.set(key, "again");
      return true;
    };
    await expect.poll(() => write().catch(() => false), { timeout: 20_000 }).toBe(true);
    client.disconnect();
  });
});

describeWith("redis", "Redis Sentinel", () => {
  it("names the replica when the primary is killed", async () => {
    await using set = await startRedisSentinel();
    const redis = new Redis({
      name: set.primaryName,
      sentinels: [{ host: set.sentinel.host, port: set.sentinel.port }],
    });
    redis.on("error", () => {});
    await redis.set("key", "value");
    await redis.wait(1, 5000);
    await set.primary.kill();
    await expect
      .poll(() => redis.config("GET", "port").catch(() => undefined), { timeout: 20_000 })
      .toEqual(["port", String(set.replica.port)]);
    expect(await redis.get("key")).toBe("value");
    redis.disconnect();
  });
});

describeWith(["postgresql", "openssl"], "PostgreSQL with TLS", () => {
  it("knows alice by her certificate, and nobody by one that expired", async () => {
    const [{ port }, { client, expired }] = await Promise.all([sharedPostgresql(), certificates()]);
    const who = async (certificate: Certificate) => {
      const session = new Client({
        host: "localhost",
        port,
        user: "alice",
        database: "postgres",
        ssl: await tlsOf(certificate),
      });
      session.on("error", () => {});
      try {
        await session.connect();
        return (await session.query("SELECT current_user AS name")).rows;
      } finally {
        await session.end();
      }
    };
    expect(await who(client)).toEqual([{ name: "alice" }]);
    await expect(who(expired)).rejects.toThrow();
  });
});

describeWith(["postgresql", "pgbouncer"], "the pooler", () => {
  it("gives each transaction whatever connection is free", async () => {
    const { url } = await sharedPooler();
    const [one, other] = [new Client(url), new Client(url)];
    await Promise.all([one.connect(), other.connect()]);
    const backend = async (client: Client) =>
      (await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid")).rows[0]!.pid;
    await one.query("BEGIN");
    const held = await backend(one);
    expect(await backend(other)).not.toBe(held);
    await one.query("COMMIT");
    // The connection of the one is free for the other now.
    await one.query("BEGIN");
    await backend(one);
    await one.query("COMMIT");
    await Promise.all([one.end(), other.end()]);
  });
});

describeWith(["nats", "openssl"], "NATS with users and TLS", () => {
  it("lets users in by password and by token, over TLS", async () => {
    const { port, tokenPort } = await sharedSecureNats();
    const { ca } = await certificates();
    const tls = { caFile: ca };
    const alice = await connect({ port, tls, user: "alice", pass: "secret" });
    expect((await (await jetstreamManager(alice)).getAccountInfo()).streams).toBeGreaterThanOrEqual(0);
    await alice.close();
    const token = await connect({ port: tokenPort, tls, token: "token-secret" });
    await token.close();
    await expect(connect({ port, tls, user: "alice", pass: "wrong", reconnect: false })).rejects.toThrow();
  });
});
