/** An application that listens: how it is waited for, asked, and what its answers mean. */
import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { certificates } from "../../servers/certificates.ts";
import { freePort } from "../../servers/ports.ts";
import { Daprd, inMemory, v2 } from "./daprd.ts";
import { GrpcApp } from "./grpc-app.ts";
import { type AppAnswer, HttpApp } from "./http-app.ts";

const json = { "content-type": "application/json" };
const orders = inMemory() + v2("sub", "orders", "/orders");
const withDeadLetters =
  inMemory() + v2("s1", "orders", "/orders", { deadLetterTopic: "dead" }) + v2("s2", "dead", "/dead");

describe("an application that listens", () => {
  it("gets no event that has expired, and none that no rule matches: they are dead letters", async () => {
    await using app = await HttpApp.start({ routes: { "/orders": 200, "/dead": 200 } });
    const routes = { rules: [{ match: 'event.type == "wanted"', path: "/orders" }] };
    await using daprd = await Daprd.start({
      resources:
        inMemory() +
        v2("s1", "orders", "", { routes, deadLetterTopic: "dead" }) +
        v2("s2", "plain", "", { routes }) +
        v2("s3", "dead", "/dead"),
      app,
    });
    const publish = (topic: string, id: string, more: object) => {
      const event = { specversion: "1.0", id, source: "test", type: "wanted", data: id, ...more };
      return daprd.publish(topic, JSON.stringify(event), { "content-type": "application/cloudevents+json" });
    };
    for (const topic of ["plain", "orders"]) {
      await publish(topic, `${topic} expired`, { expiration: "2001-01-01T00:00:00Z" });
      await publish(topic, `${topic} unmatched`, { type: "other" });
      await publish(topic, `${topic} wanted`, { expiration: "2999-01-01T00:00:00Z" });
    }
    await expect
      .poll(() => app.calls.map(({ path, body }) => `${path} ${body!["id"]}`).sort(), { timeout: 5000 })
      .toEqual([
        ...["/dead orders expired", "/dead orders unmatched"],
        ...["/orders orders wanted", "/orders plain wanted"],
      ]);
  });

  it("is waited for: healthz/outbound is well before it is there, healthz after it has said what it wants", async () => {
    const port = await freePort();
    await using daprd = await Daprd.start({ resources: inMemory(), app: { port }, wait: false });
    expect([await daprd.health("/outbound"), await daprd.health()]).toEqual([204, 500]);
    const subscribe = [{ pubsubName: "mypub", Topic: "orders", route: "orders" }];
    await using app = await HttpApp.start({ port, subscribe, routes: { "/orders": 200 } });
    await expect.poll(() => daprd.health(), { timeout: 5000, interval: 10 }).toBe(204);
    await daprd.publish("orders", '{"id":1}', json);
    const { body, headers } = await app.delivered("/orders");
    expect(headers["content-type"]).toBe("application/cloudevents+json");
    expect(body).toMatchObject({ topic: "orders", pubsubname: "mypub", data: { id: 1 } });
  });

  it("is asked over HTTP/2 without TLS where it says h2c, and again after it was away", async () => {
    const app = await HttpApp.start({ h2c: true, routes: { "/orders": 200 } });
    await using daprd = await Daprd.start({
      resources: orders,
      app: { port: app.port, protocol: "h2c" },
    });
    await daprd.publish("orders", "first");
    await app.delivered("/orders");
    const { port } = app;
    await app[Symbol.asyncDispose]();
    await daprd.publish("orders", "while it was away");
    await using again = await HttpApp.start({ h2c: true, port, routes: { "/orders": 200 } });
    expect((await again.delivered("/orders")).body).toMatchObject({ data: "while it was away" });
  });

  it("that restarts gets what was published meanwhile, in order, over HTTP and gRPC", async () => {
    const http = await HttpApp.start({ routes: { "/orders": 200 } });
    await using overHttp = await Daprd.start({ resources: orders, app: http });
    const grpc = await GrpcApp.start();
    await using overGrpc = await Daprd.start({
      resources: orders,
      app: { port: grpc.port, protocol: "grpc" },
    });
    const ports = [http.port, grpc.port] as const;
    await overHttp.publish("orders", "0");
    await overGrpc.publish("orders", "0");
    await http.delivered("/orders");
    await grpc.delivered("orders");
    await http[Symbol.asyncDispose]();
    await grpc.end();
    for (const data of ["1", "2", "3"]) {
      await overHttp.publish("orders", data);
      await overGrpc.publish("orders", data);
    }
    await using newHttp = await HttpApp.start({ port: ports[0], routes: { "/orders": 200 } });
    await using newGrpc = await GrpcApp.start({ port: ports[1] });
    await newHttp.delivered("/orders", 2);
    await newGrpc.delivered("orders", 2);
    expect(newHttp.calls.map(({ body }) => body!["data"])).toEqual(["1", "2", "3"]);
    expect(newGrpc.events.map(({ event }) => Buffer.from(event.data).toString())).toEqual(["1", "2", "3"]);
  });

  it("is called with TLS, whoever has signed its certificate: https, grpcs, and --app-ssl", async () => {
    const { server } = await certificates();
    const tls = { cert: await readFile(server.cert), key: await readFile(server.key) };
    await using http = await HttpApp.start({ tls, routes: { "/orders": 200 } });
    await using grpc = await GrpcApp.start({ tls });
    for (const [protocol, flags] of [
      ["https", []],
      ["http", ["--app-ssl"]],
      ["grpcs", []],
    ] as const) {
      const { port } = protocol === "grpcs" ? grpc : http;
      await using daprd = await Daprd.start({ resources: orders, app: { port, protocol }, flags });
      await daprd.publish("orders", protocol);
      if (protocol === "grpcs") await grpc.delivered("orders");
      else await expect.poll(() => http.calls.at(-1)?.body?.["data"], { interval: 5 }).toBe(protocol);
    }
  });

  it("of another protocol than it is said to have delays nothing but its own events", async () => {
    await using app = await GrpcApp.start();
    await using daprd = await Daprd.start({ resources: orders, app, wait: false });
    expect(await daprd.publish("orders", "x")).toBe(204);
    daprd.signal("SIGINT");
    expect(await daprd.exitCode()).toBe(0);
  });

  it("gets the token with each call", async () => {
    await using app = await HttpApp.start({ routes: { "/orders": 200 } });
    await using daprd = await Daprd.start({ resources: orders, app, env: { APP_API_TOKEN: "secret" } });
    await daprd.publish("orders", "x");
    expect((await app.delivered("/orders")).headers["dapr-api-token"]).toBe("secret");
  });

  it("has no more calls at once than --app-max-concurrency says", async () => {
    let [now, most] = [0, 0];
    const gate = Promise.withResolvers<void>();
    const route = async () => {
      now += 1;
      most = Math.max(most, now);
      await gate.promise;
      now -= 1;
      return 200;
    };
    const topics = ["a", "b", "c", "d"];
    await using app = await HttpApp.start({
      routes: Object.fromEntries(topics.map((topic) => [`/${topic}`, route])),
    });
    await using daprd = await Daprd.start({
      resources: inMemory() + topics.map((topic) => v2(topic, topic, `/${topic}`)).join(""),
      app,
      flags: ["--app-max-concurrency=2"],
    });
    for (const topic of topics) await daprd.publish(topic, "x");
    await expect.poll(() => app.calls.length, { interval: 5 }).toBe(2);
    gate.resolve();
    await expect.poll(() => app.calls.length, { interval: 5 }).toBe(4);
    expect(most).toBe(2);
  });

  it("is not asked what --disable-init-endpoints has", async () => {
    const subscribe = [{ pubsubname: "mypub", topic: "orders", route: "/orders" }];
    await using app = await HttpApp.start({ subscribe });
    await using daprd = await Daprd.start({
      resources: inMemory(),
      app,
      flags: ["--disable-init-endpoints=subscribe"],
    });
    expect((await daprd.metadata()).subscriptions).toBeUndefined();
  });

  it("gets nothing while it is not well, and again when it is", async () => {
    await using app = await GrpcApp.start();
    await using daprd = await Daprd.start({
      resources: orders,
      app: { port: app.port, protocol: "grpc" },
      flags: ["--enable-app-health-check", "--app-health-probe-interval=1", "--app-health-threshold=1"],
    });
    const delivered = async (data: string) => {
      await daprd.publish("orders", data);
      return app.events.some(({ event }) => Buffer.from(event.data).toString() === data);
    };
    await expect.poll(() => delivered("well"), { timeout: 5000, interval: 20 }).toBe(true);
    app.healthy = false;
    await expect.poll(() => daprd.log, { timeout: 5000, interval: 20 }).toContain("is unhealthy");
    const before = app.events.length;
    await daprd.publish("orders", "not well");
    app.healthy = true;
    await expect.poll(() => delivered("well again"), { timeout: 5000, interval: 20 }).toBe(true);
    const after = app.events.slice(before).map(({ event }) => Buffer.from(event.data).toString());
    expect(new Set(after)).toEqual(new Set(["well again"]));
  });

  it("gets bulk deliveries by the older method where it has no other", async () => {
    await using app = await GrpcApp.start({ stableBulk: false });
    const bulk = { bulkSubscribe: { enabled: true, maxMessagesCount: 10, maxAwaitDurationMs: 10 } };
    await using daprd = await Daprd.start({
      resources: inMemory() + v2("s", "orders", "/orders", bulk),
      app: { port: app.port, protocol: "grpc" },
    });
    await daprd.publish("orders", "x");
    await expect.poll(() => app.bulks.length, { timeout: 5000, interval: 5 }).toBe(1);
    expect(app.bulks[0]!.entries[0]!.event.case).toBe("cloudEvent");
  });
});

