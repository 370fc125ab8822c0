/** The outbox of stores in Redis: where its notes are, and how they are found. */
import { randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import type { StateDriver, WatchBatch } from "../../src/blocks/state/driver.ts";
import { notesPrefix, writeOf } from "../../src/blocks/state/outbox-note.ts";
import { call, notesIn, Published, set, sidecar, target } from "../blocks/state/outbox-sidecar.ts";
import { sharedRedis, startRedis } from "../servers/redis.ts";
import { sharedRedisCluster } from "../servers/redis-cluster.ts";
import { describeWith } from "../servers/require.ts";
import { ask } from "./redis-ask.ts";
import { hostOf, openState } from "./redis-drivers.ts";

const openCluster = async () =>
  openState((await sharedRedisCluster()).nodes.map(hostOf).join(","), { redisType: "cluster" });

/** Transactions whose events nobody could publish, as a sidecar leaves them that dies. */
async function leave(driver: StateDriver, appId: string, count: number): Promise<void> {
  const away = new Published();
  away.away = true;
  const { store, outbox } = sidecar(driver, away.publish, { appId, instanceId: "dead", start: false });
  for (let number = 1; number <= count; number++)
    await store.transact([set(`item-${number}`, String(number))], call());
  await outbox.close(AbortSignal.timeout(20_000));
}

/** What a sidecar publishes that comes after it. */
async function publishedAfter(driver: StateDriver, appId: string): Promise<Published> {
  const published = new Published();
  sidecar(driver, published.publish, { appId, instanceId: "next" });
  await expect.poll(() => notesIn(driver, appId), { timeout: 25_000 }).toBe(0);
  return published;
}

describeWith("redis", "an outbox on a Redis Cluster", () => {
  it("publishes the transactions of every slot", async () => {
    await using store = disposable(await openCluster());
    const appId = `app-${randomUUID()}`;
    const published = new Published();
    const own = sidecar(store.driver, published.publish, { appId });
    for (let order = 1; order <= 20; order++) {
      await own.store.transact([set(`{${order}}/items`, "1"), set(`{${order}}/total`, "2")], call());
    }
    await expect.poll(() => published.texts).toHaveLength(40);
    expect(published.texts.slice(0, 2)).toEqual(["{1}/items=1", "{1}/total=2"]);
    await expect.poll(() => notesIn(store.driver, appId)).toBe(0);
  });

  it("has what a dead sidecar left in any slot published by the next", async () => {
    await using store = disposable(await openCluster());
    const appId = `app-${randomUUID()}`;
    await leave(store.driver, appId, 10);
    expect(await notesIn(store.driver, appId)).toBe(10);
    const { texts } = await publishedAfter(store.driver, appId);
    expect(texts).toEqual(Array.from({ length: 10 }, (_, index) => `item-${index + 1}=${index + 1}`));
  });
});

describeWith("redis", "an outbox in Redis", () => {
  it("finds what is left without looking at the keys of the store again and again", async () => {
    await using server = await startRedis();
    await using store = disposable(await openState(server));
    await notesIn(store.driver);
    const scans = async () =>
      /cmdstat_scan:calls=(\d+)/.exec(String(await ask(server, "INFO", "commandstats")))?.[1];
    const before = await scans();
    await leave(store.driver, "app", 3);
    expect(await notesIn(store.driver)).toBe(3);
    const { texts } = await publishedAfter(store.driver, "app");
    expect(texts).toEqual(["item-1=1", "item-2=2", "item-3=3"]);
    expect(await scans()).toBe(before);
  });

  it("gives notes by pages, in the order in which they were made", async () => {
    await using store = disposable(await openState(await sharedRedis()));
    const appId = `app-${randomUUID()}`;
    await leave(store.driver, appId, 5);
    await leave(store.driver, `${appId}x`, 1);
    const range = { prefix: notesPrefix(appId), limit: 2, keysOnly: false };
    const keys: string[] = [];
    for (let after: string | undefined; ; ) {
      const page = await store.driver.list!({ ...range, after }, call());
      keys.push(...page.items.map(({ key }) => key));
      after = keys.at(-1);
      if (!page.more) break;
    }
    expect(keys).toHaveLength(5);
    expect(keys).toEqual(keys.toSorted());
  });

  it("finds notes that are in no index, when it opens, and forgets those that somebody removed", async () => {
    await using server = await startRedis();
    const key = `${notesPrefix("app")}${"1".padStart(15, "0")}-000000-old`;
    await using old = disposable(await openState(server));
    await old.driver.write([await writeOf({ key, target, events: [] }, "old")], call());
    await ask(server, "DEL", "||outbox-index");
    await using store = disposable(await openState(server));
    expect(await notesIn(store.driver)).toBe(1);
    expect(await ask(server, "ZCARD", "||outbox-index")).toBe(1);
    await ask(server, "DEL", key);
    expect(await notesIn(store.driver)).toBe(0);
    expect(await ask(server, "ZCARD", "||outbox-index")).toBe(0);
  });

  it("does not disturb who watches everything", async () => {
    await using server = await startRedis();
    await using store = disposable(await openState(server));
    const end = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      const batches: AsyncIterable<WatchBatch> = store.driver.watch!(
        { kind: "prefix", prefix: "", resumeAfter: undefined },
        { signal: end.signal },
      );
      for await (const { changes } of batches) seen.push(...changes.map(({ key }) => key));
    })();
    const published = new Published();
    const own = sidecar(store.driver, published.publish, { keyPrefix: "none" });
    await expect
      .poll(async () => {
        await own.store.transact([set("a", randomUUID())], call());
        return seen;
      })
      .toContain("a");
    await own.store.transact([set("b", "1")], call());
    await expect.poll(() => seen).toContain("b");
    expect(seen).not.toContain("||outbox-index");
    end.abort();
    await watching;
  });
});

function disposable<Driver extends { close(): Promise<void> }>(driver: Driver) {
  return { driver, [Symbol.asyncDispose]: () => driver.close() };
}
