/** Resources that change while the sidecar runs, as far as it needs no invocation and no bindings. */
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { Daprd, inMemory, v1, v2 } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { HttpApp } from "../http-app.ts";
import { DATA } from "./payloads.ts";
import { component, configuration } from "./yaml.ts";

const memory = (name: string, more: Readonly<Record<string, unknown>> = {}) =>
  component(name, "state.in-memory", {}, more);

const all = ["ETAG", "TRANSACTIONAL", "TTL", "DELETE_WITH_PREFIX", "KEYS_LIKE", "ACTOR"];
const inMetadata = (name: string) => ({ name, type: "state.in-memory", version: "v1", capabilities: all });

/** Writes a file of the resources folder; removes it when there is no text. */
async function put(daprd: Daprd, name: string, text: string | undefined): Promise<void> {
  const path = join(daprd.resourcesPath, name);
  if (text === undefined) await rm(path);
  else await writeFile(path, text);
}

/** Waits for what metadata says of something. */
function shows<T>(daprd: Daprd, what: (metadata: Metadata) => T) {
  return expect.poll(async () => what((await daprd.metadata()) as Metadata), {
    timeout: 20_000,
    interval: 20,
  });
}

interface Metadata extends Awaited<ReturnType<Daprd["metadata"]>> {
  readonly resiliencies?: readonly object[];
  readonly httpEndpoints?: readonly object[];
}

const names = ({ components = [] }: Metadata) => components.map(({ name }) => name);