describe("an answer over HTTP", () => {
  /** How often an event comes with this answer, and whether it becomes a dead letter. */
  const fateOf = async (answers: readonly AppAnswer[]) => {
    let next = 0;
    await using app = await HttpApp.start({
      routes: { "/orders": () => answers[next++] ?? 200, "/dead": 200 },
    });
    await using daprd = await Daprd.start({ resources: withDeadLetters, app });
    for (const _ of answers) await daprd.publish("orders", "x");
    await expect.poll(() => app.to("/orders").length, { timeout: 5000, interval: 5 }).toBe(answers.length);
    await daprd.publish("orders", "the last one");
    await app.delivered("/orders", answers.length);
    daprd.signal("SIGTERM");
    await daprd.exitCode();
    return app.to("/dead").length;
  };
  const body = (text: string) => ({ status: 200, body: text });

  it("of 2xx without a status, with one that cannot be read or with SUCCESS settles the event", async () => {
    const answers = [201, body("no JSON"), body("{}"), body('{"status":""}'), body('{"status":"SUCCESS"}')];
    expect(await fateOf(answers)).toBe(0);
  });

  it("of RETRY, DROP, 404, an unknown status or another code makes it a dead letter", async () => {
    const answers = [body('{"status":"RETRY"}'), body('{"status":"DROP"}'), 404, body('{"status":"?"}'), 500];
    expect(await fateOf(answers)).toBe(answers.length);
  });
});

