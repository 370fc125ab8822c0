/** Publishing, and what of it the application gets. */
import { randomInt } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, it } from "vitest";
import { Dapr } from "../../../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import type { PublishEventRequestSchema } from "../../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import { ErrorInfoSchema, ResourceInfoSchema } from "../../../../gen/google/rpc/error_details_pb.ts";
import { isPattern } from "../../../../src/blocks/pubsub/topics.ts";
import { Daprd, inMemory, v1 } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { HttpApp } from "../http-app.ts";
import { DATA } from "./payloads.ts";

const topic = "test-topic";
const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02";
const noTraceparent = "00-00000000000000000000000000000000-0000000000000000-00";
const toGrpc = async (metadata: Record<string, string> = {}, env?: Record<string, string>) => {
  const subscriptions = [{ pubsubName: "mypub", topic, routes: { default: `/${topic}` }, metadata }];
  const app = await GrpcApp.start({ subscriptions });
  const at = { port: app.port, protocol: "grpc" };
  return { app, daprd: await Daprd.start({ resources: inMemory(), app: at, ...(env && { env }) }) };
};
const toHttp = async () => {
  const subscribe = [{ pubsubname: "mypub", topic, route: `/${topic}` }];
  const routes = { [`/${topic}`]: { status: 200, body: '{"status":"SUCCESS"}' } };
  const app = await HttpApp.start({ subscribe, routes });
  return { app, daprd: await Daprd.start({ resources: inMemory(), app }) };
};
const oddTraces = ['"traceid":12345', '"traceparent":12345', '"traceparent":{"x":1}', '"traceid":true'];
const withTrace = (trace: string) =>
  `{"specversion":"1.0","id":"a","source":"b","type":"c","datacontenttype":"text/plain","data":"hello",${trace}}`;
const cloudEvents = "application/cloudevents+json";

describe("events that clients and others make", () => {
  it("a record that is an object in JSON is the body, as it is; another is wrapped", async () => {
    const { app: started, daprd: sidecar } = await toHttp();
    await using app = started;
    await using daprd = sidecar;
    const raw = `${topic}?metadata.rawPayload=true`;
    expect(await daprd.publish(raw, '{"order": 1}')).toBe(204);
    expect((await app.delivered(`/${topic}`)).body).toEqual({ order: 1 });
    expect(await daprd.publish(raw, "[1]")).toBe(204);
    expect((await app.delivered(`/${topic}`, 1)).body).toMatchObject({
      specversion: "1.0",
      datacontenttype: "application/octet-stream",
      data_base64: Buffer.from("[1]").toString("base64"),
    });
  });

  it("a CloudEvent gets what it lacks", async () => {
    const { app: started, daprd: sidecar } = await toHttp();
    await using app = started;
    await using daprd = sidecar;
    const headers = { "content-type": `${cloudEvents}; charset=utf-8` };
    expect(await daprd.publish(topic, '{"id":"1","data":{"a":1}}', headers)).toBe(204);
    expect((await app.delivered(`/${topic}`)).body).toMatchObject({
      ...{ id: "1", source: "Dapr", type: "com.dapr.event.sent", specversion: "1.0", data: { a: 1 } },
      ...{ topic, pubsubname: "mypub" },
    });
  });
});

describe("metadata of a publish", () => {
  it("has a time to live in seconds or as Go writes durations; what is none says nothing", async () => {
    const { app: started, daprd: sidecar } = await toHttp();
    await using app = started;
    await using daprd = sidecar;
    const values = [
      "ttlInSeconds=0",
      "ttlInSeconds=-1",
      "ttlInSeconds=x",
      "ttlInSeconds=",
      "ttl=",
      "rawPayload=",
    ];
    for (const value of values) {
      expect([value, await daprd.publish(`${topic}?metadata.${value}`, "x")]).toEqual([value, 204]);
      expect((await app.delivered(`/${topic}`, values.indexOf(value))).body).not.toHaveProperty("expiration");
    }
    let next = values.length;
    for (const value of ["ttlInSeconds=100", "ttl=100s", "TTL=1m40s", "ttlinseconds=999999999999999"]) {
      expect([value, await daprd.publish(`${topic}?metadata.${value}`, "x")]).toEqual([value, 204]);
      const { expiration } = (await app.delivered(`/${topic}`, next++)).body as { expiration: string };
      expect(Date.parse(expiration)).toBeGreaterThan(Date.now());
    }
  });
});

