import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from "vitest";
import { codecs } from "../../../src/components/kafka/compression/codecs.ts";
import { KafkajsClient } from "../../../src/components/kafka/kafkajs/client.ts";
import { loadLibrary } from "../../../src/components/kafka/kafkajs/library.ts";
import { type KafkaServer, startKafka } from "../../servers/kafka.ts";
import { describeWith } from "../../servers/require.ts";
import { openProxy, type Proxy as Way } from "../../servers/toxiproxy.ts";

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

  async function connect(requestTimeoutMs = 5000): Promise<KafkajsClient> {
    const client = new KafkajsClient(await loadLibrary(), {
      brokers: [{ host: "127.0.0.1", port: way.port }],
      codecs,
      clientId: "test",
      connectTimeoutMs: 4000,
      requestTimeoutMs,
      keepAliveMs: 60_000,
      log: () => {},
      tls: async () => undefined,
      currentTls: () => undefined,
      sasl: () => undefined,
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

  it("are not ended by a request that fails on the connection before", async () => {
    const client = await connect(1500);
    await client.metadata(["warm"], true);
    // Nothing comes back: every request of this connection will fail, one after the other.
    await way.poison({ type: "timeout", timeout: 0 });
    const lost = client.heartbeat({ group: "none", memberId: "none", generation: 1 }, 300);
    await expect(lost).rejects.toThrow("silent for 300 ms");
    await way.mend();
    const startedAt = performance.now();
    await expect(client.metadata([], false)).resolves.toEqual([]);
    expect(performance.now() - startedAt).toBeLessThan(1400);
  }, 30_000);
});
