/** Subscriptions that resources declare. */
import { describe, expect, it } from "vitest";
import { Daprd, inMemory, type SubscriptionEntry, v1, v2, v2Routes } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { HttpApp } from "../http-app.ts";
import {
  bulkPublish,
  bulkSuccess,
  DATA,
  expectBulkOverHttp,
  expectGrpcEvents,
  expectHttpEvents,
  expectPath,
  expectRawGrpcEvents,
  expectRawHttpEvents,
  expectRoute,
} from "./payloads.ts";

const bulk = { bulkSubscribe: { enabled: true, maxMessagesCount: 100, maxAwaitDurationMs: 40 } };
const raw = { metadata: { rawPayload: "true" } };
const anyRoute = new Proxy<Record<string, number>>({}, { get: () => 200 });

/** A sidecar with the component and these Subscriptions, and its application. */
const overHttp = async (resources: string, routes: object = anyRoute) => {
  const app = await HttpApp.start({ routes: routes as Record<string, number> });
  return { app, daprd: await Daprd.start({ resources: inMemory() + resources, app }) };
};
const overGrpc = async (resources: string) => {
  const app = await GrpcApp.start();
  const at = { port: app.port, protocol: "grpc" };
  return { app, daprd: await Daprd.start({ resources: inMemory() + resources, app: at }) };
};

describe("subscriptions/declarative/mixed", () => {
  it("subscriptions/declarative/mixed/default-route", async () => {
    const all = [v1("s1", "a", "/123"), v2("s2", "a", "/456"), v2("s3", "b", "/xyz"), v1("s4", "b", "/zyx")];
    const { app: started, daprd: sidecar } = await overHttp(all.join(""));
    await using app = started;
    await using daprd = sidecar;
    await expectRoute(daprd, app, "a", "/123");
    await expectRoute(daprd, app, "b", "/xyz");
  });

  it("subscriptions/declarative/mixed/match", async () => {
    const all = [
      v1("s1", "a", "/a/b/c/d"),
      v2Routes("s2", "a", { rules: [{ path: "/123", match: 'event.topic == "a"' }] }),
      v2Routes("s3", "b", { rules: [{ path: "/123", match: 'event.topic == "b"' }] }),
      v1("s4", "b", "/a/b/c/d"),
    ];
    const { app: started, daprd: sidecar } = await overHttp(all.join(""));
    await using app = started;
    await using daprd = sidecar;
    await expectRoute(daprd, app, "a", "/a/b/c/d");
    await expectRoute(daprd, app, "b", "/123");
  });
});

