/** Subscriptions that the application lists, alone and beside declared ones. */
import { describe, expect, it } from "vitest";
import { Daprd, inMemory, v1, v2, v2Routes } from "../daprd.ts";
import { GrpcApp, type GrpcAppOptions } from "../grpc-app.ts";
import { HttpApp, type HttpAppOptions } from "../http-app.ts";
import {
  bulkSuccess,
  DATA,
  expectBulkOverHttp,
  expectHttpEvents,
  expectPath,
  expectRawGrpcEvents,
  expectRawHttpEvents,
  expectRoute,
} from "./payloads.ts";

const bulkSubscribe = { enabled: true, maxMessagesCount: 100, maxAwaitDurationMs: 40 };
const anyRoute = new Proxy<Record<string, number>>({}, { get: () => 200 });

const overHttp = async (subscribe: readonly object[], options: HttpAppOptions = {}, resources = "") => {
  const list = subscribe.map((each) => ({ pubsubname: "mypub", ...each }));
  const app = await HttpApp.start({ routes: anyRoute, subscribe: list, ...options });
  return { app, daprd: await Daprd.start({ resources: inMemory() + resources, app }) };
};
const overGrpc = async (
  subscriptions: NonNullable<GrpcAppOptions["subscriptions"]>,
  options: GrpcAppOptions = {},
  resources = "",
) => {
  const list = subscriptions.map((each) => ({ pubsubName: "mypub", ...each }));
  const app = await GrpcApp.start({ subscriptions: list, ...options });
  const at = { port: app.port, protocol: "grpc" };
  return { app, daprd: await Daprd.start({ resources: inMemory() + resources, app: at }) };
};

describe("subscriptions/mixed", () => {
  const declared =
    v2Routes("s1", "a", { rules: [{ path: "/123", match: 'event.topic == "a"' }] }) +
    v1("s2", "b", "/a/b/c/d");

  it("subscriptions/mixed/grpc-match", async () => {
    const { app: started, daprd: sidecar } = await overGrpc(
      [
        { topic: "a", routes: { default: "/a/b/c/d" } },
        { topic: "b", routes: { rules: [{ path: "/123", match: 'event.topic == "b"' }] } },
      ],
      {},
      declared,
    );
    await using app = started;
    await using daprd = sidecar;
    for (const index of [0, 1]) {
      await daprd.publishEvent("a", DATA);
      expect((await app.delivered("a", index)).event.path).toBe("/a/b/c/d");
    }
    expect(app.events).toHaveLength(2);
  });

  it("subscriptions/mixed/http-default-route", async () => {
    const { app: started, daprd: sidecar } = await overHttp(
      [
        { topic: "a", route: "/123" },
        { topic: "b", routes: { default: "/xyz" } },
      ],
      {},
      v2("s1", "a", "/456") + v1("s2", "b", "/zyx"),
    );
    await using app = started;
    await using daprd = sidecar;
    await expectRoute(daprd, app, "a", "/123");
    await expectRoute(daprd, app, "b", "/xyz");
  });

  it("subscriptions/mixed/http-match", async () => {
    const { app: started, daprd: sidecar } = await overHttp(
      [
        { topic: "a", route: "/a/b/c/d" },
        { topic: "b", routes: { rules: [{ path: "/123", match: 'event.topic == "b"' }] } },
      ],
      {},
      declared,
    );
    await using app = started;
    await using daprd = sidecar;
    await expectRoute(daprd, app, "a", "/a/b/c/d");
    await expectRoute(daprd, app, "b", "/123");
  });
});

