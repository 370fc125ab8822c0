import { spawnSync } from "node:child_process";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { StateDriver, WatchBatch } from "../../src/blocks/state/driver.ts";
import { setOf, textOf } from "../conformance/state/fixture.ts";
import { describeWith } from "../servers/require.ts";
import { Schema } from "./postgresql-schema.ts";

const call = { signal: new AbortController().signal };

/** What Dapr's own component makes in an empty database, and what it leaves in its table of migrations. */
const dapr = {
  v1: [
    `CREATE TABLE IF NOT EXISTS state (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, isbinary boolean NOT NULL,
      insertdate TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(), updatedate TIMESTAMP WITH TIME ZONE NULL)`,
    "ALTER TABLE state ADD expiredate TIMESTAMP WITH TIME ZONE",
    "INSERT INTO dapr_metadata VALUES ('migrations', '2')",
  ],
  v2: [
    `CREATE TABLE state (key text NOT NULL PRIMARY KEY, value bytea NOT NULL, etag uuid NOT NULL DEFAULT gen_random_uuid(),
      created_at timestamp with time zone NOT NULL DEFAULT now(), updated_at timestamp with time zone,
      expires_at timestamp with time zone)`,
    "CREATE INDEX ON state (expires_at)",
    "INSERT INTO dapr_metadata VALUES ('migrations-state-v2-', '1')",
  ],
};

/** How Dapr writes an item. */
const daprSet = {
  v1: `INSERT INTO state AS t (key, value, isbinary, expiredate) VALUES ($1, $2, $3, NULL) ON CONFLICT (key)
    DO UPDATE SET value = excluded.value, isbinary = excluded.isBinary, updatedate = CURRENT_TIMESTAMP, expiredate = NULL`,
  v2: `INSERT INTO state (key, value, etag, expires_at) VALUES ($1, $2, gen_random_uuid(), NULL) ON CONFLICT (key)
    DO UPDATE SET value = $2, updated_at = now(), etag = gen_random_uuid(), expires_at = NULL`,
};

