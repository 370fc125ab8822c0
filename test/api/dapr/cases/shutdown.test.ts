/** Subscriptions that are stopped while an event is in flight. */
import { describe, expect, it } from "vitest";
import { Daprd, inMemory, v2 } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { HttpApp } from "../http-app.ts";
import { DATA } from "./payloads.ts";

const health = [
  "--enable-app-health-check=true",
  "--app-health-probe-interval=1",
  "--app-health-threshold=1",
];

describe("shutdown/block", () => {
  it("shutdown/block/pubsub/bulk", { timeout: 45_000 }, async () => {
    const gate = Promise.withResolvers<void>();
    const answer = { status: 200, body: '{"statuses":[{"entryId":"1","status":"SUCCESS"}]}' };
    await using app = await HttpApp.start({
      subscribe: [
        { pubsubname: "foo", topic: "abc", route: "route1" },
        { pubsubname: "foo", topic: "def", route: "route2" },
      ],
      routes: { "/route1": () => gate.promise.then(() => answer), "/route2": answer },
    });
    await using daprd = await Daprd.start({
      resources: inMemory("foo"),
      app,
      flags: ["--dapr-block-shutdown-duration=180s", ...health, "--app-health-check-path=/healthz"],
    });
    const { components, subscriptions } = await daprd.metadata();
    expect([components?.length, subscriptions?.length]).toEqual([1, 2]);
    const publish = async (topic: string) => {
      const event = Buffer.from(DATA);
      const entries = [{ entryId: "1", event, contentType: "application/json" }];
      await daprd.grpc.bulkPublishEvent({ pubsubName: "foo", topic, entries });
    };
    await publish("abc");
    await app.delivered("/route1");
    daprd.signal("SIGINT");
    // Until one is not delivered any more: then the subscriptions have stopped, and publishing still works.
    const isDelivered = async () => {
      const before = app.to("/route2").length;
      await publish("def");
      const came = expect.poll(() => app.to("/route2").length, { timeout: 500, interval: 5 });
      return came.toBeGreaterThan(before).then(
        () => true,
        () => false,
      );
    };
    await expect.poll(isDelivered, { timeout: 10_000, interval: 10 }).toBe(false);
    gate.resolve();
    const metric = (name: string, labels: string) =>
      `${name}{app_id="${daprd.appId}",component="foo",${labels}} 1`;
    await expect
      .poll(() => daprd.metrics(), { timeout: 10_000, interval: 50 })
      .toContain(
        metric(
          "dapr_component_pubsub_ingress_count",
          'namespace="",process_status="success",status="success",topic="abc"',
        ),
      );
    expect(await daprd.metrics()).toContain(
      metric("dapr_component_pubsub_egress_bulk_count", 'namespace="",success="true",topic="abc"'),
    );
    app.healthy = false;
    expect(await daprd.exitCode()).toBe(0);
  });
});

describe("shutdown/graceful", () => {
  it.each(["http", "grpc"] as const)("waits for the event that a %s application has", async (protocol) => {
    const gate = Promise.withResolvers<void>();
    let answered = 0;
    const wait = async () => {
      await gate.promise;
      answered += 1;
    };
    await using http = await HttpApp.start({ routes: { "/a": () => wait().then(() => 200) } });
    await using grpc = await GrpcApp.start({ onTopicEvent: () => wait().then(() => ({})) });
    const app = protocol === "http" ? http : grpc;
    await using daprd = await Daprd.start({
      resources: inMemory() + v2("s", "a", "/a"),
      app: { port: app.port, protocol },
    });
    await daprd.publishEvent("a", DATA);
    if (protocol === "http") await http.delivered("/a");
    else await grpc.delivered("a");
    daprd.signal("SIGINT");
    await expect.poll(() => daprd.log, { timeout: 5000, interval: 10 }).toContain("stopping");
    gate.resolve();
    expect(await daprd.exitCode()).toBe(0);
    expect(answered).toBe(1);
    expect(daprd.log).not.toContain("delivery failed");
  });

  it("ends with 0 also when the application never answers, and when it has vanished", async () => {
    await using app = await HttpApp.start({ routes: { "/a": () => new Promise(() => {}) } });
    await using daprd = await Daprd.start({
      resources: inMemory() + v2("s", "a", "/a"),
      app,
      flags: ["--dapr-graceful-shutdown-seconds=1"],
    });
    await daprd.publish("a", DATA);
    await app.delivered("/a");
    daprd.signal("SIGINT");
    expect(await daprd.exitCode()).toBe(0);
    await using other = await HttpApp.start({ routes: { "/a": 200 } });
    await using second = await Daprd.start({ resources: inMemory() + v2("s", "a", "/a"), app: other });
    await other[Symbol.asyncDispose]();
    await second.publish("a", DATA);
    second.signal("SIGINT");
    expect(await second.exitCode()).toBe(0);
  });
});