describe("traces and tokens", () => {
  it("pubsub/grpc/app-api-token", async () => {
    const { app: started, daprd: sidecar } = await toGrpc({}, { APP_API_TOKEN: "test-app-token" });
    await using app = started;
    await using daprd = sidecar;
    await daprd.publishEvent(topic, '{"message": "hello"}', "application/json");
    expect((await app.delivered(topic)).metadata.get("dapr-api-token")).toEqual(["test-app-token"]);
  });

  it("pubsub/grpc/non-string-trace", async () => {
    const { app: started, daprd: sidecar } = await toGrpc();
    await using app = started;
    await using daprd = sidecar;
    for (const [index, trace] of oddTraces.entries()) {
      await daprd.publishEvent(topic, withTrace(trace), cloudEvents);
      expect(Buffer.from((await app.delivered(topic, index)).event.data).toString()).toBe("hello");
      expect(await daprd.health()).toBe(204);
    }
  });

  it("pubsub/http/non-string-trace", async () => {
    const { app: started, daprd: sidecar } = await toHttp();
    await using app = started;
    await using daprd = sidecar;
    for (const [index, trace] of oddTraces.entries()) {
      expect(await daprd.publish(topic, withTrace(trace), { "content-type": cloudEvents })).toBe(204);
      expect((await app.delivered(`/${topic}`, index)).body).toMatchObject({ id: "a", data: "hello" });
      expect(await daprd.health()).toBe(204);
    }
  });

  it("pubsub/grpc/traceparent-raw", async () => {
    const { app: started, daprd: sidecar } = await toGrpc({ rawPayload: "true", isRawPayload: "true" });
    await using app = started;
    await using daprd = sidecar;
    const request = {
      ...{ pubsubName: "mypub", topic, dataContentType: "application/json" },
      data: Buffer.from('{"message": "hello"}'),
      metadata: { rawPayload: "true" },
    };
    await daprd.grpc.publishEvent(request, { headers: { traceparent } });
    await daprd.grpc.publishEvent(request);
    const [traced, untraced] = [await app.delivered(topic, 0), await app.delivered(topic, 1)];
    expect(traced.metadata.get("traceparent")).toEqual([traceparent]);
    expect(traced.metadata.get("grpc-trace-bin")[0]).toHaveLength(29);
    expect(Buffer.from(traced.event.data).toString()).toBe('{"message": "hello"}');
    expect(untraced.metadata.get("traceparent")).toEqual([noTraceparent]);
  });

  it("pubsub/http/traceparent", async () => {
    const { app: started, daprd: sidecar } = await toHttp();
    await using app = started;
    await using daprd = sidecar;
    const type = { "content-type": "application/json" };
    await daprd.publish(topic, '{"message": "hello from http"}', { ...type, traceparent });
    await daprd.publish(topic, '{"message": "hello from http"}', type);
    expect((await app.delivered(`/${topic}`, 0)).headers["traceparent"]).toBe(traceparent);
    expect((await app.delivered(`/${topic}`, 1)).headers["traceparent"]).toBe(noTraceparent);
  });
});

