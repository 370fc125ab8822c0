/** Resiliency, as far as it is about components. */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { status as grpcStatus } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { TopicEventResponse_TopicEventResponseStatus as Status } from "../../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { memoryStore } from "../../../components/pluggable/memory-store.ts";
import { SocketsFolder } from "../../../components/pluggable/node-component.ts";
import { Daprd, inMemory, v2 } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { type AppAnswer, type AppCall, HttpApp } from "../http-app.ts";
import { TopicStream } from "../topic-stream.ts";
import { DATA } from "./payloads.ts";
import { component, configuration } from "./yaml.ts";

const resiliency = (spec: object) => `---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: myresiliency}
spec: ${JSON.stringify(spec)}
`;

describe("resiliency", () => {
  it("resiliency/subscription/streaming", async () => {
    const retries = { pubsub: { policy: "constant", duration: "10ms", maxRetries: 4 } };
    const targets = { components: { mypub: { inbound: { retry: "pubsub" } } } };
    await using daprd = await Daprd.start({
      resources: inMemory() + resiliency({ policies: { retries }, targets }),
    });
    using stream = await TopicStream.open(daprd, "a");
    await daprd.publishEvent("a", DATA, "application/json");
    for (let n = 0; n < 5; n++) {
      const event = await stream.event();
      expect(event).toMatchObject({ topic: "a", pubsubName: "mypub", path: "/" });
      expect(Buffer.from(event.data).toString()).toBe(DATA);
      stream.settle(event.id, Status.RETRY);
    }
    const silence = once(AbortSignal.timeout(1000), "abort").then(() => "silence");
    expect(await Promise.race([stream.event(), silence])).toBe("silence");
    daprd.signal("SIGINT");
    expect(await daprd.exitCode()).toBe(0);
  });

  it("resiliency/publish/http-matching", { timeout: 30_000 }, async () => {
    await using sockets = await SocketsFolder.make();
    const codes: Readonly<Record<string, Code>> = {
      retriable: Code.Unavailable,
      toomany: Code.ResourceExhausted,
    };
    const calls = new Map<string, number>();
    const publish = ({ topic }: { topic: string }): never => {
      calls.set(topic, (calls.get(topic) ?? 0) + 1);
      throw new ConnectError("no", codes[topic] ?? Code.FailedPrecondition);
    };
    await sockets.serve("failing", { pubsub: { features: () => ({}), publish } });
    const retries = {
      matching: { duration: "10ms", maxRetries: 3, matching: { httpStatusCodes: "429,500-599" } },
      all: { duration: "10ms", maxRetries: 3 },
    };
    const components = {
      "pubsub-match": { outbound: { retry: "matching" } },
      "pubsub-nomatch": { outbound: { retry: "all" } },
    };
    await using daprd = await Daprd.start({
      resources:
        component("pubsub-match", "pubsub.failing") +
        component("pubsub-nomatch", "pubsub.failing") +
        resiliency({ policies: { retries }, targets: { components } }),
      env: sockets.env,
    });
    for (const [path, expected] of [
      ["pubsub-match/retriable", 4],
      ["pubsub-match/toomany", 4],
      ["pubsub-match/terminal", 1],
      ["pubsub-nomatch/terminalnomatcherrcode", 4],
    ] as const) {
      const [pubsub, topic] = path.split("/") as [string, string];
      const headers = { "content-type": "application/json" };
      expect(await daprd.publish(topic, '{"id":1}', headers, pubsub)).not.toBe(204);
      expect([path, calls.get(topic)]).toEqual([path, expected]);
    }
  });

  it("calls of a state store are under its timeout, its retries and its circuit breaker", {
    timeout: 30_000,
  }, async () => {
    await using sockets = await SocketsFolder.make();
    const { state, ...others } = memoryStore(["ETAG", "TRANSACTIONAL", "TTL"]);
    let calls = 0;
    const get: NonNullable<typeof state>["get"] = async ({ key }) => {
      calls += 1;
      if (key.endsWith("slow")) await new Promise<never>(() => {});
      if (key.endsWith("away") || (key.endsWith("second") && calls < 2))
        throw new ConnectError("no", Code.Unavailable);
      return { data: Buffer.from("there"), etag: { value: "1" } };
    };
    await sockets.serve("store", { ...others, state: { ...state, get } });
    const policies = {
      timeouts: { short: "200ms" },
      retries: { some: { duration: "10ms", maxRetries: 2 } },
      circuitBreakers: { soon: { timeout: "60s", trip: "consecutiveFailures > 2" } },
    };
    const components = {
      patient: { outbound: { retry: "some" } },
      hasty: { outbound: { timeout: "short" } },
      broken: { outbound: { circuitBreaker: "soon" } },
    };
    await using daprd = await Daprd.start({
      resources:
        Object.keys(components)
          .map((name) => component(name, "state.store"))
          .join("") + resiliency({ policies, targets: { components } }),
      env: sockets.env,
    });
    const read = async (path: string) => {
      calls = 0;
      const response = await fetch(daprd.url(`/v1.0/state/${path}`));
      return { status: response.status, text: await response.text(), calls };
    };
    expect(await read("patient/second")).toEqual({ status: 200, text: "there", calls: 2 });
    expect(await read("patient/away")).toMatchObject({ status: 500, calls: 3 });

    const startedAt = performance.now();
    const late = await read("hasty/slow");
    expect(performance.now() - startedAt).toBeLessThan(1500);
    expect(late).toMatchObject({ status: 500, calls: 1 });
    expect(late.text).toContain("context deadline exceeded");

    for (let n = 0; n < 3; n++) expect(await read("broken/away")).toMatchObject({ status: 500, calls: 1 });
    const open = await read("broken/there");
    expect(open).toMatchObject({ status: 500, calls: 0 });
    expect(open.text).toContain("circuit breaker is open");
  });
});

