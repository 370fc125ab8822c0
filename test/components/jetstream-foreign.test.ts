import { type JetStreamClient, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect, headers, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PubSubDriver, Received } from "../../src/blocks/pubsub/driver.ts";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import { bucketKeyOf, keyOf } from "../../src/components/jetstream/state-keys.ts";
import { subjectOf, topicOf } from "../../src/components/jetstream/subjects.ts";
import { outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { setOf } from "../conformance/state/fixture.ts";
import { sharedNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import { openPubSub, openState } from "./jetstream-server.ts";

const call = () => ({ signal: AbortSignal.timeout(10_000) });
const run = `${process.pid}-${Date.now().toString(36)}`;

describeWith("nats", "somebody else's client of NATS", () => {
  let connection: NatsConnection;
  let js: JetStreamClient;
  let driver: PubSubDriver;
  let store: StateDriver;
  const bucket = `foreign-${run}`;

  beforeAll(async () => {
    const { url } = await sharedNats();
    connection = await connect({ servers: url });
    js = jetstream(connection);
    driver = await openPubSub({ natsURL: url });
    store = await openState({ natsURL: url, bucket });
  });
  afterAll(async () => {
    await driver.close();
    await store.close();
    await connection.close();
  });

  /** Receives one event of a topic that a test has published to. */
  async function one(topic: string, raw = false): Promise<Received> {
    const spec = { topic, group: `group-${topic}`, start: { at: "earliest" }, ordered: false, raw } as const;
    const subscription = await driver.open(spec, call());
    const [event] = await subscription.receive(1, call());
    await subscription.close();
    return event!;
  }

  /** A topic with a stream that an operator made. */
  async function topic(name: string): Promise<string> {
    const full = `${name}-${run}`;
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: `THEIRS_${full}`, subjects: [full, `${full}.>`] });
    return full;
  }

  it("reads what is published as a CloudEvent in JSON, under the topic's own name", async () => {
    const name = await topic("written");
    const event = outgoing('{"total":42}', { headers: { tenant: "blue" } });
    event.event.dataContentType = "application/json";
    await driver.publish(`${name}.paid`, [event], call());
    const consumer = await js.consumers.get(`THEIRS_${name}`);
    const message = await consumer.next({ expires: 5000 });
    expect(message!.subject).toBe(`${name}.paid`);
    expect(message!.headers?.get("tenant")).toBe("blue");
    expect(message!.headers?.get("content-type")).toBe("application/cloudevents+json");
    expect(message!.json()).toMatchObject({
      specversion: "1.0",
      source: "conformance",
      datacontenttype: "application/json",
      data: { total: 42 },
    });
  });

  it("is understood as Dapr writes: a document in JSON without headers", async () => {
    const name = await topic("dapr");
    const document = {
      specversion: "1.0",
      id: "1",
      source: "app",
      type: "com.dapr.event.sent",
      topic: "orders",
    };
    const text = { ...document, pubsubname: "pubsub", datacontenttype: "text/plain", data: "hello" };
    await js.publish(name, JSON.stringify(text), { msgID: "1" });
    const event = await one(name);
    expect(event).toMatchObject({ event: { id: "1", type: "com.dapr.event.sent" }, headers: {} });
    expect(event.event.extensions).toEqual({ topic: "orders", pubsubname: "pubsub" });
    expect(textOf(event)).toBe("hello");
    expect(event.notCloudEvent).toBeUndefined();
  });

  it("is understood in binary mode: attributes in headers, data as it is", async () => {
    const name = await topic("binary");
    const written = headers();
    for (const [header, value] of Object.entries({
      "ce-specversion": "1.0",
      "ce-id": "7",
      "ce-source": "/sensors/k%C3%BCche",
      "ce-type": "measured",
      "ce-time": "2026-01-31T23:59:59.5Z",
      "ce-room": "4",
      "ce-nameoftwentyoneletters": "longer than it should be",
      "content-type": "application/octet-stream",
      "x-other": "kept",
    }))
      written.set(header, value);
    await js.publish(name, Uint8Array.of(1, 2, 3), { headers: written });
    const event = await one(name);
    expect(event.event).toMatchObject({
      id: "7",
      source: "/sensors/küche",
      type: "measured",
      dataContentType: "application/octet-stream",
      extensions: { room: "4", nameoftwentyoneletters: "longer than it should be" },
    });
    expect([...event.event.data]).toEqual([1, 2, 3]);
    expect(event.headers).toEqual({ "x-other": "kept" });
  });

  it("is delivered as its bytes when its attributes in headers are no CloudEvent's, and with the reason", async () => {
    const name = await topic("broken");
    const complete = { specversion: "1.0", id: "7", source: "/sensors", type: "measured" };
    const broken: [object, RegExp][] = [
      [{ specversion: "7.0" }, /not well formed: ce-specversion is not 1\.0/],
      [{ id: "" }, /not well formed: ce-id is missing/],
      [{ type: "" }, /not well formed: ce-type is missing/],
      [{ time: "soon" }, /not well formed: ce-time is no time/],
    ];
    for (const [index, [attributes, reason]] of broken.entries()) {
      const written = headers();
      written.set("content-type", "text/plain");
      for (const [attribute, value] of Object.entries({ ...complete, ...attributes }))
        written.set(`CE-${attribute}`, value);
      await js.publish(`${name}.${index}`, "bytes", { headers: written });
      const event = await one(`${name}.${index}`);
      expect(event.notCloudEvent).toMatch(reason);
      expect(event.event).toMatchObject({ id: "", type: "", dataContentType: "text/plain" });
      expect(textOf(event)).toBe("bytes");
    }
  });

  it("is delivered with what is known when it sends no CloudEvent, and with the reason", async () => {
    const name = await topic("plain");
    for (const [text, reason] of [
      ["plain text", /neither a JSON document nor headers/],
      ['{"specversion":"1.0","id":"1"}', /not well formed/],
    ] as const) {
      await js.publish(`${name}.${text.length}`, text);
      const event = await one(`${name}.${text.length}`);
      expect(textOf(event)).toBe(text);
      expect(event.notCloudEvent).toMatch(reason);
      expect((await one(`${name}.${text.length}`, true)).notCloudEvent).toBeUndefined();
    }
  });

  it("reads raw events as nothing but their bytes", async () => {
    const name = await topic("raw");
    await driver.publish(name, [outgoing("bytes", { raw: true })], call());
    const consumer = await js.consumers.get(`THEIRS_${name}`);
    expect((await consumer.next({ expires: 5000 }))!.string()).toBe("bytes");
  });

  it("reads and writes the same items in a bucket, under the keys that Dapr gives them", async () => {
    const kv = await new Kvm(connection).open(bucket);
    const [etag] = await store.write([setOf("app||order.1", '{"total":1}')], call());
    const entry = await kv.get("app.order.1");
    expect(entry!.string()).toBe('{"total":1}');
    expect(String(entry!.revision)).toBe(etag);
    await kv.put("app.order.1", '{"total":2}');
    await kv.put("app.order.2", "new");
    const items = await store.get(["app||order.1", "app||order.2"], call());
    expect(items.map((item) => Buffer.from(item!.value!).toString())).toEqual(['{"total":2}', "new"]);
    await expect(
      store.write([setOf("app||order.1", "x", { precondition: { kind: "etag", etag: etag! } })], call()),
    ).rejects.toMatchObject({ name: "EtagMismatch" });
    await kv.delete("app.order.1");
    expect(await store.get(["app||order.1"], call())).toEqual([undefined]);
    await store.write([{ kind: "delete", key: "app||order.2", precondition: undefined }], call());
    expect(await kv.get("app.order.2").then((gone) => gone?.operation)).toBe("PURGE");
    const { items: listed } = await store.list!(
      { prefix: "app||", after: undefined, limit: 10, keysOnly: true },
      call(),
    );
    expect(listed).toEqual([]);
  });

  it("works on a bucket that it made, which has no expiry and no transactions then", async () => {
    const theirs = `theirs-${run}`;
    const kv = await new Kvm(connection).create(theirs, { history: 5 });
    await kv.put("app.key", "value");
    const { url: natsURL } = await sharedNats();
    const other = await openState({ natsURL, bucket: theirs });
    expect(other.supports).toMatchObject({ timeToLive: false, transactions: false });
    expect((await other.get(["app||key"], call()))[0]?.valueBytes).toBe(5);
    await other.write([{ kind: "delete", key: "app||key", precondition: undefined }], call());
    expect((await kv.get("app.key"))?.operation).toBe("DEL");
    await other.close();
  });
});

