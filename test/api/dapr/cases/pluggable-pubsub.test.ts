/** Publishing, reloading and stopping: what needs pluggable brokers. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { TopicEventResponse_TopicEventResponseStatus as Status } from "../../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { PushBroker, SocketsFolder } from "../../../components/pluggable/node-component.ts";
import { until } from "../../../servers/until.ts";
import { Daprd, v1, v2 } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { HttpApp } from "../http-app.ts";
import { TopicStream } from "../topic-stream.ts";
import { component } from "./yaml.ts";

const mypub = component("mypub", "pubsub.broker");
const health = [
  "--enable-app-health-check=true",
  "--app-health-probe-interval=1",
  "--app-health-threshold=1",
];

/** A folder with a broker in it, whose socket is `broker`. */
async function withBroker(broker: PushBroker): Promise<SocketsFolder> {
  const sockets = await SocketsFolder.make();
  await sockets.serve("broker", { pubsub: broker.implementation });
  return sockets;
}

/** An HTTP application and a gRPC one that both hold an event of topic a until they are let go. */
async function holding() {
  const gate = Promise.withResolvers<void>();
  const http = await HttpApp.start({ routes: { "/a": () => gate.promise.then(() => 200) } });
  const grpc = await GrpcApp.start({
    onTopicEvent: () => gate.promise.then(() => ({})),
    subscriptions: [],
  });
  return { http, grpc, release: () => gate.resolve() };
}

/** Fails when it happens within half a second. */
async function never(happens: () => boolean): Promise<void> {
  await expect(until(() => Promise.resolve(happens()), "it happens", 500)).rejects.toThrow("in vain");
}

interface Bulk {
  readonly entries: readonly { readonly entryId: string }[];
}

/** What an HTTP application answers to several events. */
function allSucceeded(body: unknown) {
  const statuses = (body as Bulk).entries.map(({ entryId }) => ({ entryId, status: "SUCCESS" }));
  return { status: 200, body: JSON.stringify({ statuses }) };
}

const isAcked = (broker: PushBroker, id: string) => broker.answersTo(id).length > 0;

/** The answers for a message, once there is one. */
async function acked(broker: PushBroker, id: string) {
  await expect.poll(() => broker.answersTo(id), { timeout: 10_000 }).toHaveLength(1);
  expect(broker.answersTo(id)[0]!.ackError).toBeUndefined();
}

