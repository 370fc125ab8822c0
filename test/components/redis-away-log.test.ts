import { Redis } from "ioredis";
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

  it("has why Redis refuses to be connected to again, once, and no secret", async () => {
    await using server = await startRedis({ requirepass: "first-secret" });
    const { telemetry, lines } = readableTelemetry();
    const fields = { redisPassword: "first-secret", redisMaxRetryInterval: "50ms" };
    const broker = await openPubSub(server, fields, { telemetry });
    const admin = new Redis({ host: server.host, port: server.port, password: "first-secret" });
    try {
      await admin.call("CONFIG", "SET", "requirepass", "second-secret");
      await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      const call = { signal: AbortSignal.timeout(1500) };
      await expect(broker.publish("topic", [outgoing("meanwhile")], call)).rejects.toThrow();
      const refusals = lines.filter((line) => line.includes("does not accept the user or the password"));
      expect(refusals).toHaveLength(1);
      expect(lines.join()).not.toMatch(/(first|second)-secret/);
      await admin.call("CONFIG", "SET", "requirepass", "first-secret");
      const works = () =>
        broker.publish("topic", [outgoing("after")], { signal: AbortSignal.timeout(5000) }).then(
          () => true,
          () => false,
        );
      await expect.poll(works, { timeout: 20_000 }).toBe(true);
    } finally {
      admin.disconnect();
      await broker.close();
    }
  });
});