describe("what publishing does not take", () => {
  // The outbox of this entry is behind a pluggable component: see the tests of those.
  it("pubsub/grpc/error-details", async () => {
    await using daprd = await Daprd.start({ resources: inMemory("mypubsub") });
    const failure = async (request: MessageInitShape<typeof PublishEventRequestSchema>) => {
      const error = await daprd.grpc.publishEvent(request).then(
        () => expect.unreachable(),
        (reason: unknown) => ConnectError.from(reason),
      );
      const [info] = error.findDetails(ErrorInfoSchema);
      const [resource] = error.findDetails(ResourceInfoSchema);
      return {
        ...{ code: error.code, message: error.rawMessage, reason: info?.reason, domain: info?.domain },
        ...{ metadata: Object.keys(info?.metadata ?? {}).sort(), resource: resource?.resourceName },
        ...{ details: error.details.length },
      };
    };
    const invalid = { code: Code.InvalidArgument, domain: "dapr.io", metadata: [] as string[] };
    expect(await failure({ pubsubName: "pubsub-doesn't-exist", topic: "t" })).toEqual({
      ...{ ...invalid, message: "pubsub pubsub-doesn't-exist is not found", resource: undefined },
      ...{ reason: "DAPR_PUBSUB_NOT_FOUND", details: 1 },
    });
    expect(await failure({ pubsubName: "", topic: "t" })).toEqual({
      ...{ ...invalid, message: "pubsub name is empty", resource: "", details: 2 },
      reason: "DAPR_PUBSUB_NAME_EMPTY",
    });
    const own = { ...invalid, resource: "mypubsub", details: 2 };
    expect(await failure({ pubsubName: "mypubsub", topic: "" })).toEqual({
      ...{ ...own, message: "topic is empty in pubsub mypubsub", reason: "DAPR_PUBSUB_TOPIC_NAME_EMPTY" },
    });
    const metadata = { rawPayload: "invalidBooleanValue" };
    expect(await failure({ pubsubName: "mypubsub", topic: "t", metadata })).toEqual({
      ...{ ...own, metadata: ["appID", "error"], reason: "DAPR_PUBSUB_METADATA_DESERIALIZATION" },
      message:
        "failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'invalidBooleanValue'",
    });
    const broken = { data: Buffer.from('{"missing_quote: invalid}'), dataContentType: cloudEvents };
    expect(
      await failure({ pubsubName: "mypubsub", topic: "t", metadata: { rawPayload: "false" }, ...broken }),
    ).toEqual({
      ...{ ...own, metadata: ["appID", "error"], reason: "DAPR_PUBSUB_CLOUD_EVENT_CREATION" },
      message: "cannot create cloudevent",
    });
  });
});

describe("odd names", () => {
  it("pubsub/grpc/odd-component-names, pubsub/http/odd-component-names", { timeout: 120_000 }, async () => {
    const names = Array.from({ length: 1000 }, () => oddName(true));
    const distinct = [...new Set(names)];
    const files = Object.fromEntries(distinct.map((name, index) => [`${index}.yaml`, component(name)]));
    await using daprd = await Daprd.start({ files });
    const url = `http://127.0.0.1:${daprd.grpcPort}`;
    const publish = async (name: string) => {
      const own = createClient(Dapr, createGrpcTransport({ baseUrl: url }));
      await own.publishEvent({ pubsubName: name, topic: oddName(false), data: Buffer.from(DATA) });
      const path = `/v1.0/publish/${formEncoded(name)}/${formEncoded(oddName(false))}`;
      const headers = { "content-type": "application/json" };
      const response = await fetch(daprd.url(path), { method: "POST", headers, body: DATA });
      expect({ name, status: response.status }).toEqual({ name, status: 204 });
    };
    // A sample: each is published to over connections of its own.
    for (let from = 0; from < 100; from += 5)
      await Promise.all(distinct.slice(from, from + 5).map((name) => publish(name)));
  });

  it("pubsub/http/odd-names-raw", { timeout: 60_000 }, async () => {
    const pubsubs = [...new Set(Array.from({ length: 20 }, () => oddName(true)))];
    const subscribe = pubsubs.flatMap((pubsubname) => {
      // A wildcard would get the events of other topics, too.
      const topics = new Set(Array.from({ length: randomInt(1, 31) }, () => oddName(false)));
      return [...topics]
        .filter((name) => !isPattern(name))
        .map((each) => ({
          pubsubname,
          topic: each,
          route: `/${oddName(false).replace(/[?#]/g, "x")}`,
          metadata: { rawPayload: "true" },
        }));
    });
    const answers = new Proxy<Record<string, number>>({}, { get: () => 200 });
    await using app = await HttpApp.start({ subscribe, routes: answers });
    const files = Object.fromEntries(pubsubs.map((name, index) => [`${index}.yaml`, component(name)]));
    await using daprd = await Daprd.start({ files, app });
    expect((await daprd.metadata()).subscriptions).toHaveLength(subscribe.length);
    for (const [index, { pubsubname, topic: to, route }] of subscribe.entries()) {
      const path = `/v1.0/publish/${formEncoded(pubsubname)}/${formEncoded(to)}`;
      const headers = { "content-type": "application/json" };
      const response = await fetch(daprd.url(path), { method: "POST", headers, body: `"text ${index}"` });
      expect({ path, status: response.status }).toEqual({ path, status: 204 });
      await expect.poll(() => app.calls.length, { timeout: 5000, interval: 5 }).toBe(index + 1);
      const call = app.calls[index]!;
      expect(decodeURIComponent(call.path)).toBe(route);
      const inner = JSON.parse(Buffer.from(String(call.body!["data_base64"]), "base64").toString());
      expect(inner).toMatchObject({ data: `text ${index}`, topic: to, pubsubname });
    }
    daprd.signal("SIGINT");
    expect(await daprd.exitCode()).toBe(0);
  });
});