describe("pubsub", () => {
  it("pubsub/bulk-subscribe/immediate", { timeout: 30_000 }, async () => {
    const broker = new PushBroker(["BULK_SUBSCRIBE_IMMEDIATE"]);
    await using sockets = await withBroker(broker);
    const bodies: Bulk[] = [];
    await using app = await HttpApp.start({
      routes: {
        "/immediate-bulk": ({ body }) => {
          bodies.push(body as unknown as Bulk);
          return allSucceeded(body);
        },
      },
    });
    const bulkSubscribe = { enabled: true, maxMessagesCount: 100, maxAwaitDurationMs: 60_000 };
    await using _ = await Daprd.start({
      resources:
        component("immediatepub", "pubsub.broker") +
        v2("immediate", "immediate-test", "/immediate-bulk", { bulkSubscribe, pubsubname: "immediatepub" }),
      app,
      env: sockets.env,
    });
    await expect.poll(() => broker.open, { timeout: 10_000 }).toBe(true);
    for (const id of ["1", "2", "3"]) broker.pushEvent("immediate-test", id);
    await expect.poll(() => bodies.length, { timeout: 10_000 }).toBe(3);
    expect(bodies.map(({ entries }) => entries.length)).toEqual([1, 1, 1]);
  });

  it("pubsub/content-length-metadata/bulk", { timeout: 40_000 }, async () => {
    const bulk = { bulkSubscribe: { enabled: true }, pubsubname: "foo" };
    await using http = await HttpApp.start({ routes: { "/abc": ({ body }) => allSucceeded(body) } });
    await using grpc = await GrpcApp.start();
    for (const [protocol, topic, app] of [
      ["http", "bar1", http],
      ["grpc", "bar2", grpc],
    ] as const) {
      const broker = new PushBroker();
      await using sockets = await withBroker(broker);
      await using daprd = await Daprd.start({
        resources: component("foo", "pubsub.broker") + v1("sub", topic, "/abc", bulk),
        app: { port: app.port, protocol },
        env: sockets.env,
      });
      await expect.poll(() => broker.open, { timeout: 10_000 }).toBe(true);
      broker.pushEvent("bar", "1", "helloworld", { "content-length": "123" });
      if (protocol === "http") {
        const { headers, body } = await http.delivered("/abc");
        expect(headers["content-length"]).not.toBe("123");
        expect(body).toMatchObject({ entries: [{ event: { data: "helloworld" } }] });
      } else await expect.poll(() => grpc.bulks.length, { timeout: 5000 }).toBe(1);
      await acked(broker, "1");
      expect((await daprd.metadata()).subscriptions).toHaveLength(1);
    }
  });

  it("tells the broker what a subscription says to it, and the publisher what the broker says", {
    timeout: 30_000,
  }, async () => {
    const broker = new PushBroker();
    await using sockets = await SocketsFolder.make();
    const told: Record<string, string>[] = [];
    await sockets.serve("broker", {
      pubsub: {
        ...broker.implementation,
        init: ({ metadata }) => {
          told.push(metadata?.properties ?? {});
          return {};
        },
        publish: () => {
          throw new ConnectError("no such queue", Code.FailedPrecondition);
        },
      },
    });
    await using app = await HttpApp.start({ routes: { "/a": 200 } });
    await using daprd = await Daprd.start({
      resources:
        component("mypub", "pubsub.broker", { queueType: "quorum" }) +
        v2("sub", "a", "/a", { metadata: { priority: "7" } }),
      app,
      appId: "listener",
      env: sockets.env,
    });
    await expect
      .poll(() => broker.topics, { timeout: 10_000 })
      .toEqual([{ name: "a", metadata: { priority: "7" } }]);
    expect(told).toEqual([{ queueType: "quorum", consumerID: "listener" }]);
    const response = await fetch(daprd.url("/v1.0/publish/mypub/a"), { method: "POST", body: "{}" });
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({
      message:
        "error when publish to topic a in pubsub mypub: rpc error: code = FailedPrecondition desc = no such queue",
    });
  });
});

