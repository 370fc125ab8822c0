import { statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type StateDriver,
  ValueChanged,
  type WatchBatch,
  type Write,
} from "../../src/blocks/state/driver.ts";
import { Directory } from "./sqlite-directory.ts";

const call = { signal: AbortSignal.timeout(120_000) };
const options = { contentType: "", metadata: {}, expiresAtMs: undefined, precondition: undefined };
const set = (key: string, text: string, other: Partial<Write> = {}): Write =>
  ({ kind: "set", key, value: Buffer.from(text), ...options, ...other }) as Write;

describe("items in an embedded store", () => {
  let directory: Directory;
  let driver: StateDriver;
  beforeEach(async () => {
    directory = await Directory.make();
    driver = await directory.state();
  });
  afterEach(async () => {
    await driver.close();
    await directory.remove();
  });

  const rows = (table: string): number => {
    const file = new DatabaseSync(`${directory.path}/outrider.db`, { readOnly: true });
    const { n } = file.prepare(`SELECT count(*) AS n FROM ${table}`).get()!;
    file.close();
    return n as number;
  };
  const restart = async (fields: Record<string, string> = {}): Promise<void> => {
    await driver.close();
    driver = await directory.state(fields);
  };

  it("are untouched by a transaction with one stale etag, after a restart too", async () => {
    await driver.write([set("a", "1"), set("b", "1")], call);
    const stale = set("b", "2", { precondition: { kind: "etag", etag: "0" } });
    await expect(driver.write([set("a", "2"), stale, set("c", "2")], call)).rejects.toMatchObject({
      key: "b",
    });
    await restart();
    const items = await driver.get(["a", "b", "c"], call);
    expect(items.map((item) => item && Buffer.from(item.value!).toString())).toEqual(["1", "1", undefined]);
  });

  it("may be empty, in one transaction with one that is not", async () => {
    await driver.write([set("a", "1"), set("b", ""), set("c", "")], call);
    const items = await driver.get(["a", "b", "c"], call);
    expect(items.map((item) => item && Buffer.from(item.value!).toString())).toEqual(["1", "", ""]);
  });

  it("are refused and written one by one, though they came together", async () => {
    const [etag] = await driver.write([set("counter", "0")], call);
    const precondition = { kind: "etag", etag: etag! } as const;
    const writes = Array.from({ length: 50 }, (_, i) =>
      driver.write([set("counter", String(i), { precondition })], call),
    );
    const outcomes = await Promise.allSettled(writes);
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  it("take 300 MB in chunks without 100 MB of memory, and give them back", async () => {
    const chunk = Buffer.alloc(1024 * 1024, 7);
    async function* source() {
      for (let i = 0; i < 300; i += 1) yield chunk;
    }
    const before = process.memoryUsage.rss();
    let peak = before;
    const look = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage.rss());
    }, 5);
    await driver.writeChunks!({ key: "big", ...options }, source(), call);
    const read = await driver.read!("big", call);
    let bytes = 0;
    for await (const piece of read!.chunks) {
      expect(piece.length).toBeLessThanOrEqual(256 * 1024);
      bytes += piece.length;
    }
    clearInterval(look);
    expect(bytes).toBe(300 * 1024 * 1024);
    expect((peak - before) / 1024 ** 2).toBeLessThan(100);
    // The log beside the file is emptied as it goes.
    expect(statSync(`${directory.path}/outrider.db-wal`).size / 1024 ** 2).toBeLessThan(64);
  });

  it("are not read into memory when they are longer than the caller can take", async () => {
    const value = new Uint8Array(8 * 1024 * 1024);
    const keys = Array.from({ length: 32 }, (_, i) => `long${i}`);
    for (const key of keys) await driver.write([{ ...set(key, ""), value } as Write], call);
    const before = process.memoryUsage.rss();
    const items = await driver.get(keys, call, 20 * 1024 * 1024);
    expect(items.map((item) => item?.value?.length)).toEqual([
      value.length,
      value.length,
      ...new Array(30).fill(undefined),
    ]);
    expect(items.map((item) => item?.valueBytes)).toEqual(new Array(32).fill(value.length));
    expect((process.memoryUsage.rss() - before) / 1024 ** 2).toBeLessThan(100);
  });

  it("leave no chunks behind: of what was overwritten, deleted, given up, or begun by one that is gone", async () => {
    const value = (letter: string) =>
      (async function* () {
        yield Buffer.alloc(600 * 1024, letter);
      })();
    const write = (source = value("a")) => driver.writeChunks!({ key: "k", ...options }, source, call);
    await write();
    await write(value("b"));
    await expect.poll(() => rows("chunks"), { timeout: 10_000 }).toBe(3);
    async function* broken() {
      yield* value("c");
      throw new Error("broken");
    }
    await expect(write(broken())).rejects.toThrow("broken");
    await driver.write([{ kind: "delete", key: "k", precondition: undefined }], call);
    await expect.poll(() => rows("chunks"), { timeout: 10_000 }).toBe(0);
    expect(rows("blobs")).toBe(0);
  });

  it("say so when they are overwritten while they are read in pieces", async () => {
    async function* source() {
      yield Buffer.alloc(700 * 1024);
    }
    await driver.writeChunks!({ key: "k", ...options }, source(), call);
    const reader = (await driver.read!("k", call))!.chunks[Symbol.asyncIterator]();
    await reader.next();
    await driver.write([set("k", "other")], call);
    await expect(reader.next()).rejects.toBeInstanceOf(ValueChanged);
  });

  it("are told to a watch that goes on after a restart, deletions too", async () => {
    await driver.write([set("p/kept", "1"), set("p/gone", "1")], call);
    let position: string | undefined;
    for await (const batch of driver.watch!({ kind: "prefix", prefix: "p/", resumeAfter: undefined }, call)) {
      position = batch.position;
      if (batch.snapshotComplete) break;
    }
    await driver.write([{ kind: "delete", key: "p/gone", precondition: undefined }], call);
    await restart();
    await driver.write([set("p/new", "1")], call);
    const told: [string, boolean][] = [];
    for await (const batch of driver.watch!({ kind: "prefix", prefix: "p/", resumeAfter: position }, call)) {
      told.push(...batch.changes.map(({ key, item }) => [key, item !== undefined] as [string, boolean]));
      if (told.length === 2) break;
    }
    expect(told).toEqual([
      ["p/gone", false],
      ["p/new", true],
    ]);
  });

  it("are not resumed after a position of another file", async () => {
    const other = await Directory.make();
    const elsewhere = await other.state();
    const first = async (from: StateDriver, resumeAfter?: string): Promise<WatchBatch> => {
      const watch = from.watch!({ kind: "prefix", prefix: "", resumeAfter }, call);
      for await (const batch of watch) return batch;
      throw new Error("the watch ended");
    };
    const { position } = await first(elsewhere);
    await expect(first(driver, position)).rejects.toMatchObject({ name: "PositionExpired" });
    await elsewhere.close();
    await other.remove();
  });

  it("are not resumed after a position whose deletions have been forgotten", async () => {
    await driver.write([set("kept", "1"), set("gone", "1")], call);
    const first = async (resumeAfter?: string): Promise<WatchBatch> => {
      for await (const batch of driver.watch!({ kind: "prefix", prefix: "", resumeAfter }, call))
        return batch;
      throw new Error("the watch ended");
    };
    const { position } = await first();
    await driver.write([{ kind: "delete", key: "gone", precondition: undefined }], call);
    expect((await first(position)).changes.map(({ key }) => key)).toEqual(["gone"]);
    // Deletions are remembered for an hour: as if it had passed.
    const file = new DatabaseSync(`${directory.path}/outrider.db`, { timeout: 10_000 });
    file.exec("UPDATE items SET deleted_at = deleted_at - 3600000 WHERE deleted_at IS NOT NULL");
    file.close();
    await expect.poll(() => rows("items"), { timeout: 10_000 }).toBe(1);
    await expect(first(position)).rejects.toMatchObject({ name: "PositionExpired" });
    const { position: present } = await first();
    await driver.write([set("kept", "2")], call);
    expect((await first(present)).changes.map(({ key }) => key)).toEqual(["kept"]);
  });

  it("are told to watches of another sidecar at once", async () => {
    const other = await directory.state();
    const watch = other.watch!({ kind: "key", key: "shared", resumeAfter: undefined }, call)[
      Symbol.asyncIterator
    ]();
    expect((await watch.next()).value?.snapshotComplete).toBe(true);
    const next = watch.next();
    await driver.write([set("shared", "value")], call);
    expect((await next).value?.changes[0]?.key).toBe("shared");
    await watch.return?.();
    await other.close();
  });

  it("disappear from the file some time after they have expired, though nobody looks", async () => {
    await restart({ cleanupInterval: "100ms" });
    await driver.write([set("short", "value", { expiresAtMs: Date.now() + 50 } as Partial<Write>)], call);
    const values = () => rows("items WHERE value IS NOT NULL");
    expect(values()).toBe(1);
    await expect.poll(values, { timeout: 10_000 }).toBe(0);
  });

  it("are listed to the end although a page would be too large for one answer", async () => {
    const value = Buffer.alloc(900 * 1024);
    for (let i = 0; i < 20; i += 1) await driver.write([{ ...set(`k${i + 10}`, ""), value } as Write], call);
    const keys: string[] = [];
    for (let after: string | undefined; ; after = keys.at(-1)) {
      const page = await driver.list!({ prefix: "k", after, limit: 1000, keysOnly: false }, call);
      expect(page.items.length).toBeLessThan(20);
      keys.push(...page.items.map(({ key }) => key));
      if (!page.more) break;
    }
    expect(keys).toEqual(Array.from({ length: 20 }, (_, i) => `k${i + 10}`));
  });
});
