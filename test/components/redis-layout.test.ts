import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EtagMismatch, type StateDriver } from "../../src/blocks/state/driver.ts";
import { numbered, outgoing, PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { bytesOf, pattern, StateFixture, setOf } from "../conformance/state/fixture.ts";
import { startRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import type { Server } from "../servers/server.ts";
import { program } from "../servers/tools.ts";
import { ask } from "./redis-ask.ts";
import { openPubSub, openState } from "./redis-drivers.ts";

/** How Dapr writes an item (components-contrib, state/redis). */
const daprSet = `
  local etag = redis.pcall("HGET", KEYS[1], "version");
  if not etag or etag == "" or etag == ARGV[1] or ARGV[1] == "0" then
    redis.call("HSET", KEYS[1], "data", ARGV[2]);
    return redis.call("HINCRBY", KEYS[1], "version", 1)
  else
    return error("failed to set key " .. KEYS[1])
  end`;

describeWith("redis", "the layout of state.redis", () => {
  let server: Server;
  let driver: StateDriver;
  const state = new StateFixture();

  beforeAll(async () => {
    server = await startRedis();
    driver = await openState(server);
    state.use(driver);
  });
  afterAll(async () => {
    await driver.close();
    await server[Symbol.asyncDispose]();
  });

  const daprWrites = (key: string, etag: string, data: string) =>
    ask(server, "EVAL", daprSet, "1", key, etag, data);

  it("shows an item legibly in redis-cli", async () => {
    const key = "app||order-1";
    await state.set(key, '{"total":5}', { contentType: "application/json", metadata: { by: "jo" } });
    const cli = await promisify(execFile)(program("redis-cli"), ["-p", String(server.port), "HGETALL", key]);
    expect(cli.stdout.split("\n")).toEqual(
      expect.arrayContaining([
        "data",
        '{"total":5}',
        "version",
        "1",
        "contentType",
        "application/json",
        '{"by":"jo"}',
      ]),
    );
  });

  it("is read by Dapr, whose etag is the field version", async () => {
    const key = state.key();
    await state.set(key, "one");
    await state.set(key, "two");
    expect(await ask(server, "HMGET", key, "data", "version")).toEqual(["two", "2"]);
  });

  it("takes items that Dapr wrote, with etags that work", async () => {
    const key = state.key();
    await daprWrites(key, "0", "from dapr");
    const item = await state.get(key);
    expect(item).toMatchObject({ contentType: "", metadata: {}, etag: "1" });
    await state.set(key, "ours", { precondition: { kind: "etag", etag: item!.etag } });
    expect(await ask(server, "HMGET", key, "data", "version")).toEqual(["ours", "2"]);
    await expect(
      state.set(key, "late", { precondition: { kind: "etag", etag: item!.etag } }),
    ).rejects.toBeInstanceOf(EtagMismatch);
  });

  it("lets Dapr write over an item: with Dapr's precondition, a new etag, and nothing left of what was ours", async () => {
    const key = state.key();
    const etag = await state.set(key, "ours", { contentType: "text/plain", metadata: { by: "jo" } });
    await expect(daprWrites(key, "7", "stale")).rejects.toThrow(/failed to set key/);
    await daprWrites(key, "1", "dapr's");
    const item = await state.get(key);
    expect(item).toMatchObject({ value: Buffer.from("dapr's"), contentType: "", metadata: {} });
    expect(item!.etag).not.toBe(etag);
    await expect(state.set(key, "late", { precondition: { kind: "etag", etag } })).rejects.toBeInstanceOf(
      EtagMismatch,
    );
    await state.set(key, "ours again", { precondition: { kind: "etag", etag: item!.etag } });
    expect(await state.textOf(key)).toBe("ours again");
  });

  it("knows when an item expires that Dapr wrote", async () => {
    const key = state.key();
    await daprWrites(key, "0", "for an hour");
    await ask(server, "EXPIRE", key, "3600");
    const left = (await state.get(key))!.expiresAtMs! - Date.now();
    expect(left).toBeGreaterThan(3_590_000);
    expect(left).toBeLessThanOrEqual(3_600_000);
  });

  it("lists and watches what Dapr writes", async () => {
    const prefix = state.key();
    await daprWrites(`${prefix}a`, "0", "a");
    const page = await driver.list!({ prefix, after: undefined, limit: 10, keysOnly: true }, state.call);
    expect(page.items.map(({ key }) => key)).toEqual([`${prefix}a`]);
    const abort = new AbortController();
    const told: (string | undefined)[] = [];
    for await (const batch of driver.watch!(
      { kind: "prefix", prefix, resumeAfter: undefined },
      { signal: abort.signal },
    )) {
      for (const { item } of batch.changes) told.push(item && Buffer.from(item.value!).toString());
      if (batch.snapshotComplete) await daprWrites(`${prefix}a`, "0", "b");
      if (told.at(-1) === "b") await ask(server, "DEL", `${prefix}a`);
      if (told.at(-1) === undefined && told.length > 2) abort.abort();
    }
    expect(told).toEqual(["a", "b", undefined]);
  });

  it("ends a watch when the server is emptied, for what is gone nobody has told", async () => {
    const selector = { kind: "key", key: state.key(), resumeAfter: undefined } as const;
    const error: unknown = await (async () => {
      for await (const batch of driver.watch!(selector, state.call)) {
        if (batch.snapshotComplete) await ask(server, "FLUSHALL");
      }
    })().catch((thrown: unknown) => thrown);
    expect(driver.classify(error)).toBe("unavailable");
  });

  it("keeps a value in one field up to 16 MiB, and in pieces beyond", async () => {
    const [plain, long] = [state.key(), state.key()];
    await driver.write([setOf(plain, bytesOf("x"))], state.call);
    await driver.write([setOf(long, pattern(16 * 1024 * 1024 + 1))], state.call);
    expect(await ask(server, "HEXISTS", plain, "data")).toBe(1);
    expect(await ask(server, "HMGET", long, "data", "bytes")).toEqual([null, String(16 * 1024 * 1024 + 1)]);
    expect(await ask(server, "HEXISTS", long, "data.64")).toBe(1);
    await driver.write([setOf(long, bytesOf("short again"))], state.call);
    expect(await ask(server, "HEXISTS", long, "data.64")).toBe(0);
  });

  it("leaves nothing behind of a value that was not completed", async () => {
    const key = state.key();
    async function* broken() {
      yield pattern(600_000);
      throw new Error("broken");
    }
    const write = { key, contentType: "", metadata: {}, expiresAtMs: undefined, precondition: undefined };
    await expect(driver.writeChunks!(write, broken(), state.call)).rejects.toThrow("broken");
    await expect.poll(() => ask(server, "KEYS", `${key}*`)).toEqual([]);
  });

  it("goes on when the server has forgotten the scripts", async () => {
    const key = state.key();
    await state.set(key, "before");
    await ask(server, "SCRIPT", "FLUSH");
    await state.set(key, "after");
    expect(await state.textOf(key)).toBe("after");
  });
});

describeWith("redis", "the layout of pubsub.redis", () => {
  let server: Server;
  const pubsub = new PubSubFixture();

  beforeAll(async () => {
    server = await startRedis();
    pubsub.use(await openPubSub(server), undefined);
  });
  afterAll(async () => {
    await pubsub.close();
    await server[Symbol.asyncDispose]();
  });

  it("is read by Dapr: the stream has the topic's name, `data` is the CloudEvent, `metadata` has the headers", async () => {
    const topic = pubsub.topic();
    await pubsub.publish(topic, [outgoing("hello", { key: "k", headers: { tenant: "one" } })]);
    const [[, fields]] = (await ask(server, "XRANGE", topic, "-", "+")) as [[string, string[]]];
    const map = Object.fromEntries(
      Array.from({ length: fields.length / 2 }, (_, i) => fields.slice(i * 2, i * 2 + 2)),
    );
    expect(JSON.parse(map["data"])).toMatchObject({ specversion: "1.0", id: "id-hello", data: "hello" });
    expect(JSON.parse(map["metadata"])).toEqual({ tenant: "one" });
    expect(map["key"]).toBe("k");
  });

  it("takes what Dapr writes, and goes on where Dapr's group was", async () => {
    const [topic, group] = [pubsub.topic(), pubsub.group()];
    const event = (id: string) =>
      JSON.stringify({
        specversion: "1.0",
        id,
        source: "dapr",
        type: "com.dapr.event.sent",
        datacontenttype: "text/plain",
        data: id,
      });
    await ask(server, "XGROUP", "CREATE", topic, group, "0", "MKSTREAM");
    await ask(server, "XADD", topic, "*", "data", event("first"));
    await ask(server, "XADD", topic, "*", "data", event("second"), "metadata", '{"a":"b"}');
    await ask(server, "XADD", topic, "*", "data", "raw bytes", "metadata", '{"rawPayload":"true"}');
    const [[, [[id]]]] = (await ask(
      server,
      "XREADGROUP",
      "GROUP",
      group,
      group,
      "COUNT",
      "1",
      "STREAMS",
      topic,
      ">",
    )) as [[string, [[string]]]];
    await ask(server, "XACK", topic, group, id);
    const received = await pubsub.take(await pubsub.open(topic, { group }), 2);
    expect(received.map(textOf)).toEqual(["second", "raw bytes"]);
    expect(received[0]).toMatchObject({ headers: { a: "b" }, event: { id: "second", source: "dapr" } });
    expect(received[1]!.notCloudEvent).toBeUndefined();
  });

  it("keeps the order of keys that are no UTF-8", async () => {
    const topic = pubsub.topic();
    const subscription = await pubsub.open(topic, { ordered: true });
    const add = "return redis.call('XADD', KEYS[1], '*', 'data', ARGV[1], 'key', '\\255\\254')";
    for (const text of ["first", "second"]) await ask(server, "EVAL", add, "1", topic, text);
    expect(await pubsub.consume(subscription, 1)).toEqual(["first"]);
    expect(await pubsub.consume(subscription, 1)).toEqual(["second"]);
  });

  it("says of an entry that is no CloudEvent why, and gives what there is", async () => {
    const topic = pubsub.topic();
    const subscription = await pubsub.open(topic);
    await ask(server, "XADD", topic, "*", "data", "no json");
    await ask(server, "XADD", topic, "*", "price", "5");
    const received = await pubsub.take(subscription, 2);
    expect(received.map(textOf)).toEqual(["no json", '{"price":"5"}']);
    for (const { notCloudEvent } of received) expect(notCloudEvent).toBeTruthy();
  });

  it("removes events that every group has settled within seconds, and no others", async () => {
    const topic = pubsub.topic();
    const [one, other] = [await pubsub.open(topic), await pubsub.open(topic)];
    await pubsub.publish(topic, numbered(300));
    await pubsub.consume(one, 300);
    const received = await pubsub.take(other, 300);
    expect(await ask(server, "XLEN", topic)).toBe(300);
    await pubsub.done(other, received.slice(0, 100));
    await expect.poll(() => ask(server, "XLEN", topic), { timeout: 5000 }).toBe(200);
    await pubsub.done(other, received.slice(100));
    await expect.poll(() => ask(server, "XLEN", topic), { timeout: 5000 }).toBe(0);
  });

  it("leaves no key behind of a broadcast that has ended", async () => {
    const topic = pubsub.topic();
    const broadcast = await pubsub.open(topic, { group: undefined, ordered: true });
    await pubsub.publish(topic, numbered(3, "", "k"));
    await pubsub.take(broadcast, 1);
    await pubsub.closeSubscription(broadcast);
    const left = (await ask(server, "KEYS", `outrider:{${topic}}*`)) as string[];
    // What the sidecar published last is remembered for a minute.
    expect(left.filter((key) => !key.startsWith(`outrider:{${topic}}:published:`))).toEqual([]);
    for (const key of left) expect(await ask(server, "TTL", key)).toBeGreaterThan(0);
  });

  describe("limits", () => {
    const limited = async (fields: Record<string, string>): Promise<PubSubFixture> => {
      const fixture = new PubSubFixture();
      fixture.use(await openPubSub(server, fields), undefined);
      return fixture;
    };

    it("maxLenApprox bounds a topic that nobody reads", async () => {
      const fixture = await limited({ maxLenApprox: "100" });
      const topic = fixture.topic();
      for (let round = 0; round < 10; round += 1) await fixture.publish(topic, numbered(100));
      expect(Number(await ask(server, "XLEN", topic))).toBeLessThanOrEqual(300);
      await fixture.close();
    });

    it("streamTTL removes what is older, settled or not, and the lag says how many", async () => {
      const fixture = await limited({ streamTTL: "1s" });
      const topic = fixture.topic();
      const subscription = await fixture.open(topic);
      await fixture.publish(topic, numbered(5));
      await expect.poll(() => ask(server, "XLEN", topic), { timeout: 5000 }).toBe(0);
      await fixture.publish(topic, ["fresh"]);
      expect(await subscription.lag!(fixture.call())).toEqual({ events: 1, trimmedUnsettled: 5 });
      expect(await fixture.takeTexts(subscription, 1)).toEqual(["fresh"]);
      await fixture.close();
    });

    it("keepSettled keeps what is settled for groups that come late", async () => {
      const fixture = await limited({ keepSettled: "1h" });
      const topic = fixture.topic();
      await fixture.publish(topic, numbered(5));
      const first = await fixture.open(topic);
      await fixture.consume(first, 5);
      // Two signs of life: the topic has been looked after.
      const meta = Object.values((await ask(server, "KEYS", `outrider:{${topic}}:meta:*`)) as string[])[0]!;
      const sweptAt = async () => Number(await ask(server, "HGET", meta, "sweptAt"));
      await expect.poll(sweptAt, { timeout: 5000 }).toBeGreaterThan(0);
      const once = await sweptAt();
      await expect.poll(sweptAt, { timeout: 5000 }).toBeGreaterThan(once);
      expect(await fixture.takeTexts(await fixture.open(topic), 5)).toEqual(["0", "1", "2", "3", "4"]);
      await fixture.close();
    });
  });
});