describe.each([
  ["v1", v1],
  ["v2", v2],
] as const)("subscriptions/declarative/%s", (version, one) => {
  it(`subscriptions/declarative/${version}/basic-grpc`, async () => {
    const { app: started, daprd: sidecar } = await overGrpc(one("s", "a", "/a"));
    await using app = started;
    await using daprd = sidecar;
    await expectGrpcEvents(daprd, app, "/a");
  });

  it(`subscriptions/declarative/${version}/bulk-grpc`, async () => {
    const { app: started, daprd: sidecar } = await overGrpc(
      one("s1", "a", "/a", bulk) + one("s2", "b", "/b"),
    );
    await using app = started;
    await using daprd = sidecar;
    await bulkPublish(daprd, "a", "grpc");
    await expect.poll(() => app.bulks.length, { timeout: 3000, interval: 5 }).toBe(4);
    for (const { entries, topic, path, pubsubName } of app.bulks) {
      expect({ topic, path, pubsubName }).toEqual({ topic: "a", path: "/a", pubsubName: "mypub" });
      expect(entries).toHaveLength(1);
    }
    await bulkPublish(daprd, "b", "grpc");
    await app.delivered("b", 3);
    expect(app.bulks).toHaveLength(4);
  });

  it(`subscriptions/declarative/${version}/bulk-http`, async () => {
    const routes = { "/a": bulkSuccess, "/b": bulkSuccess };
    const { app: started, daprd: sidecar } = await overHttp(
      one("s1", "a", "/a", bulk) + one("s2", "b", "/b"),
      routes,
    );
    await using app = started;
    await using daprd = sidecar;
    await expectBulkOverHttp(daprd, app);
  });

  it(`subscriptions/declarative/${version}/raw-http`, async () => {
    const { app: started, daprd: sidecar } = await overHttp(one("s", "a", "/a", raw));
    await using app = started;
    await using daprd = sidecar;
    await expectRawHttpEvents(daprd, app, "/a");
  });

  it(`subscriptions/declarative/${version}/raw-grpc`, async () => {
    const { app: started, daprd: sidecar } = await overGrpc(one("s", "a", "/a", raw));
    await using app = started;
    await using daprd = sidecar;
    await expectRawGrpcEvents(daprd, app, "/a");
  });

  it.each(["grpc", "http"] as const)(`subscriptions/declarative/${version}/route-%s`, async (protocol) => {
    const all = [
      one("s1", "a", "/a/b/c/d"),
      one("s2", "a", "/a"),
      one("s3", "b", "/a"),
      one("s4", "b", "/d/c/b/a"),
      one("s5", "b", "/a/b/c/d"),
    ].join("");
    if (protocol === "grpc") {
      const { app: started, daprd: sidecar } = await overGrpc(all);
      await using app = started;
      await using daprd = sidecar;
      await expectPath(daprd, app, "a", "/a/b/c/d");
      await expectPath(daprd, app, "b", "/a");
    } else {
      const { app: started, daprd: sidecar } = await overHttp(all);
      await using app = started;
      await using daprd = sidecar;
      await expectRoute(daprd, app, "a", "/a/b/c/d");
      await expectRoute(daprd, app, "b", "/a");
    }
  });

  it(`subscriptions/declarative/${version}/scopes-grpc`, async () => {
    await using app = await GrpcApp.start();
    const of = (id: string) =>
      Daprd.start({ appId: id, resources: scoped(one), app: { port: app.port, protocol: "grpc" } });
    await using one1 = await of("s1");
    await using two = await of("s2");
    for (const { daprd, topics, not } of [
      { daprd: one1, topics: ["all", "allempty", "only1", "both"], not: "only2" },
      { daprd: two, topics: ["all", "allempty", "only2", "both"], not: "only1" },
    ]) {
      const { subscriptions } = await daprd.grpc.getMetadata({});
      expect(subscriptions.map(({ topic }) => topic)).toEqual(topics);
      expect(subscriptions[0]!.rules!.rules).toMatchObject([{ match: "", path: "/all" }]);
      const before = app.events.length;
      await daprd.publishEvent(not, DATA);
      for (const topic of topics) await daprd.publishEvent(topic, DATA);
      await expect.poll(() => app.events.length, { timeout: 5000, interval: 5 }).toBe(before + 4);
      const delivered = app.events.slice(before).map(({ event }) => event.topic);
      expect(delivered.sort()).toEqual([...topics].sort());
    }
  });

  it(`subscriptions/declarative/${version}/scopes-http`, async () => {
    await using app = await HttpApp.start({ routes: anyRoute });
    await using daprd = await Daprd.start({ appId: "s2", resources: scoped(one), app });
    const entry = (topic: string): SubscriptionEntry => ({
      ...{ pubsubname: "mypub", topic, type: "DECLARATIVE" },
      rules: [{ path: `/${topic}` }],
    });
    const topics = ["all", "allempty", "only2", "both"];
    expect((await daprd.metadata()).subscriptions).toEqual(topics.map(entry));
    expect(await daprd.publish("only1", DATA)).toBe(204);
    for (const topic of topics) await daprd.publish(topic, DATA);
    await expect.poll(() => app.calls.length, { timeout: 5000, interval: 5 }).toBe(4);
    expect(app.calls.map(({ path }) => path).sort()).toEqual(topics.map((topic) => `/${topic}`).sort());
  });
});

