/** Several batches of a topic are under way at once: what is published stays in its order, and is there once, whatever is lost on the way. */
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { outgoing, PubSubFixture } from "../conformance/pubsub/fixture.ts";
import { startRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import type { Server } from "../servers/server.ts";
import { openPubSub } from "./redis-drivers.ts";
import { openWire, type Wire } from "./redis-wire.ts";

/** Publishes that are under way at once. */
const inFlight = 64;

const call = () => ({ signal: AbortSignal.timeout(60_000) });
/** A turn of the event loop. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const names = new PubSubFixture();

describeWith("redis", "publishing to Redis, many at once", () => {
  let server: Server;
  let wire: Wire;
  let driver: PubSubDriver;
  /** Somebody else's client, beside the wire. */
  let beside: Redis;
  let topic: string;

  beforeEach(async () => {
    server = await startRedis();
    wire = await openWire(server.port);
    driver = await openPubSub(wire);
    beside = new Redis({ host: server.host, port: server.port });
    beside.on("error", () => {});
    topic = names.topic();
  });
  afterEach(async () => {
    beside.disconnect();
    await driver.close().catch(() => {});
    await wire[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  const publish = async (text: string, more: Parameters<typeof outgoing>[1] = {}): Promise<string> => {
    const [result] = await driver.publish(topic, [outgoing(text, more)], call());
    if (result === undefined || result instanceof Error) throw result ?? new Error("no result");
    return result.position;
  };
  /** Ids and texts, as they are in the stream. */
  const entries = async (): Promise<readonly (readonly [string, string])[]> => {
    const all = await beside.xrange(topic, "-", "+");
    return all.map(([id, [, event]]) => {
      const { data } = JSON.parse(event!) as { data: unknown };
      return [id, String(data)];
    });
  };
  const texts = async () => (await entries()).map(([, text]) => text);

  /**
   * Publishes numbers one after the other, many under way at once. Each time `every` more of them are acknowledged, something
   * happens. Expects that each is in the stream once, in its order, under the id that it was acknowledged with.
   */
  const publishThrough = async (count: number, every: number, happens: (time: number) => Promise<void>) => {
    const positions: string[] = [];
    const all: Promise<void>[] = [];
    let acknowledged = 0;
    let failed = false;
    const publishAll = async () => {
      for (let number = 0; number < count && !failed; number++) {
        while (number - acknowledged >= inFlight && !failed) await turn();
        const published = publish(`${number}`).then((position) => {
          positions[number] = position;
          acknowledged += 1;
        });
        published.catch(() => {
          failed = true;
        });
        all.push(published);
        // So that they fall into several batches.
        if (number % 3 === 0) await turn();
      }
    };
    const meddle = async () => {
      for (let time = 0; (time + 1) * every < count; time++) {
        while (acknowledged < (time + 1) * every && !failed) await turn();
        if (failed) return;
        await happens(time);
      }
    };
    await Promise.all([publishAll(), meddle()]);
    await Promise.all(all);
    expect(await entries()).toEqual(positions.map((position, number) => [position, `${number}`]));
  };

  it("sends what comes while an answer is awaited, without waiting for it", async () => {
    await publish("before");
    wire.loseAnswers();
    const first = publish("first");
    await expect.poll(texts).toEqual(["before", "first"]);
    const second = publish("second");
    await expect.poll(texts).toEqual(["before", "first", "second"]);
    wire.cut();
    expect([await first, await second]).toEqual((await entries()).slice(1).map(([id]) => id));
    expect(await texts()).toEqual(["before", "first", "second"]);
  });

  it("keeps order, and has each once, when the connection is cut again and again", {
    timeout: 120_000,
  }, async () => {
    await publishThrough(3000, 100, async () => wire.cut());
  });

  it("keeps order, and has each once, when answers are lost again and again", {
    timeout: 120_000,
  }, async () => {
    await publishThrough(3000, 150, async () => {
      const length = await beside.xlen(topic);
      wire.loseAnswers();
      while ((await beside.xlen(topic)) === length) await turn();
      wire.cut();
    });
  });

  it("keeps order, and has each once, when Redis forgets its scripts", { timeout: 120_000 }, async () => {
    await publishThrough(5000, 50, async () => {
      await beside.script("FLUSH");
    });
  });

  it("keeps order, and has each once, when Redis takes no writes for moments", {
    timeout: 120_000,
  }, async () => {
    await publishThrough(2000, 100, async () => {
      // A replica that nobody answers: it refuses writes, and keeps what it has.
      await beside.replicaof("127.0.0.1", 1);
      for (let i = 0; i < 50; i++) await turn();
      await beside.replicaof("NO", "ONE");
    });
  });

  it("keeps order, and has each once, when Redis is killed again and again", {
    timeout: 120_000,
  }, async () => {
    await publishThrough(2000, 300, async () => {
      await server.kill();
      await server.restart();
    });
  });

  it("goes on in order when Redis has lost everything, its memory of what was published too", {
    timeout: 120_000,
  }, async () => {
    const count = 3000;
    const all: Promise<string>[] = [];
    for (let number = 0; number < count; number++) {
      all.push(publish(`${number}`));
      if (number % 20 === 0) await turn();
      if (number % 500 === 250) await beside.flushall();
    }
    await Promise.all(all);
    await publish(`${count}`);
    const left = (await texts()).map(Number);
    expect(left).toEqual(Array.from(left, (_, index) => count - left.length + 1 + index));
  });

  it("does not append again what arrives a second time, after what was published later", async () => {
    const scriptsHeld = () => wire.held().split(/evalsha/i).length - 1;
    await publish("before");
    wire.hold();
    const first = publish("first");
    await expect.poll(scriptsHeld).toBe(1);
    const second = publish("second");
    await expect.poll(scriptsHeld).toBe(2);
    wire.cut();
    await Promise.all([first, second]);
    for (const text of ["third", "fourth", "fifth", "sixth", "seventh"]) await publish(text);
    const expected = ["before", "first", "second", "third", "fourth", "fifth", "sixth", "seventh"];
    expect(await texts()).toEqual(expected);
    const scripts = async () =>
      Number(/cmdstat_evalsha:calls=(\d+)/.exec(await beside.info("commandstats"))![1]);
    const before = await scripts();
    wire.deliver();
    await expect.poll(scripts).toBe(before + 2);
    expect(await texts()).toEqual(expected);
  });

  it("fails those alone whom Redis refuses, and goes on with those after them in order", async () => {
    await publish("before");
    // Delayed events have no place.
    await beside.set(`outrider:{${topic}}:delayed-events`, "something else");
    wire.loseAnswers();
    const first = publish("first");
    await expect.poll(texts).toHaveLength(2);
    const refused = publish("refused", { deliverAtMs: Date.now() + 60_000 });
    refused.catch(() => {});
    await turn();
    const later = [publish("second"), publish("third")];
    wire.cut();
    await expect(refused).rejects.toThrow("WRONGTYPE");
    await Promise.all([first, ...later]);
    expect(await texts()).toEqual(["before", "first", "second", "third"]);
  });
});
