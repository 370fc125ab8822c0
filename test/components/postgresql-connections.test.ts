import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import { postgresState } from "../../src/components/postgresql/components.ts";
import { PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { setOf } from "../conformance/state/fixture.ts";
import { certificates } from "../servers/certificates.ts";
import { type PostgresqlServer, sharedPostgresql, startPostgresql } from "../servers/postgresql.ts";
import { describeWith } from "../servers/require.ts";
import { openContext } from "./open-context.ts";
import { Schema } from "./postgresql-schema.ts";

const call = () => ({ signal: AbortSignal.timeout(20_000) });

describeWith("postgresql", "opening a component on PostgreSQL", () => {
  /** What opening says, and how it is classified by a driver that could be opened. */
  const openingFails = async (fields: Record<string, string>, version = "v2") => {
    const open = postgresState.configure(postgresState.schema.parse(fields));
    const opening = open(openContext({ version, signal: AbortSignal.timeout(10_000) }));
    const error: unknown = await opening.then(
      (driver) => driver.close().then(() => "it could be opened"),
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(Error);
    return error as Error & { errorClass: string };
  };
  const parts = async () => {
    const { host, port } = await sharedPostgresql();
    return { host, port: String(port), user: "outrider", password: "secret", database: "outrider" };
  };

  it("takes the address in parts, as a URL and as pairs", async () => {
    const { host, port, passwordUrl } = await sharedPostgresql();
    const schema = new Schema(passwordUrl);
    const pairs = `host=${host} port=${port} user=outrider password='secret' dbname=outrider connect_timeout=5`;
    for (const fields of [
      { connectionString: passwordUrl },
      { connectionString: pairs },
      { connectionString: "", ...(await parts()) },
    ]) {
      const { connectionString, ...rest } = fields as Record<string, string>;
      const driver = await schema.state(
        "v2",
        connectionString ? { connectionString, ...rest } : { ...rest, connectionString: pairs },
      );
      await driver.write([setOf("key")], call());
      await driver.close();
    }
  });

  it("says that the password is wrong, and not what it was", async () => {
    const { message, errorClass } = await openingFails({ ...(await parts()), password: "wr0ng-pa55" });
    expect(message).toMatch(/PostgreSQL at 127\.0\.0\.1:\d+ refused the password .*"outrider"/);
    expect(message).not.toContain("wr0ng-pa55");
    expect(errorClass).toBe("refused");
  });

  it("says that the database does not exist", async () => {
    const { message, errorClass } = await openingFails({ ...(await parts()), database: "nowhere" });
    expect(message).toMatch(/has no such database .*"nowhere"/);
    expect(errorClass).toBe("refused");
  });

  it("says that there is no server", async () => {
    const { message, errorClass } = await openingFails({ host: "localhost", port: "1" });
    expect(message).toBe("PostgreSQL at localhost:1 cannot be reached (ECONNREFUSED)");
    expect(errorClass).toBe("unavailable");
  });

  it("says that there is no such host", async () => {
    const { message, errorClass } = await openingFails({ host: "no-such-host.invalid" });
    expect(message).toMatch(
      /PostgreSQL at no-such-host\.invalid:5432 cannot be reached \((ENOTFOUND|EAI_AGAIN)\)/,
    );
    expect(errorClass).toBe("unavailable");
  });

  it.each([
    ["prefer", "HTTP/1.1 400 Bad Request\r\n\r\n"],
    ["require", "-ERR unknown command\r\n"],
    ["disable", "-ERR unknown command\r\n"],
  ])("says so when the port speaks something else (sslmode %s)", async (mode, answer) => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.end(answer));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    try {
      const connectionString = `postgresql://u:pa55@127.0.0.1:${port}/d?sslmode=${mode}&connect_timeout=2`;
      const { message } = await openingFails({ connectionString });
      expect(message).toMatch(/PostgreSQL server|did not answer in time|broke/);
      expect(message).not.toContain("pa55");
    } finally {
      server.close();
    }
  });

  it("checks the server's certificate as sslmode says", async () => {
    const { ca, foreignCa } = await certificates();
    const { port } = await sharedPostgresql();
    const { host: _, ...rest } = await parts();
    const base = { ...rest, host: "localhost", hostaddr: "127.0.0.1", port: String(port) };
    const mode = (sslmode: string) => ({ ...base, connectionString: `postgresql://?sslmode=${sslmode}` });
    const unknown = await openingFails({ ...mode("verify-full") });
    expect(unknown.message).toMatch(
      /TLS with PostgreSQL at localhost:\d+ failed: .*(certificate|self.signed|issuer)/i,
    );
    const foreign = await openingFails({ ...mode("verify-ca"), sslRootCert: foreignCa });
    expect(foreign.message).toMatch(/TLS with PostgreSQL/);
    const schema = await Schema.make();
    for (const fields of [mode("require"), { ...mode("verify-full"), sslRootCert: ca }]) {
      const driver = await schema.state("v2", {
        metadataTableName: "dapr_metadata_tls",
        tablePrefix: "tls_",
        ...fields,
      });
      await driver.ping(call());
      await driver.close();
    }
  });

  it("says that a certificate has expired, the server's or one's own", async () => {
    const { ca, expired } = await certificates();
    const { port } = await sharedPostgresql();
    const own = `sslmode=verify-full&sslrootcert=${ca}&sslcert=${expired.cert}&sslkey=${expired.key}`;
    const client = await openingFails({
      connectionString: `postgresql://alice@127.0.0.1:${port}/outrider?${own}`,
    });
    expect(client.message).toMatch(/TLS with PostgreSQL at .* failed: .*certificate expired/);
    expect(client.errorClass).toBe("refused");
    await using server = await startPostgresql({ fsync: "off" });
    const schema = new Schema(server.url);
    const [{ data }] = (await schema.sql<{ data: string }>(
      "SELECT current_setting('data_directory') AS data",
    )) as [{ data: string }];
    await writeFile(join(data, "server.key"), await readFile(expired.key));
    await writeFile(join(data, "server.crt"), await readFile(expired.cert));
    await schema.sql("SELECT pg_reload_conf()");
    const checked = { connectionString: `${server.url}?sslmode=verify-full&sslrootcert=${ca}` };
    await expect
      .poll(async () => (await schema.state("v2", checked).then((driver) => driver.close(), String)) ?? "", {
        timeout: 10_000,
      })
      .toMatch(/TLS with PostgreSQL at .* failed: certificate has expired/);
  });

  it("says that the server does not speak TLS when sslmode asks for it, and does without when it prefers it", async () => {
    await using server = await startPostgresql({ ssl: "off", fsync: "off" });
    const { message } = await openingFails({ connectionString: `${server.url}?sslmode=require` });
    expect(message).toMatch(/does not speak TLS/);
    const driver = await new Schema(server.url).state("v2");
    await driver.close();
  });

  it("says that a field belongs to the other version, and that a table is one of the other version", async () => {
    const schema = await Schema.make();
    const connectionString = schema.url;
    expect((await openingFails({ connectionString, tableName: "state" }, "v2")).message).toContain(
      '"tableName" is a field of version v1',
    );
    expect((await openingFails({ connectionString, tablePrefix: "a" }, "v1")).message).toContain(
      '"tablePrefix" is a field of version v2',
    );
    await (await schema.state("v2")).close();
    const metadataTableName = `${schema.name}.dapr_metadata`;
    const fields = { connectionString, tableName: `${schema.name}.state`, metadataTableName };
    expect((await openingFails(fields, "v1")).message).toMatch(
      /is not one of state.postgresql v1: it is one of version v2/,
    );
  });

  it("says which rights the user lacks", async () => {
    const schema = await Schema.make();
    const [user] = [`reader_${schema.name}`];
    await schema.sql(`CREATE ROLE ${user} LOGIN PASSWORD 'secret'`);
    await schema.sql(`CREATE SCHEMA ${schema.name}`);
    const fields = {
      ...(await parts()),
      database: "postgres",
      user,
      tablePrefix: `${schema.name}.`,
      metadataTableName: `${schema.name}.m`,
    };
    const { message, errorClass } = await openingFails(fields);
    expect(message).toMatch(/does not give the user the rights that are needed/);
    expect(errorClass).toBe("refused");
  });

  it("of pubsub says that transactions are isolated in another way than the log needs", async () => {
    const schema = await Schema.make();
    const user = `strict_${schema.name}`;
    await schema.sql(`CREATE ROLE ${user} LOGIN SUPERUSER PASSWORD 'secret'`);
    await schema.sql(`ALTER ROLE ${user} SET default_transaction_isolation = 'repeatable read'`);
    const opening = schema.pubsub({ ...(await parts()), user }).then((driver) => driver.close());
    await expect(opening).rejects.toThrow(/isolation of "repeatable read"/);
  });

  it.each([
    ["connectionString", "mysql://x"],
    ["connectionString", "postgresql://u:p@h/d?sslmode=maybe"],
    ["connectionString", "host=a,b"],
    ["tablePrefix", "a.b.c"],
    ["tablePrefix", "state; DROP TABLE x"],
    ["tableName", "a b"],
    ["useAzureAD", "true"],
    ["maxConns", "-1"],
    ["queryExecMode", "fast"],
  ])("refuses a value that makes no sense before it connects: %s = %s", (field, value) => {
    expect(postgresState.schema.safeParse({ host: "localhost", [field]: value }).success).toBe(false);
    expect(postgresState.schema.safeParse({ host: "localhost" }).success).toBe(true);
  });

  it("is done by one of several sidecars that start at once on an empty database", async () => {
    const schema = await Schema.make();
    const drivers = await Promise.all([
      ...Array.from({ length: 4 }, () => schema.state("v2")),
      ...Array.from({ length: 4 }, () => schema.pubsub()),
    ]);
    const v1 = new Schema(schema.url);
    const others = await Promise.all(Array.from({ length: 4 }, () => v1.state("v1")));
    await (drivers[0] as StateDriver).write([setOf("key", "value")], call());
    expect((await (drivers[3] as StateDriver).get(["key"], call()))[0]?.valueBytes).toBe(5);
    await Promise.all([...drivers, ...others].map((driver) => driver.close()));
  });
});

