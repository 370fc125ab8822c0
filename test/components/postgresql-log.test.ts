import { spawnSync } from "node:child_process";
import { Client } from "pg";
import { afterEach, beforeEach, expect, it } from "vitest";
import { OrderConflict, type PubSubDriver, UnknownPosition } from "../../src/blocks/pubsub/driver.ts";
import { numbered, outgoing, PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { describeWith } from "../servers/require.ts";
import { openProxy } from "../servers/toxiproxy.ts";
import { Schema } from "./postgresql-schema.ts";

describeWith("postgresql", "the log of pubsub.postgresql", () => {
  let schema: Schema;
  let pubsub: PubSubFixture;
  const drivers: PubSubDriver[] = [];
  const use = async (fields: Record<string, string> = {}) => {
    const driver = await schema.pubsub(fields);
    drivers.push(driver);
    return driver;
  };
  const count = async (table: string) =>
    (await schema.sql(`SELECT count(*)::int AS n FROM outrider_${table}`))[0]!["n"];

  beforeEach(async () => {
    schema = await Schema.make();
    pubsub = new PubSubFixture();
  });
  afterEach(async () => {
    await pubsub.closeSubscriptions();
    await Promise.all(drivers.splice(0).map((driver) => driver.close()));
  });

  it("shows its events to psql", async () => {
    pubsub.use(await use(), undefined);
    await pubsub.publish("orders", [outgoing('{"total":42}', { key: "k", headers: { h: "v" } })]);
    const query = `SELECT t.name, e.seq, e.key, e.attributes ->> 'type', e.headers ->> 'h', convert_from(e.data, 'UTF8')
      FROM ${schema.name}.outrider_events e JOIN ${schema.name}.outrider_topics t ON t.id = e.topic_id`;
    const { stdout } = spawnSync("psql", [schema.url, "-qAtX", "-c", query], { encoding: "utf8" });
    expect(stdout.trim()).toBe('orders|1|k|dev.outrider.test|v|{"total":42}');
  });

  it("forgets events once every group has settled them, and keeps those of a topic without groups", async () => {
    pubsub.use(await use(), undefined);
    const [one, other] = [await pubsub.open("topic"), await pubsub.open("topic")];
    await pubsub.publish("topic", numbered(50));
    await pubsub.publish("no groups", numbered(5));
    await pubsub.consume(one, 50);
    await pubsub.consume(other, 49);
    const left = await pubsub.take(other, 1);
    await expect.poll(() => count("events"), { timeout: 10_000 }).toBe(6);
    await pubsub.done(other, left);
    await expect.poll(() => count("events"), { timeout: 10_000 }).toBe(5);
    expect(await count("deliveries")).toBe(0);
  });

  it.each([true, false])(
    "reads of a long log what it gives out, and not the rest (ordered: %s)",
    async (ordered) => {
      pubsub.use(await use(), undefined);
      await pubsub.open("topic", { ordered });
      // As long as nobody has counted them, the server thinks that a table's rows are few.
      await schema.sql("ALTER TABLE outrider_events SET (autovacuum_enabled = false)");
      for (let batch = 0; batch < 20; batch += 1) {
        const events = Array.from({ length: 1000 }, (_, index) => outgoing("x", { key: `k${index % 24}` }));
        await pubsub.publish("topic", events);
      }
      const client = new Client({ connectionString: schema.url });
      await client.connect();
      try {
        await client.query(`SET search_path = ${schema.name}; BEGIN`);
        const { rows: claimed } = await client.query(
          "SELECT c.seq FROM outrider_members AS m, outrider_claim(m.group_id, m.id, 24, 1000000, 1) AS c",
        );
        expect(claimed).toHaveLength(24);
        const events = "'outrider_events'::regclass";
        const { rows: read } = await client.query(
          `SELECT (pg_stat_get_xact_tuples_fetched(${events}) + pg_stat_get_xact_tuples_returned(${events}))::int AS n`,
        );
        expect(read[0].n).toBeLessThan(4000);
      } finally {
        await client.end();
      }
    },
  );

  it("gives out what is behind events that somebody has deleted", async () => {
    pubsub.use(await use(), undefined);
    const [free, ordered] = [await pubsub.open("topic"), await pubsub.open("topic", { ordered: true })];
    await pubsub.publish("topic", numbered(3000));
    await schema.sql("DELETE FROM outrider_events WHERE seq BETWEEN 2 AND 2999");
    for (const subscription of [free, ordered])
      expect(await pubsub.takeTexts(subscription, 2)).toEqual(["0", "2999"]);
  });

  it("removes what is too old, counts it for each group that had not settled it, and frees what waited for it", async () => {
    pubsub.use(await use({ retentionAge: "1s" }), undefined);
    const subscription = await pubsub.open("topic", { ordered: true });
    await pubsub.publish("topic", numbered(3, "", "k"));
    const [held] = await pubsub.take(subscription, 1);
    const lag = () => subscription.lag!(pubsub.call());
    await expect.poll(lag, { timeout: 10_000 }).toEqual({ events: 0, trimmedUnsettled: 3 });
    await pubsub.done(subscription, [held!]);
    await pubsub.publish("topic", numbered(1, "new", "k"));
    expect(await pubsub.takeTexts(subscription, 1)).toEqual(["new0"]);
  });

  it("removes the oldest events of a topic that takes too much, and of that topic only", async () => {
    pubsub.use(await use({ retentionBytes: "10Ki" }), undefined);
    const [large, small] = [await pubsub.open("large"), await pubsub.open("small")];
    await pubsub.publish("small", ["stays"]);
    for (let i = 0; i < 30; i += 1) await pubsub.publish("large", [`${i}`.padEnd(1024, ".")]);
    const lag = async () => (await large.lag!(pubsub.call())).trimmedUnsettled;
    await expect.poll(lag, { timeout: 10_000 }).toBeGreaterThanOrEqual(20);
    const { events } = await large.lag!(pubsub.call());
    const texts = (await pubsub.takeTexts(large, events)).map((text) => Number.parseInt(text, 10));
    expect(texts).toEqual(Array.from({ length: events }, (_, i) => 30 - events + i));
    expect(await pubsub.takeTexts(small, 1)).toEqual(["stays"]);
  });

  it("gives a group that reads while several sidecars publish every event, each key in its order", async () => {
    const publishers = [await use(), await use(), await use()];
    pubsub.use(publishers[0]!, undefined);
    const subscription = await pubsub.open("topic", { ordered: false });
    const perPublisher = 300;
    const publishing = publishers.map(async (driver, index) => {
      // Many at once, and none waits for the one before.
      const calls = numbered(perPublisher, `${index}:`).map((event) =>
        pubsub.publish("topic", [event], driver),
      );
      await Promise.all(calls);
    });
    const texts: string[] = [];
    while (texts.length < perPublisher * publishers.length) {
      const received = await subscription.receive(64, pubsub.call());
      expect(received.length).toBeGreaterThan(0);
      texts.push(...received.map(textOf));
      await pubsub.done(subscription, received);
    }
    await Promise.all(publishing);
    for (const [index] of publishers.entries()) {
      const own = texts.filter((text) => text.startsWith(`${index}:`));
      expect(own).toEqual(
        numbered(perPublisher, `${index}:`).map(({ event }) => Buffer.from(event.data).toString()),
      );
    }
    expect(await pubsub.rest(subscription)).toEqual([]);
  });

  it("refuses an event that PostgreSQL cannot keep, and publishes those beside it", async () => {
    pubsub.use(await use(), undefined);
    const subscription = await pubsub.open("topic");
    const results = await Promise.allSettled([
      pubsub.publish("topic", ["before"]),
      pubsub.publish("topic", ["first"]),
      pubsub.publish("topic", [outgoing("bad", { key: "a\u0000b" })]),
      pubsub.publish("topic", ["last"]),
    ]);
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
    const { reason } = results[2] as PromiseRejectedResult;
    expect(pubsub.driver.classify(reason)).toBe("refused");
    expect(await pubsub.takeTexts(subscription, 3)).toEqual(["before", "first", "last"]);
  });

  it("brings a log up to date that an earlier version has made", async () => {
    pubsub.use(await schema.pubsub(), undefined);
    await pubsub.publish("topic", ["before"]);
    await pubsub.driver.close();
    await schema.sql("ALTER TABLE outrider_deliveries DROP COLUMN claim");
    await schema.sql("ALTER TABLE outrider_members DROP COLUMN void_claim");
    await schema.sql("UPDATE outrider_version SET version = 1");
    pubsub.use(await use(), undefined);
    expect(await pubsub.consume(await pubsub.open("topic"), 1)).toEqual(["before"]);
  });

  it("says what is wrong with an open to a sidecar that others have taken for dead, too", async () => {
    pubsub.use(await use(), undefined);
    await pubsub.open("topic", { group: "g", ordered: true }, await use());
    const [other] = await schema.sql<{ id: number }>("SELECT id FROM outrider_sidecars");
    const [{ position }] = (await pubsub.publish("topic", ["event"])) as [{ position: string }];
    await pubsub.open("topic");
    const dead = () => schema.sql("DELETE FROM outrider_sidecars WHERE id <> $1", other!.id);
    await dead();
    const unknown = pubsub.open("topic", {
      start: { at: "position", position: position.replace(/.$/, "9") },
    });
    await expect(unknown).rejects.toBeInstanceOf(UnknownPosition);
    await dead();
    await expect(pubsub.open("topic", { group: "g" })).rejects.toBeInstanceOf(OrderConflict);
  });

  it("moves an event into its topic though the sidecar that published it is gone", async () => {
    const gone = await schema.pubsub();
    pubsub.use(await use(), undefined);
    const subscription = await pubsub.open("topic");
    await pubsub.publish("topic", [outgoing("later", { deliverAtMs: Date.now() + 800 })], gone);
    await gone.close();
    expect(await pubsub.takeTexts(subscription, 1)).toEqual(["later"]);
  });
});

describeWith(
  ["postgresql", "toxiproxy"],
  "a network between a sidecar and PostgreSQL that swallows answers",
  () => {
    it("loses nothing of what was claimed: it is given to the member again, uncounted", async () => {
      const schema = await Schema.make();
      await using proxy = await openProxy(Number(new URL(schema.url).port));
      const there = await schema.pubsub();
      const url = new URL(schema.url);
      url.port = String(proxy.port);
      const fields = { connectionString: url.href, listenConnectionString: schema.url, timeout: "3s" };
      const pubsub = new PubSubFixture();
      pubsub.use(await schema.pubsub(fields), there);
      const subscription = await pubsub.open("topic", { group: "group" });
      await pubsub.publish("topic", ["a", "b"], there);
      // The claim is on its way and waits for a lock when the network begins to swallow its answer.
      const blocker = new Client({ connectionString: schema.url });
      await blocker.connect();
      await blocker.query("BEGIN");
      await blocker.query(`SELECT 1 FROM ${schema.name}.outrider_groups FOR UPDATE`);
      const waiting = pubsub.take(subscription, 2);
      const claims = () =>
        schema.sql(
          "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1",
          `%${schema.name}%claim%`,
        );
      await expect
        .poll(async () => (await claims()).length, { timeout: 5000, interval: 10 })
        .toBeGreaterThan(0);
      await proxy.poison({ type: "timeout", timeout: 0 }, "downstream");
      await blocker.query("ROLLBACK");
      await blocker.end();
      const held = () => schema.sql("SELECT seq FROM outrider_deliveries WHERE owner IS NOT NULL");
      await expect.poll(async () => (await held()).length, { timeout: 5000, interval: 10 }).toBe(2);
      await proxy.mend();
      expect((await waiting).map((one) => [textOf(one), one.attempt])).toEqual([
        ["a", 1],
        ["b", 1],
      ]);
      await pubsub.close();
    });
  },
);