describe("pubsub/scopes", () => {
  it("pubsub/scopes/allowed-topics", async () => {
    const { resources } = scoped("allowedTopics", ["1", "2"]);
    await expectScopes(["1", "2", "3"], resources, 10, {
      ...{ topic0: "EEE", topic1: "DDD", topic2: "DDD" },
      ...{ topic3: "DED", topic4: "EDD", topic5: "DND", topic6: "NDD" },
      ...{ topic7: "END", topic8: "NED", topic9: "DDD" },
    });
  });

  it("pubsub/scopes/protected-topics", async () => {
    const { resources } = scoped("protectedTopics", ["app1", "app2"]);
    await expectScopes(["app1", "app2", "app3"], resources, 11, {
      ...{ topic0: "DDD", topic1: "EEE", topic2: "EEE" },
      ...{ topic3: "NEE", topic4: "ENE", topic5: "EEE", topic6: "EEE" },
      ...{ topic7: "ENE", topic8: "NEE", topic9: "DDE", topic10: "EEE" },
    });
  });

  it("pubsub/scopes/namespaced-bulk", async () => {
    await using app = await GrpcApp.start();
    await using daprd = await Daprd.start({
      appId: "app1",
      env: { NAMESPACE: "ns1" },
      app: { port: app.port, protocol: "grpc" },
      resources:
        inMemory("namespacedbulk", { consumerID: "{namespace}" }) +
        v1("s", "topic0", "/a", { pubsubname: "namespacedbulk", bulkSubscribe: { enabled: true } }),
    });
    const { components, subscriptions } = await daprd.metadata();
    expect([components?.length, subscriptions?.length]).toEqual([1, 1]);
    const { failedEntries } = await daprd.grpc.bulkPublishEvent({
      pubsubName: "namespacedbulk",
      topic: "topic0",
      entries: [{ entryId: "1", event: Buffer.from('{"id":1}'), contentType: "application/json" }],
    });
    expect(failedEntries).toEqual([]);
    await expect.poll(() => app.bulks.length, { timeout: 3000, interval: 5 }).toBe(1);
    expect(app.bulks[0]!.entries).toHaveLength(1);
  });
});

