/** What becomes of publishers and of what they published when the disk under a broker is full. */
import { chown } from "node:fs/promises";
import { beforeEach, expect, it, onTestFinished } from "vitest";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { startKafka } from "../servers/kafka.ts";
import { startNats } from "../servers/nats.ts";
import { notRoot, startPostgresql } from "../servers/postgresql.ts";
import { startRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import { SmallDisk, whyNoSmallDisk } from "../servers/small-disk.ts";
import { openPubSub as openJetStream } from "./jetstream-server.ts";
import { openKafkaDriver } from "./kafka/driver.ts";
import { Schema } from "./postgresql-schema.ts";
import { ask } from "./redis-ask.ts";
import { openPubSub as openRedis } from "./redis-drivers.ts";

const topic = "full";
/** What every event has beside its name. */
const ballast = "x".repeat(20_000);
/** Far more than any of the disks takes. */
const mostBatches = 500;

const call = (withinMs = 30_000) => ({ signal: AbortSignal.timeout(withinMs) });
const nameOf = (text: string) => text.slice(ballast.length);

/** Publishes until that fails; gives why, and what had been acknowledged. */
async function publishUntilFull(broker: PubSubDriver): Promise<{ problem: unknown; acknowledged: string[] }> {
  const acknowledged: string[] = [];
  for (let batch = 0; batch < mostBatches; batch += 1) {
    const names = Array.from({ length: 10 }, (_, index) => `${batch}.${index}`);
    const events = names.map((name) => outgoing(ballast + name));
    try {
      const results = await broker.publish(topic, events, call());
      for (const [index, result] of results.entries()) {
        if (!(result instanceof Error)) acknowledged.push(names[index]!);
      }
      const problem = results.find((result) => result instanceof Error);
      if (problem) return { problem, acknowledged };
    } catch (problem) {
      return { problem, acknowledged };
    }
  }
  throw new Error(`it was never full: ${acknowledged.length} events were taken`);
}

/** A disk that is full, and what gives it room again. */
interface Full {
  fill(): Promise<void>;
  free(): Promise<void>;
}

/** Publishers are told; with room again all goes on; what was acknowledged is delivered. */
async function expectNothingLost(broker: PubSubDriver, full: Full): Promise<void> {
  try {
    await broker.publish(topic, [outgoing(`${ballast}first`)], call());
    await full.fill();
    const { problem, acknowledged } = await publishUntilFull(broker);
    expect({ class: broker.classify(problem), problem }).toMatchObject({ class: "unavailable" });
    await full.free();
    const goesOn = async () => {
      const results = await broker.publish(topic, [outgoing(`${ballast}last`)], call()).catch(() => []);
      return results.length === 1 && !(results[0] instanceof Error);
    };
    await expect.poll(goesOn, { timeout: 60_000, interval: 200 }).toBe(true);
    await receiveAll(broker, new Set(["first", ...acknowledged, "last"]));
  } finally {
    await broker.close();
  }
}

async function receiveAll(broker: PubSubDriver, missing: Set<string>): Promise<void> {
  const spec = { topic, group: "readers", start: { at: "earliest" }, ordered: false, raw: false } as const;
  const subscription = await broker.open(spec, call());
  while (missing.size > 0) {
    const received = await subscription.receive(100, call());
    expect(received, `nothing comes any more, and ${missing.size} are missing`).not.toEqual([]);
    for (const one of received) missing.delete(nameOf(textOf(one)));
    await subscription.settle(
      received.map(({ receipt }) => ({ receipt, kind: "done" })),
      call(),
    );
  }
}

/** A disk that is unmounted after the test; skips the test where there can be none. */
async function smallDisk(megabytes: number): Promise<SmallDisk> {
  const disk = await SmallDisk.mount(megabytes);
  onTestFinished(() => disk[Symbol.asyncDispose]());
  return disk;
}

const leaveBytes = 2 * 1024 * 1024;

beforeEach(async (context) => {
  const reason = await whyNoSmallDisk();
  if (reason !== undefined) context.skip(reason);
});

describeWith("kafka", "a Kafka whose disk is full", () => {
  it("ends; with room and a new start nothing is lost", async () => {
    const disk = await smallDisk(64);
    await using kafka = await startKafka({ "log.dirs": `${disk.path}/logs` });
    await expectNothingLost(await openKafkaDriver(kafka.port), {
      fill: () => disk.fill(leaveBytes),
      async free() {
        await disk.free();
        // A broker without a disk that works has ended by itself.
        await kafka.restart();
      },
    });
  }, 180_000);
});

describeWith("redis", "a Redis that has no room", () => {
  it("on its disk refuses events until it has", async () => {
    const disk = await smallDisk(16);
    await using redis = await startRedis({ dir: disk.path, appendfsync: "everysec" });
    await expectNothingLost(await openRedis(redis), {
      fill: () => disk.fill(leaveBytes),
      free: () => disk.free(),
    });
  }, 120_000);

  it("in its memory, and may forget nothing, refuses events until it has", async () => {
    await using redis = await startRedis({ maxmemory: "8mb", "maxmemory-policy": "noeviction" });
    await expectNothingLost(await openRedis(redis), {
      fill: async () => {},
      free: async () => void (await ask(redis, "CONFIG", "SET", "maxmemory", "64mb")),
    });
  }, 120_000);
});

describeWith("postgresql", "a PostgreSQL whose disk is full", () => {
  it("refuses events until it has room", async () => {
    const disk = await smallDisk(32);
    const user = await notRoot();
    if (user) await chown(disk.path, user.uid, user.gid);
    await using postgresql = await startPostgresql();
    const schema = new Schema(postgresql.url);
    await schema.sql(`CREATE TABLESPACE small LOCATION '${disk.path}'`);
    await schema.sql("ALTER ROLE postgres SET default_tablespace = small");
    await expectNothingLost(await schema.pubsub(), {
      fill: () => disk.fill(leaveBytes),
      free: () => disk.free(),
    });
  }, 120_000);
});

describeWith("nats", "a NATS whose disk is full", () => {
  it("refuses events; with room and a new start nothing is lost", async () => {
    const disk = await smallDisk(32);
    await using nats = await startNats("", `${disk.path}/js`);
    await expectNothingLost(await openJetStream({ natsURL: nats.url }), {
      fill: () => disk.fill(leaveBytes),
      async free() {
        await disk.free();
        // A server that could not write has turned its streams off.
        await nats.restart();
      },
    });
  }, 120_000);
});