describe("shutdown", () => {
  it("shutdown/block/pubsub/no-nack", { timeout: 60_000 }, async () => {
    const broker = new PushBroker();
    await using sockets = await withBroker(broker);
    const { http, grpc, release } = await holding();
    await using _http = http;
    await using app = grpc;
    await using daprd = await Daprd.start({
      resources: mypub + v2("sub", "a", "/a"),
      app: { port: app.port, protocol: "grpc" },
      flags: ["--dapr-block-shutdown-duration=180s", ...health],
      env: sockets.env,
    });
    await expect.poll(() => broker.open, { timeout: 10_000 }).toBe(true);
    broker.pushEvent("a", "foo");
    await app.delivered("a");
    daprd.signal("SIGINT");
    await never(() => isAcked(broker, "foo"));
    app.healthy = false;
    await never(() => isAcked(broker, "foo"));
    broker.pushEvent("a", "second");
    await never(() => isAcked(broker, "foo") || isAcked(broker, "second"));
    release();
    await acked(broker, "foo");
    expect(await daprd.exitCode()).toBe(0);
    expect(broker.answersTo("second")).toEqual([]);
  });

  it("shutdown/graceful/subscription/declarative-http", { timeout: 60_000 }, async () => {
    const broker = new PushBroker();
    await using sockets = await withBroker(broker);
    const { http, grpc, release } = await holding();
    await using app = http;
    await using _grpc = grpc;
    await using daprd = await Daprd.start({
      resources: mypub + v2("sub", "a", "/a"),
      app,
      flags: ["--dapr-graceful-shutdown-seconds=180"],
      env: sockets.env,
    });
    await expect.poll(() => broker.open, { timeout: 10_000 }).toBe(true);
    expect((await daprd.metadata()).subscriptions).toHaveLength(1);
    broker.pushEvent("a", "foo");
    await app.delivered("/a");
    daprd.signal("SIGINT");
    await never(() => isAcked(broker, "foo"));
    release();
    await acked(broker, "foo");
    broker.pushEvent("a", "second");
    expect(await daprd.exitCode()).toBe(0);
    expect(broker.answersTo("second")).toEqual([]);
  });

  it("shutdown/graceful/subscription/non-pausable", { timeout: 60_000 }, async () => {
    const broker = new PushBroker([], () => {
      throw new ConnectError("cannot be paused", Code.Unimplemented);
    });
    await using sockets = await withBroker(broker);
    const gate = Promise.withResolvers<void>();
    await using app = await HttpApp.start({
      subscribe: [{ pubsubname: "mypub", topic: "a", route: "/a" }],
      routes: { "/a": () => gate.promise.then(() => 200) },
    });
    await using daprd = await Daprd.start({
      resources: mypub,
      app,
      flags: ["--dapr-block-shutdown-duration=3s"],
      env: sockets.env,
    });
    await expect.poll(() => broker.open, { timeout: 10_000 }).toBe(true);
    broker.pushEvent("a", "foo");
    await app.delivered("/a");
    daprd.signal("SIGINT");
    await expect.poll(() => broker.paused, { timeout: 10_000 }).toBeGreaterThan(0);
    await never(() => isAcked(broker, "foo"));
    gate.resolve();
    await acked(broker, "foo");
    broker.pushEvent("a", "second");
    expect(await daprd.exitCode()).toBe(0);
    expect(broker.answersTo("second")).toEqual([]);
  });

  it("shutdown/graceful/subscription/streaming", { timeout: 60_000 }, async () => {
    const broker = new PushBroker();
    await using sockets = await withBroker(broker);
    await using daprd = await Daprd.start({
      resources: mypub,
      flags: ["--dapr-graceful-shutdown-seconds=180"],
      env: sockets.env,
    });
    using stream = await TopicStream.open(daprd, "a");
    expect((await daprd.metadata()).subscriptions).toHaveLength(1);
    await expect.poll(() => broker.open, { timeout: 10_000 }).toBe(true);
    broker.pushEvent("a", "foo");
    const event = await stream.event();
    expect(event.topic).toBe("a");
    daprd.signal("SIGINT");
    await never(() => isAcked(broker, "foo"));
    stream.settle(event.id, Status.SUCCESS);
    await acked(broker, "foo");
    broker.pushEvent("a", "second");
    expect(await daprd.exitCode()).toBe(0);
    expect(broker.answersTo("second")).toEqual([]);
  });
});

describe("hot-reload", () => {
  it("hot-reload/subscription/closing-in-flight", { timeout: 60_000 }, async () => {
    const broker = new PushBroker();
    await using sockets = await withBroker(broker);
    const gate = Promise.withResolvers<void>();
    await using app = await GrpcApp.start({
      subscriptions: [{ pubsubName: "mypub", topic: "a", routes: { default: "/a" } }],
      onTopicEvent: () => gate.promise.then(() => ({})),
    });
    await using daprd = await Daprd.start({
      files: { "comp.yaml": mypub },
      app: { port: app.port, protocol: "grpc" },
      env: sockets.env,
    });
    await expect.poll(() => broker.open, { timeout: 10_000 }).toBe(true);
    expect((await daprd.metadata()).subscriptions).toHaveLength(1);
    broker.pushEvent("a", "foo");
    await app.delivered("a");
    await writeFile(join(daprd.resourcesPath, "comp.yaml"), "");
    await expect
      .poll(async () => (await daprd.metadata()).components?.length ?? 0, { timeout: 15_000 })
      .toBe(0);
    await never(() => isAcked(broker, "foo"));
    gate.resolve();
    await acked(broker, "foo");
    broker.pushEvent("a", "second");
    await never(() => isAcked(broker, "second"));
    await expect.poll(() => broker.open, { timeout: 10_000 }).toBe(false);
  });
});