/** The components of the scopes' cases with their subscriptions, for the application ids that stand for 1 and 2. */
function scoped(list: "allowedTopics" | "protectedTopics", [one, two]: readonly [string, string]) {
  const lastTopics = "topic7,topic8,topic9";
  const isProtected = list === "protectedTopics";
  const topics789: Record<string, string> = isProtected
    ? { allowedTopics: `${lastTopics},topic10`, protectedTopics: `${lastTopics},topic10` }
    : { allowedTopics: lastTopics };
  const sub = (pubsubname: string, number: number) =>
    v1(`sub${number}`, `topic${number}`, "/a", { pubsubname });
  const last = "topic789-publishing-subscribing";
  const resources = [
    inMemory("topic12", { [list]: "topic1,topic2" }),
    inMemory("topic34-publishing", {
      [list]: "topic3,topic4",
      publishingScopes: `${one}=topic3;${two}=topic4`,
    }),
    inMemory("topic56-subscribing", {
      [list]: "topic5,topic6",
      subscriptionScopes: `${one}=topic5;${two}=topic6`,
    }),
    inMemory(last, {
      ...topics789,
      subscriptionScopes: `${one}=topic7,topic9;${two}=topic8,topic9`,
      publishingScopes: `${one}=topic8,topic9;${two}=topic7,topic9`,
    }),
    ...[0, 1, 2].map((number) => sub("topic12", number)),
    ...[3, 4].map((number) => sub("topic34-publishing", number)),
    ...[5, 6].map((number) => sub("topic56-subscribing", number)),
    ...[7, 8, 9].map((number) => sub(last, number)),
    ...(isProtected ? [sub(last, 10)] : []),
  ].join("");
  return { resources };
}

function pubsubOf(number: number): string {
  if (number <= 2) return "topic12";
  if (number <= 4) return "topic34-publishing";
  return number <= 6 ? "topic56-subscribing" : "topic789-publishing-subscribing";
}

/** Publishes each topic on each sidecar: E is an error, D delivered, N neither. */
async function expectScopes(
  ids: readonly string[],
  resources: string,
  subscriptions: number,
  expected: Readonly<Record<string, string>>,
): Promise<void> {
  await using app = await GrpcApp.start();
  await using stack = new AsyncDisposableStack();
  const seen: Record<string, string> = Object.fromEntries(Object.keys(expected).map((each) => [each, ""]));
  for (const id of ids) {
    const at = { port: app.port, protocol: "grpc" };
    const daprd = stack.use(await Daprd.start({ appId: id, resources, app: at }));
    const metadata = await daprd.metadata();
    expect([metadata.components?.length, metadata.subscriptions?.length]).toEqual([4, subscriptions]);
    for (const each of Object.keys(expected)) {
      const before = app.events.length;
      const pubsub = pubsubOf(Number(each.slice("topic".length)));
      const failed = await daprd.publishEvent(each, DATA, "", pubsub).then(
        () => false,
        () => true,
      );
      const wanted = expected[each]![ids.indexOf(id)];
      if (wanted === "D") await expect.poll(() => app.events.length, { interval: 5 }).toBe(before + 1);
      seen[each] += failed ? "E" : app.events.length > before ? "D" : "N";
    }
  }
  expect(seen).toEqual(expected);
  const delivered = Object.values(expected).join("").replaceAll(/[^D]/g, "").length;
  expect(app.events).toHaveLength(delivered);
}

const oddCharacters = [...range(0x20, 0x7e), ...range(0xa0, 0x2af), ...range(0x4e00, 0x4e80)].filter(
  (character) => !"/%".includes(character),
);

/** Up to 20 printable characters. */
function oddName(startsWithLetter: boolean): string {
  const name = Array.from({ length: randomInt(1, 20) }, () => oddCharacters[randomInt(oddCharacters.length)]);
  const whole = `${startsWithLetter ? String.fromCharCode(randomInt(97, 123)) : ""}${name.join("")}`;
  return /^\.{1,2}$/.test(whole) ? "x" : whole;
}

function range(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => String.fromCodePoint(first + index));
}

function formEncoded(text: string): string {
  return new URLSearchParams({ x: text }).toString().slice(2);
}

function component(name: string): string {
  const quoted = `'${name.replaceAll("'", "''")}'`;
  return `apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: ${quoted}
spec:
  type: pubsub.in-memory
  version: v1
`;
}