describe("names in NATS", () => {
  it.each([
    ["orders", "orders"],
    ["orders.eu.paid", "orders.eu.paid"],
    ["Straße.日本", "Straße.日本"],
    ["two words", "two%20words"],
    ["a..b.", "a.%00.b.%00"],
    ["$SYS.REQ", "%24SYS.REQ"],
    ["100%", "100%"],
    ["a%20b", "a%2520b"],
    ["tab\u00a0", "tab%C2%A0"],
  ])("of the topic %j is the subject %j, and back", (topic, subject) => {
    expect(subjectOf(topic)).toBe(subject);
    expect(topicOf(subject)).toBe(topic);
  });

  it.each([
    ["app||key", "app.key"],
    ["app||order.1", "app.order.1"],
    ["app||a||b", "app.a=7C=7Cb"],
    ["app||..a.", "app.=2E=2Ea=2E"],
    ["app||", "app.="],
    ["my.app||key", "my=2Eapp.key"],
    ["no.application", "no=2Eapplication"],
    ["||key", "=7C=7Ckey"],
    ["app||a=b ü", "app.a=3Db=20=C3=BC"],
    ["a/b-c_d", "a/b-c_d"],
  ])("of the key %j is %j in the bucket, and back", (key, inBucket) => {
    expect(bucketKeyOf(key)).toBe(inBucket);
    expect(keyOf(inBucket)).toBe(key);
  });
});
