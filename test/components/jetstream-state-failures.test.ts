import { afterEach, beforeEach, expect, it } from "vitest";
import type { StateDriver, WatchBatch, WatchSelector } from "../../src/blocks/state/driver.ts";
import { setOf } from "../conformance/state/fixture.ts";
import { type NatsAddress, startNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import type { Server } from "../servers/server.ts";
import { openState } from "./jetstream-server.ts";

const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });

describeWith("nats", "state.jetstream when the server dies", () => {
  let server: Server & NatsAddress;
  let store: StateDriver;

  beforeEach(async () => {
    server = await startNats();
    store = await openState({ natsURL: server.url, bucket: "items" });
  });
  afterEach(async () => {
    await store.close();
    await server.kill();
  });

  const set = async (key: string, value: string) =>
    (await store.write([setOf(key, value)], within(5000)))[0]!;
  const get = async (key: string) => {
    const [item] = await store.get([key], within(5000));
    return item?.value && Buffer.from(item.value).toString();
  };

  it("keeps what it has answered, and its etags, when the server is killed", async () => {
    const etags = await Promise.all(Array.from({ length: 50 }, (_, i) => set(`key-${i}`, String(i))));
    await server.kill();
    await server.restart();
    await expect.poll(() => get("key-0").catch(() => undefined), { timeout: 20_000 }).toBe("0");
    for (const [i, etag] of etags.entries()) {
      expect(await get(`key-${i}`)).toBe(String(i));
      const write = setOf(`key-${i}`, "again", { precondition: { kind: "etag", etag } });
      await store.write([write], within(5000));
    }
  }, 40_000);

  it("says that it is unavailable while the server is away, and not after", async () => {
    await set("key", "before");
    await server.kill();
    const error: unknown = await store.get(["key"], within(15_000)).catch((thrown: unknown) => thrown);
    expect(store.classify(error)).toBe("unavailable");
    await expect(store.ping(within(5000))).rejects.toThrow();
    await server.restart();
    await expect.poll(() => get("key").catch(() => undefined), { timeout: 20_000 }).toBe("before");
    await store.ping(within(5000));
  }, 60_000);

  it("gives up a call when it ends, although the server is frozen", async () => {
    await set("key", "before");
    await server.freeze();
    await expect(store.get(["key"], within(300))).rejects.toMatchObject({ name: "TimeoutError" });
    server.thaw();
    await expect.poll(() => get("key").catch(() => undefined), { timeout: 20_000 }).toBe("before");
  }, 40_000);

  it("tells a watcher what changed while the server was away, and goes on", async () => {
    const abort = new AbortController();
    const selector: WatchSelector = { kind: "prefix", prefix: "app||", resumeAfter: undefined };
    const told: string[] = [];
    let complete = false;
    const watching = (async () => {
      const batches: AsyncIterable<WatchBatch> = store.watch!(selector, { signal: abort.signal });
      for await (const batch of batches) {
        complete ||= batch.snapshotComplete;
        for (const { key, item } of batch.changes) told.push(`${key} ${item?.etag ?? "gone"}`);
      }
    })();
    await expect.poll(() => complete).toBe(true);
    const first = await set("app||a", "1");
    await expect.poll(() => told).toEqual([`app||a ${first}`]);
    await server.restart();
    let second = "";
    await expect
      .poll(
        async () => {
          second = await set("app||b", "2").catch(() => "");
          return second;
        },
        { timeout: 20_000 },
      )
      .not.toBe("");
    await expect.poll(() => told.at(-1), { timeout: 20_000 }).toBe(`app||b ${second}`);
    abort.abort();
    await watching;
  }, 60_000);

  it("applies a transaction as a whole or not at all, also when the server is killed in the middle", async () => {
    const keys = Array.from({ length: 20 }, (_, i) => `tx-${i}`);
    const one = async (round: number): Promise<void> => {
      const writes = keys.map((key) => setOf(key, String(round)));
      await store.write(writes, within(5000)).catch(() => undefined);
    };
    await one(0);
    const running = Promise.all(Array.from({ length: 30 }, (_, i) => one(i + 1)));
    await server.kill();
    await server.restart();
    await running;
    await expect.poll(() => get("tx-0").catch(() => undefined), { timeout: 20_000 }).toBeDefined();
    const items = await store.get(keys, within(5000));
    expect(new Set(items.map((item) => Buffer.from(item!.value!).toString())).size).toBe(1);
  }, 60_000);
});