describe("retries", () => {
  const resiliency = `---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata:
  name: r
spec:
  policies:
    retries:
      pubsub: {policy: constant, duration: 10ms, maxRetries: 4}
  targets:
    components:
      mypub: {inbound: {retry: pubsub}}
`;

  it("resiliency/subscription/http", async () => {
    await using app = await HttpApp.start({ routes: { "/orders": 500, "/other": 200 } });
    await using daprd = await Daprd.start({
      resources: orders + v2("s2", "other", "/other") + resiliency,
      app,
    });
    await daprd.publish("orders", '{"id":1}', json);
    await app.delivered("/orders", 4);
    await daprd.publish("orders", '{"id":2}', json);
    await app.delivered("/orders", 9);
    const ids = app.to("/orders").map(({ body }) => (body!["data"] as { id: number }).id);
    expect(ids).toEqual([1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
  });

  it("are not made without a policy: in memory, an event whose handling failed is gone, as in Dapr", async () => {
    await using app = await HttpApp.start({ routes: { "/orders": 500 } });
    await using daprd = await Daprd.start({ resources: orders, app });
    await daprd.publish("orders", "1");
    await daprd.publish("orders", "2");
    await app.delivered("/orders", 1);
    expect(app.calls.map(({ body }) => body!["data"])).toEqual(["1", "2"]);
  });
});