describe("subscriptions/declarative/v2", () => {
  it("subscriptions/declarative/v2/no-app", async () => {
    await using daprd = await Daprd.start({
      appId: "mine",
      resources:
        inMemory() +
        v2("all", "all", "/all") +
        v2("scoped", "scoped", "/scoped", { scopes: ["mine", "other"] }) +
        v2("foreign", "foreign", "/foreign", { scopes: ["other"] }),
    });
    const { subscriptions = [] } = await daprd.metadata();
    expect(subscriptions.map(({ topic, type }) => [topic, type])).toEqual([
      ["all", "DECLARATIVE"],
      ["scoped", "DECLARATIVE"],
    ]);
    await daprd.publishEvent("all", '{"status": "completed"}');
  });

  it("subscriptions/declarative/v2/basic-http", async () => {
    const resources =
      v2("s1", "a", "/a") +
      v2("s2", "notfound", "/notfound", { deadLetterTopic: "deadletter" }) +
      v2("s3", "deadletter", "/deadletter");
    const { app: started, daprd: sidecar } = await overHttp(resources, { "/a": 200, "/deadletter": 200 });
    await using app = started;
    await using daprd = sidecar;
    await expectHttpEvents(daprd, app, "/a");
    await daprd.publish("notfound", '{"status": "test"}');
    await app.delivered("/deadletter");
    expect(app.to("/notfound")).toHaveLength(1);
    expect(app.to("/deadletter")).toHaveLength(1);
  });

  it("subscriptions/declarative/v2/dead-letter-http", async () => {
    const resources = v2("s1", "a", "/a", { deadLetterTopic: "mydead" }) + v2("s2", "mydead", "/b");
    const { app: started, daprd: sidecar } = await overHttp(resources, { "/a": 503, "/b": 200 });
    await using app = started;
    await using daprd = sidecar;
    await daprd.publish("a", DATA);
    expect((await app.delivered("/b")).body).toMatchObject({ data: DATA, topic: "a" });
    expect(app.to("/a")).toHaveLength(1);
  });

  it("subscriptions/declarative/v2/default-route-grpc", async () => {
    const all = [
      v2("s1", "a", "/a/b/c/d"),
      v2("s2", "a", "/a"),
      v2("s3", "b", "/a"),
      v2("s4", "b", "/a/b/c/d"),
    ];
    const { app: started, daprd: sidecar } = await overGrpc(all.join(""));
    await using app = started;
    await using daprd = sidecar;
    await expectPath(daprd, app, "a", "/a/b/c/d");
    await expectPath(daprd, app, "b", "/a");
  });

  it("subscriptions/declarative/v2/default-route-http", async () => {
    const all = [
      v2("s1", "a", "/a/b/c/d"),
      v2("s2", "a", "/a"),
      v2("s3", "b", "/b"),
      v2("s4", "b", "/d/c/b/a"),
    ];
    const { app: started, daprd: sidecar } = await overHttp(all.join(""));
    await using app = started;
    await using daprd = sidecar;
    await expectRoute(daprd, app, "a", "/a/b/c/d");
    await expectRoute(daprd, app, "b", "/b");
  });

  it("subscriptions/declarative/v2/empty-match-http", async () => {
    const rules = (...paths: string[]) => paths.map((path) => ({ match: "", path }));
    const resources =
      v2Routes("s1", "justpath", { rules: rules("/justpath") }) +
      v2Routes("s2", "defaultandpath", { default: "/abc", rules: rules("/123") }) +
      v2Routes("s3", "multipaths", { rules: rules("/xyz", "/456", "/789") }) +
      v2Routes("s4", "defaultandpaths", { default: "/def", rules: rules("/zyz", "/aaa", "/bbb") });
    const { app: started, daprd: sidecar } = await overHttp(resources);
    await using app = started;
    await using daprd = sidecar;
    await expectRoute(daprd, app, "justpath", "/justpath");
    await expectRoute(daprd, app, "defaultandpath", "/123");
    await expectRoute(daprd, app, "multipaths", "/xyz");
    await expectRoute(daprd, app, "defaultandpaths", "/zyz");
  });

  it("subscriptions/declarative/v2/unhealthy-app", async () => {
    await using app = await HttpApp.start({ routes: { "/a": 200 } });
    app.healthy = false;
    await using daprd = await Daprd.start({
      resources: inMemory() + v2("s", "a", "/a"),
      app,
      flags: ["--enable-app-health-check=true", "--app-health-probe-interval=1", "--app-health-threshold=1"],
    });
    expect((await daprd.metadata()).subscriptions).toHaveLength(1);
    await daprd.publishEvent("a", DATA);
    app.healthy = true;
    // What was published while it was not well is gone, as in Dapr; what is published after that comes.
    await expect
      .poll(() => daprd.publish("a", "later").then(() => app.calls.length), { timeout: 5000, interval: 50 })
      .toBeGreaterThan(0);
    expect(app.calls.map(({ body }) => body!["data"])).not.toContain(DATA);
  });
});

function scoped(one: typeof v1): string {
  return [
    inMemory(),
    one("all", "all", "/all"),
    one("allempty", "allempty", "/allempty", { scopes: [] }),
    one("only1", "only1", "/only1", { scopes: ["s1"] }),
    one("only2", "only2", "/only2", { scopes: ["s2"] }),
    one("both", "both", "/both", { scopes: ["s1", "s2"] }),
  ].join("");
}