describe("hot reload", () => {
  it("hot-reload/disabled", async () => {
    const configs = [configuration({ features: [{ name: "HotReload", enabled: false }] })];
    await using daprd = await Daprd.start({ configs, resources: memory("initial") });
    const { components } = await daprd.metadata();
    expect(components).toEqual([inMetadata("initial")]);
    // What a sidecar that reloads would show in a fraction of the time.
    await using other = await Daprd.start();
    await put(daprd, "second.yaml", memory("second"));
    await put(other, "second.yaml", memory("second"));
    await shows(other, names).toEqual(["second"]);
    expect(names(await daprd.metadata())).toEqual(["initial"]);
    await put(daprd, "all.yaml", undefined);
    await put(other, "second.yaml", undefined);
    await shows(other, names).toEqual([]);
    expect(names(await daprd.metadata())).toEqual(["initial"]);
  });

  it("hot-reload/http-endpoint", async () => {
    await using daprd = await Daprd.start();
    expect(await daprd.metadata()).not.toHaveProperty("httpEndpoints");
    const endpoint = `apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {name: myendpoint}
spec: {baseUrl: "http://localhost:1234"}
`;
    await put(daprd, "endpoint.yaml", endpoint);
    await shows(daprd, ({ httpEndpoints }) => httpEndpoints).toEqual([{ name: "myendpoint" }]);
    await put(daprd, "endpoint.yaml", undefined);
    await shows(daprd, ({ httpEndpoints }) => httpEndpoints).toBe(undefined);
  });

  it("hot-reload/app-pipeline/uppercase", async () => {
    const subscribe = [{ pubsubname: "mypub", topic: "a", route: "/a" }];
    await using app = await HttpApp.start({ subscribe, routes: { "/a": 200 } });
    const handlers = ["uppercase", "uppercase2"].map((name) => ({ name, type: "middleware.http.uppercase" }));
    const configs = [configuration({ appHttpPipeline: { handlers } })];
    await using daprd = await Daprd.start({ app, configs, resources: inMemory() });
    const said = async (n: number) => {
      await daprd.publishEvent("a", "hello", "text/plain");
      const { body } = await app.delivered("/a", n);
      return Object.values(body ?? {}).includes("HELLO");
    };
    expect(await said(0)).toBe(false);
    const uppercase = component("uppercase", "middleware.http.uppercase");
    await put(daprd, "u.yaml", uppercase);
    await shows(daprd, names).toEqual(["mypub", "uppercase"]);
    expect(await said(1)).toBe(true);
    const alias = { routes: '{"/foo": "/v1.0/invoke/nowhere/method/bar"}' };
    const aliases = ["uppercase", "uppercase2"].map((name) =>
      component(name, "middleware.http.routeralias", alias),
    );
    await put(daprd, "u.yaml", aliases.join(""));
    const type = "middleware.http.routeralias";
    await shows(daprd, ({ components }) => components).toEqual([
      { name: "mypub", type: "pubsub.in-memory", version: "v1" },
      { name: "uppercase", type, version: "v1" },
      { name: "uppercase2", type, version: "v1" },
    ]);
    expect(await said(2)).toBe(false);
  });

  it("hot-reload/server-pipeline/uppercase", async () => {
    const handlers = ["uppercase", "uppercase2"].map((name) => ({ name, type: "middleware.http.uppercase" }));
    const configs = [configuration({ httpPipeline: { handlers } })];
    const upper = (name: string) => component(name, "middleware.http.uppercase");
    const alias = (name: string) => component(name, "middleware.http.routeralias", { routes: "{}" });
    await using daprd = await Daprd.start({ configs, resources: upper("uppercase") + alias("uppercase2") });
    const saves = async () => {
      await fetch(daprd.url("/v1.0/metadata/said"), { method: "PUT", body: Buffer.from("hello") });
      const { extended } = (await daprd.metadata()) as unknown as { extended: Record<string, string> };
      return extended["said"];
    };
    const types = ({ components = [] }: Metadata) =>
      components.map((each) => (each as unknown as { type: string }).type.slice("middleware.http.".length));
    expect(await saves()).toBe("HELLO");
    await put(daprd, "all.yaml", alias("uppercase") + alias("uppercase2"));
    await shows(daprd, types).toEqual(["routeralias", "routeralias"]);
    expect(await saves()).toBe("hello");
    await put(daprd, "all.yaml", alias("uppercase") + upper("uppercase2"));
    await shows(daprd, types).toEqual(["routeralias", "uppercase"]);
    expect(await saves()).toBe("HELLO");
    await put(daprd, "all.yaml", undefined);
    await shows(daprd, types).toEqual([]);
    expect(await saves()).toBe("hello");
  });

  it("hot-reload/resiliency", async () => {
    await using daprd = await Daprd.start();
    const resiliency = `apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: myresiliency}
spec: {policies: {timeouts: {general: 5s}}, targets: {}}
`;
    await put(daprd, "r.yaml", resiliency);
    await shows(daprd, ({ resiliencies }) => resiliencies).toEqual([{ name: "myresiliency" }]);
    expect((await daprd.grpc.getMetadata({})).resiliencies).toMatchObject([{ name: "myresiliency" }]);
    await put(daprd, "r.yaml", undefined);
    await shows(daprd, ({ resiliencies }) => resiliencies).toBe(undefined);
  });

  it("hot-reload/scopes/one-component", async () => {
    await using daprd = await Daprd.start({ files: { "1.yaml": memory("123") } });
    expect(names(await daprd.metadata())).toEqual(["123"]);
    const scopes = [["not-my-app-id"], ["not-my-app-id", daprd.appId], ["not-my-app-id"], []];
    for (const [index, each] of scopes.entries()) {
      await put(daprd, "1.yaml", memory("123", { scopes: each }));
      await shows(daprd, names).toEqual(index % 2 === 0 ? [] : ["123"]);
    }
  });

  it("hot-reload/scopes/named-app", async () => {
    const store = (name: string, scopes: readonly string[]) => `---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: ${name}
spec:
  type: state.in-memory
  version: v1
scopes: ${JSON.stringify(scopes)}
`;
    const start = { appId: "myappid", env: { NAMESPACE: "default" }, files: { "1.yaml": store("123", []) } };
    await using daprd = await Daprd.start(start);
    expect(names(await daprd.metadata())).toEqual(["123"]);
    for (const [index, each] of [["foo"], ["foo", "myappid"], ["foo"], []].entries()) {
      await put(daprd, "1.yaml", store("123", each));
      await shows(daprd, names).toEqual(index % 2 === 0 ? [] : ["123"]);
    }
    await put(daprd, "1.yaml", store("123", []) + store("456", ["myappid"]));
    await shows(daprd, names).toEqual(["123", "456"]);
  });

  it("hot-reload/pubsub-grpc", async () => {
    const subscriptions = [1, 2, 3].map((n) => ({
      pubsubName: `pubsub${n}`,
      topic: `topic${n}`,
      routes: { default: `/route${n}` },
    }));
    await using app = await GrpcApp.start({ subscriptions });
    const files = { "1.yaml": inMemory("pubsub1") };
    await using daprd = await Daprd.start({ app: { port: app.port, protocol: "grpc" }, files });
    const expectOnly = async (...numbers: readonly number[]) => {
      await shows(daprd, (metadata) => names(metadata).toSorted()).toEqual(numbers.map((n) => `pubsub${n}`));
      for (const n of [1, 2, 3]) {
        const topic = `topic${n}`;
        const before = app.of(topic).length;
        const published = daprd.publishEvent(topic, DATA, "application/json", `pubsub${n}`);
        if (numbers.includes(n)) {
          await published;
          expect((await app.delivered(topic, before)).event).toMatchObject({ path: `/route${n}` });
        } else {
          expect(ConnectError.from(await published.catch((error: unknown) => error)).rawMessage).toMatch(
            /not found/,
          );
        }
      }
    };
    await expectOnly(1);
    await put(daprd, "2.yaml", inMemory("pubsub2"));
    await expectOnly(1, 2);
    await put(daprd, "2.yaml", inMemory("pubsub2") + inMemory("pubsub3"));
    await expectOnly(1, 2, 3);
    await put(daprd, "2.yaml", inMemory("pubsub3"));
    await expectOnly(1, 3);
    await put(daprd, "1.yaml", undefined);
    await expectOnly(3);
    await put(daprd, "2.yaml", undefined);
    await expectOnly();
    await put(daprd, "2.yaml", inMemory("pubsub2"));
    await expectOnly(2);
  });

  it("what a component has delivered is still answered when it is removed", async () => {
    const release = Promise.withResolvers<void>();
    const subscriptions = [{ pubsubName: "mypub", topic: "a", routes: { default: "/a" } }];
    const onTopicEvent = () => release.promise.then(() => ({}));
    await using app = await GrpcApp.start({ subscriptions, onTopicEvent });
    const start = { app: { port: app.port, protocol: "grpc" }, files: { "comp.yaml": inMemory() } };
    await using daprd = await Daprd.start(start);
    await daprd.publishEvent("a", DATA, "application/json");
    await app.delivered("a");
    await truncate(join(daprd.resourcesPath, "comp.yaml"));
    await shows(daprd, names).toEqual([]);
    const closed = () => daprd.log.includes("what was replaced or removed is closed");
    expect(closed()).toBe(false);
    release.resolve();
    await expect.poll(closed, { timeout: 10_000 }).toBe(true);
    const lines = (await daprd.metrics()).split("\n");
    const answered = lines.filter((line) => line.startsWith("dapr_component_pubsub_ingress_count{"));
    expect(answered.filter((line) => line.endsWith(" 1"))).toEqual([
      expect.stringContaining('process_status="success"'),
    ]);
  });

  it("hot-reload/subscription/http", async () => {
    const letters = ["a", "b", "c", "d", "e", "f"];
    await using app = await HttpApp.start({ routes: Object.fromEntries(letters.map((x) => [`/${x}`, 200])) });
    const other = await mkdtemp(join(tmpdir(), "outriderd-test-"));
    const files = { "pubsub0.yaml": inMemory("pubsub0"), "pubsub1.yaml": inMemory("pubsub1") };
    await using daprd = await Daprd.start({ app, files, flags: [`--resources-path=${other}`] });
    const topics = ({ subscriptions = [] }: Metadata) => subscriptions.map(({ topic }) => topic);
    const yes = async (pubsub: string, topic: string) => {
      const before = app.to(`/${topic}`).length;
      expect(await daprd.publish(topic, DATA, {}, pubsub)).toBe(204);
      await app.delivered(`/${topic}`, before);
    };
    const no = async (pubsub: string, topic: string) => {
      const before = app.calls.length;
      expect(await daprd.publish(topic, DATA, {}, pubsub)).toBe(204);
      // Whatever comes after it has come: the broker keeps the order, and the application is called for both.
      const [, sentinel] = /(\w)$/.exec(`${topics((await daprd.metadata()) as Metadata).at(-1) ?? ""}`) ?? [];
      if (sentinel !== undefined)
        await yes(sentinel <= "b" || sentinel === "d" ? "pubsub0" : "pubsub1", sentinel);
      expect(app.calls.slice(before).map(({ path }) => path)).not.toContain(`/${topic}`);
    };
    const sub = (version: typeof v1, name: string, pubsub: string, topic: string) =>
      version(name, topic, `/${topic}`, { pubsubname: pubsub });
    await no("pubsub0", "a");
    await put(daprd, "sub1.yaml", sub(v2, "sub1", "pubsub0", "a"));
    await shows(daprd, topics).toEqual(["a"]);
    await yes("pubsub0", "a");
    await no("pubsub0", "b");
    await writeFile(join(other, "sub2.yaml"), sub(v2, "sub2", "pubsub0", "b"));
    await shows(daprd, topics).toEqual(["a", "b"]);
    await yes("pubsub0", "b");
    await put(daprd, "sub1.yaml", undefined);
    await shows(daprd, topics).toEqual(["b"]);
    await yes("pubsub0", "b");
    await no("pubsub0", "a");
    await put(daprd, "sub3.yaml", sub(v2, "sub3", "pubsub1", "c"));
    await shows(daprd, topics).toEqual(["b", "c"]);
    await yes("pubsub0", "b");
    await yes("pubsub1", "c");
    await writeFile(join(other, "sub2.yaml"), sub(v2, "sub2", "pubsub0", "d"));
    await shows(daprd, topics).toEqual(["c", "d"]);
    const { subscriptions } = await daprd.grpc.getMetadata({});
    expect(subscriptions.map(({ topic }) => topic)).toEqual(["c", "d"]);
    await no("pubsub0", "b");
    await yes("pubsub0", "d");
    await yes("pubsub1", "c");
    await put(daprd, "sub4.yaml", sub(v1, "sub4", "pubsub1", "e"));
    await shows(daprd, topics).toEqual(["c", "d", "e"]);
    await yes("pubsub0", "d");
    await yes("pubsub1", "c");
    await yes("pubsub1", "e");
    await put(daprd, "sub4.yaml", sub(v1, "sub4", "pubsub1", "f"));
    await shows(daprd, topics).toEqual(["c", "d", "f"]);
    await no("pubsub1", "e");
    await yes("pubsub1", "f");
    await put(daprd, "pubsub1.yaml", undefined);
    await shows(daprd, names).toEqual(["pubsub0"]);
    await yes("pubsub0", "d");
    expect(await daprd.publish("c", DATA, {}, "pubsub1")).toBe(404);
    await rm(other, { recursive: true });
  });
});