describe("subscriptions/programmatic/grpc", () => {
  it("subscriptions/programmatic/grpc/dead-letter", async () => {
    const { app: started, daprd: sidecar } = await overGrpc(
      [
        { topic: "a", routes: { default: "/a" }, deadLetterTopic: "mydead" },
        { topic: "mydead", routes: { default: "/b" }, deadLetterTopic: "mydead" },
      ],
      {
        onTopicEvent: ({ path }) => {
          if (path === "/a") throw new Error("no");
          return {};
        },
      },
    );
    await using app = started;
    await using daprd = sidecar;
    await daprd.publishEvent("a", DATA, "application/json");
    expect((await app.delivered("mydead")).event.path).toBe("/b");
  });

  it("without routes gets its events, also with a dead-letter topic", async () => {
    const { app: started, daprd: sidecar } = await overGrpc([{ topic: "a", deadLetterTopic: "mydead" }]);
    await using app = started;
    await using daprd = sidecar;
    await daprd.publishEvent("a", DATA, "application/json");
    expect((await app.delivered("a")).event.path).toBe("");
  });

  it("subscriptions/programmatic/grpc/raw", async () => {
    const { app: started, daprd: sidecar } = await overGrpc([
      { topic: "a", routes: { default: "/a" }, metadata: { rawPayload: "true" } },
    ]);
    await using app = started;
    await using daprd = sidecar;
    await expectRawGrpcEvents(daprd, app, "/a");
  });

  it("subscriptions/programmatic/grpc/default-route", async () => {
    const { app: started, daprd: sidecar } = await overGrpc([
      { topic: "a", routes: { default: "/a/b/c/d" } },
      { topic: "a", routes: { default: "/a" } },
      { topic: "b", routes: { default: "/b" } },
      { topic: "b", routes: { default: "/d/c/b/a" } },
    ]);
    await using app = started;
    await using daprd = sidecar;
    await expectPath(daprd, app, "a", "/a");
    await expectPath(daprd, app, "b", "/d/c/b/a");
  });

  const rules = (...paths: string[]) => paths.map((path) => ({ match: "", path }));

  it("subscriptions/programmatic/grpc/empty-match", async () => {
    const { app: started, daprd: sidecar } = await overGrpc([
      { topic: "justpath", routes: { rules: rules("/justpath") } },
      { topic: "defaultandpath", routes: { default: "/abc", rules: rules("/123") } },
      { topic: "multipaths", routes: { rules: rules("/xyz", "/456", "/789") } },
      { topic: "defaultandpaths", routes: { default: "/def", rules: rules("/zyz", "/aaa", "/bbb") } },
    ]);
    await using app = started;
    await using daprd = sidecar;
    await expectPath(daprd, app, "justpath", "/justpath");
    await expectPath(daprd, app, "defaultandpath", "/123");
    await expectPath(daprd, app, "multipaths", "/xyz");
    await expectPath(daprd, app, "defaultandpaths", "/zyz");
  });

  it("subscriptions/programmatic/grpc/match", async () => {
    const type = { match: 'event.type == "com.dapr.event.sent"', path: "/type" };
    const on = (topic: string, path = "/topic") => ({ match: `event.topic == "${topic}"`, path });
    const other = { match: 'event.type == "com.dapr.event.received"', path: "/bar" };
    const { app: started, daprd: sidecar } = await overGrpc([
      { topic: "type", routes: { default: "/aaa", rules: [type, { match: "", path: "/foo" }, other] } },
      { topic: "order1", routes: { default: "/aaa", rules: [type, on("order1")] } },
      { topic: "order2", routes: { default: "/aaa", rules: [on("order2"), type] } },
      { topic: "order3", routes: { default: "/aaa", rules: [on("order3", "/123"), on("order3", "/456")] } },
      { topic: "order4", routes: { rules: [on("order5", "/123"), on("order6", "/456")] } },
      { topic: "order7", routes: { default: "/order7def", rules: rules("/order7rule") } },
    ]);
    await using app = started;
    await using daprd = sidecar;
    await daprd.publishEvent("order4");
    await expectPath(daprd, app, "type", "/type");
    await expectPath(daprd, app, "order1", "/type");
    await expectPath(daprd, app, "order2", "/topic");
    await expectPath(daprd, app, "order3", "/123");
    await expectPath(daprd, app, "order7", "/order7rule");
    expect(app.of("order4")).toEqual([]);
  });
});