describeWith("postgresql", "Dapr and Outrider on the same tables", () => {
  let schema: Schema;
  const open: StateDriver[] = [];
  const state = async (version: "v1" | "v2", fields = {}) => {
    const driver = await schema.state(version, fields);
    open.push(driver);
    return driver;
  };
  const psql = (query: string) => {
    const args = [schema.url, "-qAtX", "-c", `SET search_path = ${schema.name}`, "-c", query];
    const { stdout, stderr } = spawnSync("psql", args, { encoding: "utf8" });
    expect(stderr).toBe("");
    return stdout.trim();
  };
  const asDapr = async (version: "v1" | "v2") => {
    await schema.sql(`CREATE SCHEMA ${schema.name}`);
    await schema.sql("CREATE TABLE dapr_metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL)");
    for (const statement of dapr[version]) await schema.sql(statement);
  };

  beforeEach(async () => {
    schema = await Schema.make();
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((driver) => driver.close()));
  });

  it("v2: Outrider reads what Dapr wrote before it came, and after", async () => {
    await asDapr("v2");
    await schema.sql(daprSet.v2, "app||before", Buffer.from('{"a":1}'));
    const driver = await state("v2");
    const [before] = await driver.get(["app||before"], call);
    expect([textOf(before!), before!.contentType, before!.metadata]).toEqual(['{"a":1}', "", {}]);
    const [{ etag }] = (await schema.sql("SELECT etag FROM state")) as [{ etag: string }];
    expect(before!.etag).toBe(etag);
    await driver.write([setOf("app||before", "mine", { precondition: { kind: "etag", etag } })], call);
    await schema.sql(daprSet.v2, "app||after", Buffer.from("after"));
    expect(
      (await driver.list!({ prefix: "app||", after: undefined, limit: 9, keysOnly: false }, call)).items.map(
        textOf,
      ),
    ).toEqual(["after", "mine"]);
  });

  it("v1: Outrider reads what Dapr wrote, JSON and bytes", async () => {
    await asDapr("v1");
    await schema.sql(daprSet.v1, "json", '{"a": [1, 2]}', false);
    await schema.sql(daprSet.v1, "bytes", JSON.stringify(Buffer.from([0, 255]).toString("base64")), true);
    const driver = await state("v1");
    const [json, bytes] = await driver.get(["json", "bytes"], call);
    expect(textOf(json!)).toBe('{"a": [1, 2]}');
    expect([...bytes!.value!]).toEqual([0, 255]);
    expect(json!.etag).not.toBe(bytes!.etag);
  });

  it("psql shows what Outrider wrote: JSON as JSON in v1, bytes in v2, times as times", async () => {
    const [v1, v2] = [await state("v1", { tableName: `${schema.name}.items` }), await state("v2")];
    const json = '{ "total" : 4.20, "name": "Jo" }';
    const expiresAtMs = Date.UTC(2126, 0, 2);
    for (const driver of [v1, v2])
      await driver.write([setOf("order", json, { contentType: "application/json", expiresAtMs })], call);
    expect(
      psql("SELECT value ->> 'name', isbinary, expiredate AT TIME ZONE 'UTC' FROM items WHERE key = 'order'"),
    ).toBe("Jo|f|2126-01-02 00:00:00");
    expect(
      psql(
        "SELECT convert_from(value, 'UTF8'), expires_at AT TIME ZONE 'UTC' FROM state WHERE key = 'order'",
      ),
    ).toBe(`${json}|2126-01-02 00:00:00`);
    // The very bytes, although jsonb would have changed them.
    for (const driver of [v1, v2]) expect(textOf((await driver.get(["order"], call))[0]!)).toBe(json);
    await v1.write(
      [setOf("text", "plain"), setOf("odd", '{"nul":"\\u0000"}', { contentType: "application/json" })],
      call,
    );
    expect(
      psql(
        "SELECT convert_from(decode(value #>> '{}', 'base64'), 'UTF8'), isbinary FROM items WHERE key = 'text'",
      ),
    ).toBe("plain|t");
    expect(textOf((await v1.get(["odd"], call))[0]!)).toBe('{"nul":"\\u0000"}');
  });

  it.each(["v1", "v2"] as const)(
    "%s: Dapr finds its tables made, and its migrations done",
    async (version) => {
      await state(version);
      const [key, level] =
        version === "v1" ? ["migrations", "2"] : [`migrations-state-v2-${schema.name}.`, "1"];
      expect(await schema.sql("SELECT value FROM dapr_metadata WHERE key = $1", key)).toEqual([
        { value: level },
      ]);
      const value = version === "v1" ? ['"eA=="', true] : [Buffer.from("x")];
      await schema.sql(daprSet[version], "key", ...value);
      expect(textOf((await open[0]!.get(["key"], call))[0]!)).toBe("x");
    },
  );

  it.each(["v1", "v2"] as const)(
    "%s: what Outrider kept beside a value is forgotten when Dapr writes it, chunks too",
    async (version) => {
      const driver = await state(version);
      const item = {
        contentType: "video/mp4",
        metadata: { by: "jo" },
        expiresAtMs: undefined,
        precondition: undefined,
      };
      async function* large() {
        for (let i = 0; i < 17; i += 1) yield Buffer.alloc(1024 * 1024, i);
      }
      const etag = await driver.writeChunks!({ ...item, key: "large" }, large(), call);
      expect((await driver.get(["large"], call))[0]).toMatchObject({
        valueBytes: 17 * 1024 * 1024,
        contentType: "video/mp4",
      });
      const chunks = async () =>
        (await schema.sql("SELECT count(*)::int AS n FROM state_outrider_chunks"))[0]!["n"];
      expect(await chunks()).toBe(68);
      await schema.sql(
        daprSet[version],
        "large",
        ...(version === "v1" ? ['"c21hbGw="', true] : [Buffer.from("small")]),
      );
      const [now] = await driver.get(["large"], call);
      expect([textOf(now!), now!.contentType, now!.metadata]).toEqual(["small", "", {}]);
      expect(now!.etag).not.toBe(etag);
      expect(await chunks()).toBe(0);
    },
  );

  it("tells those who watch what Dapr writes and deletes", async () => {
    const driver = await state("v2");
    const abort = new AbortController();
    const told: [string, boolean][] = [];
    const batches = driver.watch!(
      { kind: "prefix", prefix: "", resumeAfter: undefined },
      { signal: abort.signal },
    );
    for await (const { changes, snapshotComplete } of batches) {
      if (snapshotComplete) {
        await schema.sql(daprSet.v2, "key", Buffer.from("x"));
      }
      told.push(...changes.map(({ key, item }): [string, boolean] => [key, item !== undefined]));
      if (told.length === 1) await schema.sql("DELETE FROM state WHERE key = 'key'");
      if (told.length === 2) abort.abort();
    }
    expect(told).toEqual([
      ["key", true],
      ["key", false],
    ]);
  });

  it("misses nothing of transactions that become visible late, and tells nothing twice", async () => {
    const driver = await state("v2");
    const position = await positionOf(driver);
    // Begins before the other, and commits after it.
    const slow = schema.sql(
      "BEGIN; INSERT INTO state (key, value) VALUES ('slow', ''); SELECT pg_sleep(1.5); COMMIT",
    );
    const uncommitted = () =>
      schema.sql(
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'BEGIN; INSERT%' AND wait_event = 'PgSleep'",
      );
    await expect.poll(async () => (await uncommitted()).length, { timeout: 5000, interval: 10 }).toBe(1);
    await driver.write([setOf("fast")], call);
    const abort = new AbortController();
    const told: string[] = [];
    for await (const { changes } of driver.watch!(
      { kind: "prefix", prefix: "", resumeAfter: position },
      { signal: abort.signal },
    )) {
      told.push(...changes.map(({ key }) => key));
      if (told.includes("slow")) abort.abort();
    }
    await slow;
    expect(told).toEqual(["fast", "slow"]);
  });

  it("removes what has expired at the interval, and not when it is off", async () => {
    const driver = await state("v2", { cleanupInterval: "100ms" });
    await driver.write([setOf("gone", "x", { expiresAtMs: Date.now() - 1 }), setOf("stays")], call);
    const rows = async () => (await schema.sql("SELECT key FROM state")).map(({ key }) => key);
    await expect.poll(rows, { timeout: 10_000 }).toEqual(["stays"]);
    expect(
      await schema.sql("SELECT 1 FROM dapr_metadata WHERE key LIKE 'last-cleanup-state-v2-%'"),
    ).toHaveLength(1);
  });

  it("refuses a key that PostgreSQL cannot keep, and says so", async () => {
    const driver = await state("v2");
    const error: unknown = await driver.write([setOf("a\u0000b")], call).catch((reason: unknown) => reason);
    expect(driver.classify(error)).toBe("refused");
  });

  it("keeps names with a schema, capitals and great length apart", async () => {
    const long = `${"t".repeat(62)}`;
    const [one, other] = [
      await state("v1", { tableName: `${schema.name}.${long}a` }),
      await state("v1", { tableName: `${schema.name}.${long}b` }),
    ];
    const upper = await state("v1", { tableName: `${schema.name}.Mixed` });
    for (const [index, driver] of [one, other, upper].entries())
      await driver.write([setOf("key", `${index}`)], call);
    for (const [index, driver] of [one, other, upper].entries())
      expect(textOf((await driver.get(["key"], call))[0]!)).toBe(`${index}`);
    expect(psql("SELECT key FROM mixed")).toBe("key");
  });
});

/** The position of a watch that begins now. */
async function positionOf(driver: StateDriver): Promise<string> {
  const batches: AsyncIterable<WatchBatch> = driver.watch!(
    { kind: "key", key: "none", resumeAfter: undefined },
    call,
  );
  for await (const { position } of batches) return position!;
  throw new Error("the watch ended");
}
