/** Every server for tests starts, is spoken to, is killed and started again, and has kept its data. */
import { existsSync } from "node:fs";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { Redis } from "ioredis";
import { Kafka, logLevel } from "kafkajs";
import { Client } from "pg";
import { expect, it } from "vitest";
import { type KafkaAddress, sharedKafka, startKafka } from "./kafka.ts";
import { sharedNats, startNats } from "./nats.ts";
import { sharedPostgresql, startPostgresql } from "./postgresql.ts";
import { sharedRedis, startRedis } from "./redis.ts";
import { describeWith } from "./require.ts";
import type { Server } from "./server.ts";
import { openProxy } from "./toxiproxy.ts";

/** Freezes a server: a question has no answer until it is thawed. */
async function answersOnlyWhenThawed(server: Server, ask: () => Promise<unknown>): Promise<void> {
  await server.freeze();
  let answered = false;
  const asked = ask().then(() => {
    answered = true;
  });
  await new Promise((later) => setTimeout(later, 300));
  expect(answered).toBe(false);
  server.thaw();
  await asked;
}

describeWith("redis", "Redis for tests", () => {
  it("keeps its data when it is killed, and stands still when it is frozen", async () => {
    await using server = await startRedis();
    const client = () => new Redis(server.port, server.host, { lazyConnect: true });
    using first = disposable(client(), (redis) => redis.disconnect());
    await first.it.set("key", "value");
    await answersOnlyWhenThawed(server, () => first.it.ping());
    await server.restart();
    using second = disposable(client(), (redis) => redis.disconnect());
    expect(await second.it.get("key")).toBe("value");
    await server.stop();
    await expect(fetch(`http://127.0.0.1:${server.port}`)).rejects.toThrow("fetch failed");
  });

  it("is one server for all who share it", async () => {
    const [one, other] = await Promise.all([sharedRedis(), sharedRedis()]);
    expect(one).toEqual(other);
    using client = disposable(new Redis(one.port), (redis) => redis.disconnect());
    expect(await client.it.ping()).toBe("PONG");
  });
});

describeWith("kafka", "Kafka for tests", () => {
  const kafka = ({ host, port }: KafkaAddress) =>
    new Kafka({ brokers: [`${host}:${port}`], logLevel: logLevel.NOTHING });
  const write = async (address: KafkaAddress, value: string) => {
    const producer = kafka(address).producer();
    await producer.connect();
    await producer.send({ topic: "events", messages: [{ value }] });
    await producer.disconnect();
  };
  const end = async (address: KafkaAddress) => {
    const admin = kafka(address).admin();
    await admin.connect();
    const [offsets] = await admin.fetchTopicOffsets("events");
    await admin.disconnect();
    return offsets?.high;
  };

  it("keeps its data when it is killed", async () => {
    await using server = await startKafka();
    await write(server, "one");
    await server.restart();
    await write(server, "two");
    expect(await end(server)).toBe("2");
  });

  it("is shared, and is reached through a proxy that it takes for itself", async () => {
    const address = await sharedKafka();
    await using proxy = await openProxy(address.ports.proxied, address.ports.proxy);
    await write({ ...address, port: proxy.port }, "through the proxy");
    await proxy.cut();
    const refused = new Kafka({
      brokers: [`127.0.0.1:${proxy.port}`],
      logLevel: logLevel.NOTHING,
      retry: { retries: 0 },
    });
    await expect(refused.admin().connect()).rejects.toThrow();
    await proxy.mend();
    await write({ ...address, port: proxy.port }, "again");
  });
});

describeWith("postgresql", "PostgreSQL for tests", () => {
  it("keeps its data when it is killed, and stands still when it is frozen", async () => {
    await using server = await startPostgresql();
    await using first = await session(server.url);
    await first.it.query("CREATE TABLE t AS SELECT 1 AS n");
    await answersOnlyWhenThawed(server, () => first.it.query("SELECT 1"));
    await server.restart();
    await using second = await session(server.url);
    expect((await second.it.query("SELECT n FROM t")).rows).toEqual([{ n: 1 }]);
  });

  it("is shared, with users of every kind", async () => {
    const { url, passwordUrl } = await sharedPostgresql();
    await using root = await session(url);
    await using user = await session(passwordUrl);
    expect((await root.it.query("SELECT current_user AS name")).rows).toEqual([{ name: "postgres" }]);
    expect((await user.it.query("SELECT current_user AS name")).rows).toEqual([{ name: "outrider" }]);
    await expect(session(passwordUrl.replace("secret", "wrong"))).rejects.toThrow(/password/);
  });
});

describeWith("nats", "NATS for tests", () => {
  it("keeps its data when it is killed", async () => {
    await using server = await startNats();
    const open = () => connect({ servers: server.url, reconnect: false });
    const first = await open();
    await (await jetstreamManager(first)).streams.add({ name: "EVENTS", subjects: ["events"] });
    await jetstream(first).publish("events", "one");
    await server.restart();
    await first.closed();
    const second = await open();
    expect((await (await jetstreamManager(second)).streams.info("EVENTS")).state.messages).toBe(1);
    await second.close();
  });

  it("is one server for all who share it", async () => {
    const connection = await connect({ servers: (await sharedNats()).url });
    await connection.flush();
    await connection.close();
  });
});

describeWith(["redis", "toxiproxy"], "a proxy for tests", () => {
  it("cuts, delays and mends", async () => {
    const { port } = await sharedRedis();
    await using proxy = await openProxy(port);
    using client = disposable(new Redis(proxy.port), (redis) => redis.disconnect());
    await client.it.ping();
    await proxy.poison({ type: "latency", latency: 200 });
    const askedAt = performance.now();
    await client.it.ping();
    expect(performance.now() - askedAt).toBeGreaterThan(190);
    await proxy.cut();
    using refused = disposable(new Redis(proxy.port, { lazyConnect: true, retryStrategy: null }), (redis) =>
      redis.disconnect(),
    );
    refused.it.on("error", () => {});
    await expect(refused.it.connect()).rejects.toThrow();
    await proxy.mend();
    await expect(client.it.ping()).resolves.toBe("PONG");
  });
});

describeWith("redis", "the end of a server", () => {
  it("leaves nothing of it but its folder, for those who want its log", async () => {
    const server = await startRedis();
    await server[Symbol.asyncDispose]();
    expect(server.log()).toContain("Ready to accept connections");
    expect(existsSync(server.folder)).toBe(true);
  });
});

function disposable<T>(it: T, end: (it: T) => void): { readonly it: T } & Disposable {
  return { it, [Symbol.dispose]: () => end(it) };
}

async function session(url: string): Promise<{ readonly it: Client } & AsyncDisposable> {
  const it = new Client({ connectionString: url });
  it.on("error", () => {});
  await it.connect();
  return { it, [Symbol.asyncDispose]: () => it.end() };
}