/** The policies `inbound` names, for deliveries of `mypub`; what they give up goes to `dead`. */
const inbound = (policies: object, names: object) =>
  inMemory() +
  resiliency({ policies, targets: { components: { mypub: { inbound: names } } } }) +
  v2("sub", "orders", "/orders", { deadLetterTopic: "dead" }) +
  v2("dead", "dead", "/dead");

const json = { "content-type": "application/json" };
const dataOf = ({ body }: AppCall) => body!["data"];

describe("resiliency, of deliveries to an application", () => {
  it("resiliency/subscription/http", async () => {
    await using app = await HttpApp.start({ routes: { "/orders": 500, "/dead": 200 } });
    const retries = { some: { policy: "constant", duration: "10ms", maxRetries: 4 } };
    await using daprd = await Daprd.start({ resources: inbound({ retries }, { retry: "some" }), app });
    await daprd.publish("orders", DATA, json);
    await app.delivered("/dead");
    expect(app.to("/orders")).toHaveLength(5);
  });

  it("repeats those over HTTP whose status matches, and those without a status", async () => {
    const answers: Readonly<Record<string, AppAnswer>> = {
      listed: 429,
      unlisted: 500,
      asked: { status: 200, body: '{"status":"RETRY"}' },
    };
    const orders = (call: AppCall) => answers[String(dataOf(call))] ?? 200;
    await using app = await HttpApp.start({ routes: { "/orders": orders, "/dead": 200 } });
    const retries = {
      some: { duration: "10ms", maxRetries: 2, matching: { httpStatusCodes: "429,501-503" } },
    };
    await using daprd = await Daprd.start({ resources: inbound({ retries }, { retry: "some" }), app });
    for (const name of Object.keys(answers)) await daprd.publish("orders", JSON.stringify(name), json);
    await app.delivered("/dead", 2);
    const calls = (name: string) => app.to("/orders").filter((call) => dataOf(call) === name).length;
    expect([calls("listed"), calls("unlisted"), calls("asked")]).toEqual([3, 1, 3]);
  });

  it("repeats those over gRPC whose status matches", async () => {
    const codes: Readonly<Record<string, grpcStatus>> = {
      listed: grpcStatus.UNAVAILABLE,
      unlisted: grpcStatus.INTERNAL,
    };
    await using app = await GrpcApp.start({
      onTopicEvent: ({ data, path }) => {
        const code = codes[JSON.parse(Buffer.from(data).toString()) as string];
        if (path === "/orders" && code) throw Object.assign(new Error("no"), { code, details: "no" });
        return {};
      },
    });
    const retries = { some: { duration: "10ms", maxRetries: 2, matching: { gRPCStatusCodes: "14" } } };
    await using daprd = await Daprd.start({
      resources: inbound({ retries }, { retry: "some" }),
      app: { port: app.port, protocol: "grpc" },
    });
    for (const name of Object.keys(codes)) await daprd.publish("orders", JSON.stringify(name), json);
    const calls = () => app.events.map(({ event }) => `${event.path} ${Buffer.from(event.data)}`);
    await expect
      .poll(calls, { timeout: 5000 })
      .toEqual([
        ...Array(3).fill('/orders "listed"'),
        ...['/dead "listed"', '/orders "unlisted"', '/dead "unlisted"'],
      ]);
  });

  it("ends those that take longer than their timeout, and repeats them", async () => {
    let calls = 0;
    const never = new Promise<AppAnswer>(() => {});
    const orders = () => (++calls === 1 ? never : 200);
    await using app = await HttpApp.start({ routes: { "/orders": orders, "/dead": 200 } });
    const policies = { timeouts: { short: "200ms" }, retries: { some: { duration: "10ms", maxRetries: 3 } } };
    await using daprd = await Daprd.start({
      resources: inbound(policies, { timeout: "short", retry: "some" }),
      app,
    });
    await daprd.publish("orders", '"slow"', json);
    await app.delivered("/orders", 1);
    await daprd.publish("orders", '"next"', json);
    expect(dataOf(await app.delivered("/orders", 2))).toBe("next");
    expect(app.to("/dead")).toEqual([]);
  });

  it("takes those that took too long for dead letters where nothing is repeated", async () => {
    const never = new Promise<AppAnswer>(() => {});
    await using app = await HttpApp.start({ routes: { "/orders": () => never, "/dead": 200 } });
    await using daprd = await Daprd.start({
      resources: inbound({ timeouts: { short: "200ms" } }, { timeout: "short" }),
      app,
    });
    await daprd.publish("orders", '"slow"', json);
    expect(dataOf(await app.delivered("/dead"))).toBe("slow");
    expect(app.to("/orders")).toHaveLength(1);
  });

  it("makes none while its circuit breaker is open, and tries again later", async () => {
    const at: number[] = [];
    const orders = () => (at.push(performance.now()) > 2 ? 200 : 500);
    await using app = await HttpApp.start({ routes: { "/orders": orders } });
    const breaker = { timeout: "2s", trip: "consecutiveFailures > 1" };
    const names = { circuitBreaker: "soon" };
    await using daprd = await Daprd.start({
      // The event stays in this one, which offers it again every now and then.
      resources:
        component("mypub", "pubsub.sqlite") +
        resiliency({
          policies: { circuitBreakers: { soon: breaker } },
          targets: { components: { mypub: { inbound: names } } },
        }) +
        v2("sub", "orders", "/orders"),
      app,
    });
    await daprd.publish("orders", '"it"', json);
    await expect.poll(() => at.length, { timeout: 15_000 }).toBe(3);
    expect(at[2]! - at[1]!).toBeGreaterThan(1900);
    expect(daprd.log).toContain("circuit breaker is open");
  });

  it("repeats of a batch what has failed, and only that", async () => {
    const batches: unknown[][] = [];
    const orders = ({ body }: AppCall) => {
      const entries = body!["entries"] as { entryId: string; event: { data: unknown } }[];
      batches.push(entries.map(({ event }) => event.data));
      const statusOf = (data: unknown) => (data === "bad" && batches.length < 3 ? "RETRY" : "SUCCESS");
      const statuses = entries.map(({ entryId, event }) => ({ entryId, status: statusOf(event.data) }));
      return { status: 200, body: JSON.stringify({ statuses }) };
    };
    await using app = await HttpApp.start({ routes: { "/orders": orders } });
    const policies = { timeouts: { short: "5s" }, retries: { some: { duration: "10ms" } } };
    const bulkSubscribe = { enabled: true, maxMessagesCount: 2, maxAwaitDurationMs: 20_000 };
    await using daprd = await Daprd.start({
      resources:
        component("mypub", "pubsub.sqlite") +
        resiliency({
          policies,
          targets: { components: { mypub: { inbound: { timeout: "short", retry: "some" } } } },
        }) +
        v2("sub", "orders", "/orders", { bulkSubscribe }),
      app,
    });
    for (const data of ['"good"', '"bad"']) await daprd.publish("orders", data, json);
    await expect.poll(() => batches, { timeout: 10_000 }).toEqual([["good", "bad"], ["bad"], ["bad"]]);
  });

  it("repeats none without end when another Resiliency says so meanwhile", async () => {
    await using app = await HttpApp.start({ routes: { "/orders": 500, "/dead": 200 } });
    const retries = { endless: { duration: "10ms" } };
    await using daprd = await Daprd.start({
      resources: inbound({ retries }, { retry: "endless" }),
      configs: [configuration({ features: [{ name: "HotReload", enabled: true }] })],
      app,
    });
    await daprd.publish("orders", '"it"', json);
    await app.delivered("/orders", 10);
    expect(app.to("/dead")).toEqual([]);
    await writeFile(join(daprd.resourcesPath, "all.yaml"), inbound({ retries }, {}));
    await expect.poll(() => app.to("/dead").map(dataOf), { timeout: 10_000 }).toEqual(["it"]);
  });

  it("gives a stream an event again that it has not answered in time, and takes no late answer for it", async () => {
    const policies = { timeouts: { short: "300ms" }, retries: { some: { duration: "10ms" } } };
    const names = { timeout: "short", retry: "some" };
    await using daprd = await Daprd.start({
      resources:
        inMemory() + resiliency({ policies, targets: { components: { mypub: { inbound: names } } } }),
    });
    using stream = await TopicStream.open(daprd, "a");
    await daprd.publishEvent("a", '"first"', "application/json");
    await daprd.publishEvent("a", '"second"', "application/json");
    const first = await stream.event();
    const again = await stream.event();
    expect(again.id).toBe(first.id);
    stream.settle(again.id, Status.SUCCESS);
    const second = await stream.event();
    expect(Buffer.from(second.data).toString()).toBe('"second"');
  });
});
