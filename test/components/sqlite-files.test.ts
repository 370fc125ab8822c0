import { chmod, mkdir, open, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import type { Component } from "../../src/component.ts";
import { sqliteComponents } from "../../src/components/sqlite/components.ts";
import { asStoreError, classify } from "../../src/components/sqlite/errors.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";
import { Directory } from "./sqlite-directory.ts";

const call = { signal: AbortSignal.timeout(60_000) };
const set = (key: string, text: string) =>
  ({
    kind: "set",
    key,
    value: Buffer.from(text),
    contentType: "",
    metadata: {},
    expiresAtMs: undefined,
    precondition: undefined,
  }) as const;
const textOf = async (driver: StateDriver, key: string) => {
  const [item] = await driver.get([key], call);
  return item && Buffer.from(item.value!).toString();
};

describe("the file of an embedded store", () => {
  let directory: Directory;
  let file: string;
  beforeEach(async () => {
    directory = await Directory.make();
    file = join(directory.path, "outrider.db");
  });
  afterEach(() => directory.remove());

  const refusal = async (opening = directory.state()): Promise<string> => {
    const error = await opening.then(
      () => "it opened",
      (thrown: unknown) => thrown,
    );
    expect(classify(error)).toBe("refused");
    return (error as Error).message;
  };

  it("is made by the first call, its directory with the component, for nobody else to read", async () => {
    await rm(directory.path, { recursive: true });
    const { state, pubsub } = sqliteComponents();
    const store = await state.configure(state.schema.parse({}))(directory.context("state"));
    const broker = await pubsub.configure(pubsub.schema.parse({}))(directory.context("pubsub"));
    expect(await readdir(directory.path)).toEqual([]);
    expect((await stat(directory.path)).mode & 0o777).toBe(0o700);
    const [items] = await Promise.all([store.get(["key"], call), broker.ping(call)]);
    expect(items).toEqual([undefined]);
    expect(await readdir(directory.path)).toContain("outrider.db");
    await Promise.all([store.close(), broker.close()]);
  });

  it("is not made by a component that nobody calls", async () => {
    await (await directory.state()).close();
    await (await directory.pubsub()).close();
    expect(await readdir(directory.path)).toEqual([]);
  });

  it("is not made any more when its component is closed", async () => {
    const driver = await directory.state();
    await driver.close();
    await expect(driver.get(["key"], call)).rejects.toSatisfy((error) => classify(error) === "unavailable");
    expect(await readdir(directory.path)).toEqual([]);
  });

  it("is made by a later call when the first could not", async () => {
    const driver = await directory.state();
    await mkdir(file);
    await expect(driver.get(["key"], call)).rejects.toThrow("the embedded store");
    await rm(file, { recursive: true });
    await expect
      .poll(() => driver.get(["key"], call).catch(String), { timeout: 20_000 })
      .toEqual([undefined]);
    await driver.close();
  });

  it("is refused when it is no database, and left as it is", async () => {
    await writeFile(file, "this is not a database, but it is longer than a header of SQLite is ".repeat(20));
    expect(await refusal()).toContain("not an SQLite database");
    expect(await readdir(directory.path)).toEqual(["outrider.db"]);
  });

  it("is refused when it belongs to another program, and left as it is", async () => {
    const foreign = new DatabaseSync(file);
    foreign.exec("CREATE TABLE state (key TEXT)");
    foreign.close();
    expect(await refusal()).toContain("another program");
    const after = new DatabaseSync(file);
    expect(after.prepare("SELECT name FROM sqlite_schema").all()).toEqual([{ name: "state" }]);
    after.close();
  });

  it("is refused when a newer Outrider made it", async () => {
    const driver = await directory.state();
    await driver.ping(call);
    await driver.close();
    const newer = new DatabaseSync(file);
    newer.exec("PRAGMA user_version = 1000");
    newer.close();
    expect(await refusal()).toContain("newer Outrider");
  });

  it("is refused when its pages are damaged, as soon as one of them is read", async () => {
    const driver = await directory.state();
    const writes = Array.from({ length: 500 }, (_, i) => set(`key${i}`, "x".repeat(500)));
    await driver.write(writes, call);
    await driver.close();
    const size = 4096;
    const pages = new DatabaseSync(file).prepare("PRAGMA page_count").get()!["page_count"] as number;
    const handle = await open(file, "r+");
    for (let page = 2; page < pages; page += 1)
      await handle.write(Buffer.alloc(size, 0xaa), 0, size, page * size);
    await handle.close();
    const reading = async () => {
      const damaged = await directory.state();
      try {
        await damaged.list!({ prefix: "", after: undefined, limit: 1000, keysOnly: false }, call);
      } finally {
        await damaged.close();
      }
    };
    await expect(reading()).rejects.toSatisfy((error) => classify(error) === "refused");
  });

  it("is refused under a path that is no directory", async () => {
    await writeFile(join(directory.path, "a-file"), "");
    const fields = { connectionString: join(directory.path, "a-file", "outrider.db") };
    expect(await refusal(directory.state(fields))).toContain("directory");
  });

  it("is refused in a directory that cannot be written to", async ({ skip }) => {
    if (process.getuid?.() === 0) skip("root may write everywhere");
    await chmod(directory.path, 0o500);
    await expect(directory.state()).rejects.toThrow(/cannot be (opened|written to)/);
    await chmod(directory.path, 0o700);
  });

  it("is opened once the obstacle is gone, by the same component", async () => {
    await mkdir(file);
    const { state } = sqliteComponents();
    const open = state.configure(state.schema.parse({}));
    await expect(open(directory.context("state"))).rejects.toThrow();
    await rm(file, { recursive: true });
    const driver = await open(directory.context("state"));
    await driver.ping(call);
    await driver.close();
  });

  it("counts how long its commits take, those that wait for the disk", async () => {
    const telemetry = quietTelemetry();
    const driver = await directory.state({}, { telemetry });
    const commits = async () =>
      Number(
        /^outrider_sqlite_commit_duration_seconds_count (\d+)$/m.exec(await telemetry.metrics.text())?.[1],
      );
    await driver.ping(call);
    const before = await commits();
    for (let i = 0; i < 10; i++) await driver.write([set("key", String(i))], call);
    for (let i = 0; i < 10; i++) await driver.get(["key"], call);
    expect((await commits()) - before).toBe(10);
    await driver.close();
  });

  it("is shared by the components of a sidecar, and closed with the last of them", async () => {
    const { state, pubsub } = sqliteComponents();
    const store = await state.configure(state.schema.parse({}))(directory.context("state"));
    const broker = await pubsub.configure(pubsub.schema.parse({}))(directory.context("pubsub"));
    await store.close();
    await broker.ping(call);
    await broker.close();
    // The last to close moves the log into the file.
    expect((await readdir(directory.path)).filter((name) => name.endsWith("-wal"))).toEqual([]);
    const again = await state.configure(state.schema.parse({}))(directory.context("state"));
    await again.ping(call);
    await again.close();
  });

  it("can be anywhere, by a path or a URI, and have several stores by their tables", async () => {
    const path = join(directory.path, "elsewhere", "my.db");
    const first = await directory.state({ connectionString: path, tableName: "first" });
    const second = await directory.state({ url: `file:${path}?_txlock=immediate`, tableName: "second" });
    await first.write([set("key", "one")], call);
    await second.write([set("key", "two")], call);
    expect([await textOf(first, "key"), await textOf(second, "key")]).toEqual(["one", "two"]);
    await Promise.all([first.close(), second.close()]);
  });

  it("is waited for as long as another program holds its lock, and no longer than busyTimeout", async () => {
    const driver = await directory.state({ busyTimeout: "150" });
    await driver.ping(call);
    const other = new DatabaseSync(file);
    other.exec("BEGIN IMMEDIATE");
    const refused = driver.write([set("key", "value")], call);
    await expect(refused).rejects.toSatisfy((error) => classify(error) === "unavailable");
    const waiting = driver.write([set("key", "value")], call);
    other.exec("COMMIT");
    await waiting;
    expect(await textOf(driver, "key")).toBe("value");
    other.close();
    await driver.close();
  });

  it("is told to be full as something that passes", () => {
    const small = new DatabaseSync(file);
    small.exec("PRAGMA max_page_count = 3; CREATE TABLE t (data BLOB)");
    const fill = () => small.prepare("INSERT INTO t VALUES (zeroblob(100000))").run();
    let told: unknown;
    try {
      fill();
    } catch (error) {
      told = asStoreError(error);
    }
    small.close();
    expect(told).toMatchObject({ message: expect.stringContaining("is full") });
    expect(classify(told)).toBe("unavailable");
  });
});

describe("the fields of components on an embedded store", () => {
  const { state, pubsub } = sqliteComponents();
  const issues = (fields: Record<string, string>, component: Component = state) => {
    const { error } = component.schema.safeParse(fields);
    return error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];
  };

  it("are Dapr's, by either name", () => {
    const fields = {
      connectionString: "file:data.db?_pragma=busy_timeout(10)",
      timeoutInSeconds: "5",
      tableName: "state",
      metadataTableName: "dapr_metadata",
      cleanupInterval: "1h",
      busyTimeout: "2s",
      disableWAL: "false",
    };
    expect(issues(fields)).toEqual([]);
    expect(issues({ url: "data.db", timeout: "20s", cleanupIntervalInSeconds: "-1" })).toEqual([]);
    expect(issues({ retentionAge: "7d", retentionBytes: "512Mi" }, pubsub)).toEqual([]);
  });

  it.each([
    [{ connectionString: ":memory:" }, "connectionString: expected a file"],
    [{ url: "file::memory:?cache=shared" }, "url: expected a file"],
    [{ url: "file:x.db?mode=memory" }, "url: expected a file"],
    [{ connectionString: "file:x.db?mode=ro" }, "connectionString: expected a file that can be written to"],
    [{ connectionString: "" }, "connectionString: expected a path"],
    [{ disableWAL: "true" }, 'disableWAL: expected "false"'],
    [{ tableName: "a; DROP TABLE items" }, "tableName: expected up to 63 letters"],
    [{ timeout: "0" }, "timeout: expected a duration of more than zero"],
    [{ tabelName: "x" }, "Unrecognized key"],
  ])("are refused when they make no sense: %j", (fields, message) => {
    expect(issues(fields as Record<string, string>).join()).toContain(message);
  });
});