describeWith("postgresql", "a server that goes away", () => {
  let server: PostgresqlServer;
  let schema: Schema;
  let state: StateDriver;
  let pubsub: PubSubDriver;
  const fixture = new PubSubFixture();

  beforeEach(async () => {
    server = await startPostgresql({ fsync: "off" });
    schema = new Schema(server.url);
    [state, pubsub] = await Promise.all([schema.state("v2"), schema.pubsub()]);
    fixture.use(pubsub, undefined);
  });
  afterEach(async () => {
    await Promise.all([state.close(), pubsub.close()]);
    await server[Symbol.asyncDispose]();
  });

  it("lets calls wait until it is back", async () => {
    const subscription = await fixture.open("topic", { ordered: true });
    await fixture.publish("topic", ["before"]);
    const received = await fixture.take(subscription, 1);
    await server.kill();
    // A write on a connection that has not heard of it yet fails: nobody knows whether it was done. A read is tried again, and by its end all have heard.
    await expect(state.get(["key"], { signal: AbortSignal.timeout(300) })).rejects.toThrow();
    const waiting = [
      state.write([setOf("key")], call()),
      pubsub.ping(call()),
      fixture.done(subscription, received),
    ];
    await server.restart();
    await Promise.all(waiting);
    await fixture.publish("topic", ["after"]);
    expect(await fixture.takeTexts(subscription, 1)).toEqual(["after"]);
  });

  it("makes calls fail as unavailable after ten seconds, or when they end", async () => {
    await server.kill();
    const soon = state.get(["key"], { signal: AbortSignal.timeout(300) }).catch((error: unknown) => error);
    expect(state.classify(await soon)).toBe("cancelled");
    const startedAtMs = performance.now();
    const late = await state.get(["key"], call()).catch((error: unknown) => error);
    expect(state.classify(late)).toBe("unavailable");
    expect(performance.now() - startedAtMs).toBeLessThan(14_000);
    await server.restart();
    expect(await state.get(["key"], call())).toEqual([undefined]);
  });

  it("makes calls fail as unavailable when it freezes, and serves when it thaws", async () => {
    const impatient = await new Schema(server.url).state("v2", { timeout: "1s" });
    await impatient.write([setOf("key")], call());
    await server.freeze();
    const error = await impatient.get(["key"], call()).catch((reason: unknown) => reason);
    expect(impatient.classify(error)).toBe("unavailable");
    await server.thaw();
    expect((await impatient.get(["key"], call()))[0]?.valueBytes).toBe(5);
    await impatient.close();
  });

  it("loses nothing that was acknowledged, and goes on, when all its connections are ended again and again", async () => {
    const subscription = await fixture.open("topic", { group: "group" });
    const acknowledged = new Set<string>();
    const got = new Map<string, number>();
    const stop = new AbortController();
    let allPublished = false;
    const publish = async () => {
      for (let number = 0; !stop.signal.aborted; number += 1) {
        const done = await fixture.publish("topic", [`${number}`]).then(
          () => true,
          () => false,
        );
        if (done) acknowledged.add(`${number}`);
      }
      allPublished = true;
    };
    const consume = async () => {
      while (!allPublished || [...acknowledged].some((text) => !got.has(text))) {
        try {
          const received = await subscription.receive(10, { signal: AbortSignal.timeout(2000) });
          for (const one of received) got.set(textOf(one), (got.get(textOf(one)) ?? 0) + 1);
          await fixture.done(subscription, received);
        } catch (error) {
          expect(pubsub.classify(error)).toBe("unavailable");
        }
      }
    };
    const running = [publish(), consume()];
    for (let round = 0; round < 5; round += 1) {
      const before = got.size;
      await expect.poll(() => got.size, { timeout: 20_000 }).toBeGreaterThan(before + 20);
      await schema.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'outrider%'",
      );
    }
    stop.abort();
    await Promise.all(running);
    expect([...acknowledged].filter((text) => !got.has(text))).toEqual([]);
    expect((await subscription.lag!(call())).events).toBe(0);
  });

  it("that takes no writes any more is left for the one that does, which may be behind the same address", async () => {
    const publisher = await schema.pubsub({
      connectionString: `${server.url}?application_name=publisher`,
      maxConns: "1",
    });
    const connections = async () => {
      const text = "SELECT pid FROM pg_stat_activity WHERE application_name = 'publisher'";
      return (await schema.sql<{ pid: number }>(text)).map(({ pid }) => pid);
    };
    const readOnly = async (words: string) => {
      await schema.sql(`ALTER SYSTEM ${words}`);
      await schema.sql("SELECT pg_reload_conf()");
    };
    await fixture.publish("topic", ["before"], publisher);
    const before = await connections();
    await readOnly("SET default_transaction_read_only = on");
    const publish = () => fixture.publish("topic", ["after"], publisher).then(() => "published", String);
    const still = async () => {
      await publish();
      return (await connections()).filter((pid) => before.includes(pid));
    };
    await expect.poll(still, { timeout: 20_000 }).toEqual([]);
    await readOnly("RESET default_transaction_read_only");
    await expect.poll(publish, { timeout: 20_000 }).toBe("published");
    await publisher.close();
  });

  it("that comes back empty is filled with tables again, and watches end", async () => {
    await state.write([setOf("key")], call());
    await fixture.publish("topic", ["before"]);
    const before = await fixture.open("topic", { group: "group" });
    const watch = state.watch!({ kind: "prefix", prefix: "", resumeAfter: undefined }, call())[
      Symbol.asyncIterator
    ]();
    expect((await watch.next()).value).toMatchObject({ changes: [{ key: "key" }] });
    await schema.sql(`DROP SCHEMA ${schema.name} CASCADE`);
    expect(await state.get(["key"], call())).toEqual([undefined]);
    await state.write([setOf("key", "after")], call());
    await expect(watch.next()).rejects.toMatchObject({ errorClass: "unavailable" });
    await Promise.all([fixture.publish("topic", ["one"]), fixture.publish("topic", ["two"])]);
    // Its member is not known there: the engine opens another.
    await expect(before.receive(1, call())).rejects.toMatchObject({ errorClass: "unavailable" });
    const after = await fixture.open("topic", { group: "group" });
    expect((await fixture.takeTexts(after, 2)).sort()).toEqual(["one", "two"]);
  });

  it("some of whose tables were dropped has them again when a sidecar starts", async () => {
    await state.write([setOf("key")], call());
    await Promise.all([state.close(), pubsub.close()]);
    await schema.sql("DROP TABLE state, outrider_events");
    [state, pubsub] = await Promise.all([schema.state("v2"), schema.pubsub()]);
    fixture.use(pubsub, undefined);
    expect(await state.get(["key"], call())).toEqual([undefined]);
    await state.write([setOf("key", "after")], call());
    await fixture.publish("topic", ["after"]);
    expect(await fixture.takeTexts(await fixture.open("topic"), 1)).toEqual(["after"]);
  });

  it("whose tables are altered by somebody else serves on", async () => {
    await state.write([setOf("key")], call());
    await state.get(["key"], call());
    await schema.sql("ALTER TABLE state ALTER COLUMN key TYPE varchar(2000)");
    await schema.sql("ALTER TABLE state ALTER COLUMN etag TYPE text");
    await state.write([setOf("key", "after")], call());
    expect((await state.get(["key"], call()))[0]?.value).toEqual(Buffer.from("after"));
  });

  it("is asked again whether its notifications arrive, so that events from elsewhere come at once", async () => {
    const there = await schema.pubsub();
    const subscription = await fixture.open("topic");
    await server.kill();
    await server.restart();
    await fixture.publish("topic", ["wakes"], there);
    expect(await fixture.takeTexts(subscription, 1)).toEqual(["wakes"]);
    await there.close();
  });
});

describe("reading connection strings", () => {
  it.each([
    ["host=localhost password='it''s' user=x"],
    ["postgresql://user:%zz@host/db"],
    [""],
    ["just words"],
  ])("refuses one that is none: %s", (connectionString) => {
    const result = postgresState.schema.safeParse({ connectionString });
    expect(result.success).toBe(false);
    expect(JSON.stringify(result.error?.issues)).not.toContain("it's");
  });
});
