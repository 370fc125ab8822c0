import { expect, it } from "vitest";
import { outgoing } from "../conformance/pubsub/fixture.ts";
import { startRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import { openProxy } from "../servers/toxiproxy.ts";
import { openPubSub } from "./redis-drivers.ts";
import { readableTelemetry } from "./redis-log.ts";

describeWith(["redis", "toxiproxy"], "what the log says of a Redis that is away", () => {
  it("is one line when it goes, with a reason, and one when it is back, however often it is looked for", async () => {
    await using server = await startRedis();
    // It takes connections when nobody is behind it, and closes them.
    await using way = await openProxy(server.port);
    const { telemetry, lines } = readableTelemetry();
    const broker = await openPubSub(way, { redisMaxRetryInterval: "50ms" }, { telemetry });
    const call = (withinMs: number) => ({ signal: AbortSignal.timeout(withinMs) });
    try {
      await broker.publish("topic", [outgoing("before")], call(10_000));
      await server.kill();
      // Long enough for many attempts.
      await expect(broker.publish("topic", [outgoing("meanwhile")], call(1500))).rejects.toThrow();
      await server.restart();
      const works = () =>
        broker.publish("topic", [outgoing("after")], call(5000)).then(
          () => true,
          () => false,
        );
      await expect.poll(works, { timeout: 20_000 }).toBe(true);
      const told = lines
        .map((line) => JSON.parse(line) as { msg: string; reason?: string; level: number })
        .filter(({ level, msg }) => level >= 30 && /connect/i.test(msg));
      expect(told.map(({ msg }) => msg)).toEqual([
        "the connection to Redis is lost; connecting again",
        "connected to Redis again",
      ]);
      expect(told[0]!.reason).toMatch(/\w/);
      expect(told[0]!.reason).not.toContain("undefined");
    } finally {
      await broker.close();
    }
  }, 60_000);
});