describe.each(["v1", "v2"] as const)("subscriptions/programmatic/http/%s", (version) => {
  const to = (topic: string, path: string, more: object = {}) =>
    version === "v1"
      ? { topic, route: path, routes: {}, deadLetterTopic: "", ...more }
      : { topic, routes: { default: path }, route: "", ...more };

  it(`subscriptions/programmatic/http/${version}/basic`, async () => {
    const { app: started, daprd: sidecar } = await overHttp([to("a", "/a")]);
    await using app = started;
    await using daprd = sidecar;
    expect((await daprd.metadata()).subscriptions).toMatchObject([{ topic: "a", type: "PROGRAMMATIC" }]);
    await expectHttpEvents(daprd, app, "/a");
  });

  it(`subscriptions/programmatic/http/${version}/bulk`, async () => {
    const routes = { "/a": bulkSuccess, "/b": bulkSuccess };
    const { app: started, daprd: sidecar } = await overHttp(
      [to("a", "/a", { bulkSubscribe }), to("b", "/b")],
      {
        routes,
      },
    );
    await using app = started;
    await using daprd = sidecar;
    const entry = (topic: string) => ({
      ...{ pubsubname: "mypub", topic, type: "PROGRAMMATIC" },
      rules: [{ path: `/${topic}` }],
    });
    expect((await daprd.metadata()).subscriptions).toEqual([entry("a"), entry("b")]);
    await expectBulkOverHttp(daprd, app);
  });

  it(`subscriptions/programmatic/http/${version}/dead-letter`, async () => {
    const { app: started, daprd: sidecar } = await overHttp(
      [to("a", "/a", { deadLetterTopic: "mydead" }), to("mydead", "/b")],
      { routes: { "/a": 503, "/b": 200 } },
    );
    await using app = started;
    await using daprd = sidecar;
    await daprd.publish("a", DATA);
    expect((await app.delivered("/b")).body).toMatchObject({ data: DATA, topic: "a" });
  });

  it(`subscriptions/programmatic/http/${version}/raw`, async () => {
    const { app: started, daprd: sidecar } = await overHttp([
      to("a", "/a", { metadata: { rawPayload: "true" } }),
    ]);
    await using app = started;
    await using daprd = sidecar;
    await expectRawHttpEvents(daprd, app, "/a");
  });

  it(`subscriptions/programmatic/http/${version}/default-route`, async () => {
    const { app: started, daprd: sidecar } = await overHttp([
      to("a", "/a/b/c/d"),
      to("a", "/a"),
      to("b", "/b"),
      to("b", "/d/c/b/a"),
    ]);
    await using app = started;
    await using daprd = sidecar;
    await expectRoute(daprd, app, "a", "/a");
    await expectRoute(daprd, app, "b", "/d/c/b/a");
  });
});

describe("subscriptions/programmatic/http", () => {
  it("subscriptions/programmatic/http/v1/missing-pubsub", async () => {
    const { app: started, daprd: sidecar } = await overHttp([
      { pubsubname: "anotherpub", topic: "a", route: "/a" },
      { topic: "c", route: "/c" },
    ]);
    await using app = started;
    await using daprd = sidecar;
    const { components, subscriptions } = await daprd.metadata();
    expect(components).toHaveLength(1);
    expect(subscriptions).toHaveLength(2);
    expect(await daprd.publish("a", DATA, {}, "anotherpub")).toBe(404);
    expect(await daprd.publish("b", DATA)).toBe(204);
    await expectRoute(daprd, app, "c", "/c");
    expect(app.calls).toHaveLength(1);
  });

  it("subscriptions/programmatic/http/v2/empty-match", async () => {
    const rules = (...paths: string[]) => paths.map((path) => ({ match: "", path }));
    const { app: started, daprd: sidecar } = await overHttp([
      { topic: "justpath", routes: { rules: rules("/justpath") } },
      { topic: "defaultandpath", routes: { default: "/abc", rules: rules("/123") } },
      { topic: "multipaths", routes: { rules: rules("/xyz", "/456", "/789") } },
      { topic: "defaultandpaths", routes: { default: "/def", rules: rules("/zyz", "/aaa", "/bbb") } },
    ]);
    await using app = started;
    await using daprd = sidecar;
    await expectRoute(daprd, app, "justpath", "/justpath");
    await expectRoute(daprd, app, "defaultandpath", "/123");
    await expectRoute(daprd, app, "multipaths", "/xyz");
    await expectRoute(daprd, app, "defaultandpaths", "/zyz");
  });
});
