import { once } from "node:events";
import { type AddressInfo, createConnection, createServer } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from "vitest";
import { codecs } from "../../../src/components/kafka/compression/codecs.ts";
import { KafkajsClient } from "../../../src/components/kafka/kafkajs/client.ts";
import { loadLibrary } from "../../../src/components/kafka/kafkajs/library.ts";
import type { SaslSettings } from "../../../src/components/kafka/sasl.ts";
import { type KafkaServer, startKafka } from "../../servers/kafka.ts";
import { describeWith } from "../../servers/require.ts";
import { openProxy, type Proxy as Way } from "../../servers/toxiproxy.ts";

interface Login {
  readonly port: number;
  readonly connectTimeoutMs: number;
  readonly sasl: SaslSettings;
}

/** A way to a server that loses everything but the first answer: what the broker speaks. */
async function openMuteAfterFirst(to: number): Promise<{ readonly port: number } & Disposable> {
  const server = createServer((client) => {
    const upstream = createConnection(to, "127.0.0.1");
    client.on("error", () => {}).pipe(upstream);
    let left: number | undefined;
    upstream
      .on("error", () => {})
      .on("data", (bytes: Buffer) => {
        left ??= 4 + bytes.readInt32BE(0);
        if (left > 0) client.write(bytes.subarray(0, left));
        left -= bytes.length;
      });
    client.on("close", () => upstream.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, [Symbol.dispose]: () => void server.close() };
}

describeWith(["kafka", "toxiproxy"], "connections to Kafka over a network that is no good", () => {
  let kafka: KafkaServer;
  let way: Way;

  beforeAll(async () => {
    kafka = await startKafka();
  }, 60_000);
  afterAll(() => kafka[Symbol.asyncDispose]());
  beforeEach(async () => {
    way = await openProxy(kafka.ports.proxied, kafka.ports.proxy);
    onTestFinished(() => way[Symbol.asyncDispose]());
  });

  async function connect(
    requestTimeoutMs = 5000,
    { port = way.port, connectTimeoutMs = 4000, sasl }: Partial<Login> = {},
  ): Promise<KafkajsClient> {
    const client = new KafkajsClient(await loadLibrary(), {
      brokers: [{ host: "127.0.0.1", port }],
      codecs,
      clientId: "test",
      connectTimeoutMs,
      requestTimeoutMs,
      keepAliveMs: 60_000,
      log: () => {},
      tls: undefined,
      sasl: () => sasl,
    });
    onTestFinished(() => client.close());
    return client;
  }

  it("serve all who ask at once, though the first answer tells what the broker speaks", async () => {
    await way.poison({ type: "latency", latency: 100 });
    const client = await connect();
    const asked = [client.metadata([], false)];
    let over = false;
    const first = asked[0]!.finally(() => {
      over = true;
    });
    // Some come when the connection is there, and what the broker speaks is on its way.
    for (let turn = 0; !over && asked.length < 100; turn += 1) {
      if (turn % 20 === 0) asked.push(client.metadata([], false));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await first;
    await expect(Promise.all(asked)).resolves.toContainEqual([]);
  }, 30_000);

  it("are given up when nobody answers about the password, and made again", async () => {
    using mute = await openMuteAfterFirst(kafka.ports.sasl);
    const sasl = { mechanism: "plain", username: "alice", password: "secret" } as const;
    const client = await connect(2000, { port: mute.port, connectTimeoutMs: 500, sasl });
    for (const attempt of [1, 2]) {
      await expect(client.metadata([], false), `attempt ${attempt}`).rejects.toThrow(
        "was silent for 1000 ms",
      );
    }
  }, 30_000);

  it("are not ended by a request that fails on the connection before", async () => {
    const client = await connect(1500);
    await client.metadata(["warm"], true);
    // Nothing comes back: every request of this connection will fail, one after the other.
    await way.poison({ type: "timeout", timeout: 0 });
    const lost = client.heartbeat({ group: "none", memberId: "none", instanceId: "", generation: 1 }, 300);
    await expect(lost).rejects.toThrow("silent for 300 ms");
    await way.mend();
    const startedAt = performance.now();
    await expect(client.metadata([], false)).resolves.toEqual([]);
    expect(performance.now() - startedAt).toBeLessThan(1400);
  }, 30_000);
});
