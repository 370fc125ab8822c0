/** Publishing to Redis and receiving from it: through the sidecar, and with ioredis alone. */
import { Redis } from "ioredis";
import { startRedis } from "../../test/servers/redis.ts";
import { payload } from "../messages.ts";
import type { Scenario } from "../scenario.ts";
import { batch, publishing, startSidecarOn, streaming } from "./beside-client.ts";

export const redis: Scenario = {
  name: "redis",
  about: "publish to Redis and receive from it, beside ioredis alone",
  async *run(effort) {
    // As Redis is by default: the disk is not what is measured.
    await using server = await startRedis({ appendonly: "no" });
    const fields = { redisHost: `127.0.0.1:${server.port}`, maxLenApprox: "1000000" };
    const sidecar = await startSidecarOn("pubsub.redis", fields);
    const client = new Redis({ host: "127.0.0.1", port: server.port });
    try {
      const data = Buffer.from(payload());
      const plain = () => client.xadd("bench-plain", "MAXLEN", "~", 1_000_000, "*", "data", data);
      yield* publishing(sidecar, "ioredis", plain, effort);
      yield* streaming(sidecar, "ioredis", (ms) => plainFlow(client, ms), effort);
    } finally {
      client.disconnect();
      await sidecar.stop();
    }
  },
};

/** Events a second by pipelines of XADD, and XREADGROUP and XACK of as many. */
async function plainFlow(client: Redis, ms: number): Promise<number> {
  const topic = "flow-plain";
  const data = Buffer.from(payload());
  await client.xgroup("CREATE", topic, "group", "$", "MKSTREAM").catch(() => {});
  const startedAt = performance.now();
  let count = 0;
  while (performance.now() - startedAt < ms) {
    const pipeline = client.pipeline();
    for (let i = 0; i < batch; i++) pipeline.xadd(topic, "MAXLEN", "~", 1_000_000, "*", "data", data);
    await pipeline.exec();
    const answer = await client.xreadgroup("GROUP", "group", "me", "COUNT", batch, "STREAMS", topic, ">");
    const ids = (answer?.[0]?.[1] ?? []).map(([id]) => id);
    await client.xack(topic, "group", ...ids);
    count += ids.length;
  }
  return count / ((performance.now() - startedAt) / 1000);
}
