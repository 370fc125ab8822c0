/** Pipelines of middleware, as far as they need no invocation; and each middleware on the HTTP port. */
import { describe, expect, it } from "vitest";
import { Daprd, inMemory } from "../daprd.ts";
import { HttpApp } from "../http-app.ts";
import { component, configuration } from "./yaml.ts";

const store = component("mystore", "state.in-memory");
const handlers = (...types: string[]) => ({
  handlers: types.map((type, index) => ({ name: `handler${index}`, type: `middleware.http.${type}` })),
});
const middleware = (index: number, type: string, metadata: Record<string, unknown> = {}) =>
  component(`handler${index}`, `middleware.http.${type}`, metadata);

const save = (daprd: Daprd, path: string, text: string) =>
  fetch(daprd.url(path), { method: "POST", body: Buffer.from(text) });

describe("HTTP middleware", () => {
  it("middleware/app-pipeline/missing-component", async () => {
    const configs = [configuration({ appHttpPipeline: handlers("uppercase"), httpPipeline: handlers("x") })];
    await using daprd = await Daprd.start({ configs });
    daprd.signal("SIGINT");
    expect(await daprd.exitCode()).toBe(0);
  });

  it("changes the bodies of requests, where a component has the handler's name and type", async () => {
    const configs = [configuration({ httpPipeline: handlers("uppercase", "routeralias") })];
    const resources = store + middleware(0, "uppercase") + middleware(1, "uppercase");
    await using daprd = await Daprd.start({ resources, configs });
    const { components } = (await daprd.metadata()) as { components?: readonly object[] };
    const type = "middleware.http.uppercase";
    expect(components).toContainEqual({ name: "handler0", type, version: "v1" });
    await fetch(daprd.url("/v1.0/metadata/said"), { method: "PUT", body: Buffer.from("hello") });
    expect(await daprd.metadata()).toMatchObject({ extended: { said: "HELLO" } });
  });

  it("takes a path for another, each alias once and in the order of the handlers", async () => {
    const configs = [configuration({ httpPipeline: handlers("routeralias", "routeralias") })];
    const metadata = { routes: '{"/a": "/b",\n "/save": "/v1.0/state/mystore?x=1"}' };
    const second = { routes: '{"/b": "/v1.0/metadata"}' };
    const resources = store + middleware(0, "routeralias", metadata) + middleware(1, "routeralias", second);
    await using daprd = await Daprd.start({ resources, configs });
    expect(((await (await fetch(daprd.url("//a"))).json()) as { id: string }).id).toBe(daprd.appId);
    expect((await save(daprd, "/save?y=2", '[{"key":"a","value":1}]')).status).toBe(204);
    expect((await fetch(daprd.url("/v1.0/state/mystore/a"))).status).toBe(200);
  });

  it("turns away paths that the rule does not have, RPCs too", async () => {
    const configs = [configuration({ httpPipeline: handlers("routerchecker") })];
    const resources =
      store + middleware(0, "routerchecker", { rule: "^/v1.0/(healthz|state/mystore/[a-c]+$)" });
    await using daprd = await Daprd.start({ resources, configs });
    expect((await fetch(daprd.url("/v1.0/state/mystore/abc"))).status).toBe(204);
    expect((await fetch(daprd.url("/v1.0/state/mystore/x"))).status).toBe(400);
    expect((await save(daprd, "/outrider.runtime.v1.RuntimeService/Shutdown", "{}")).status).toBe(400);
  });

  it("turns away who asks too often, and nobody else", async () => {
    const configs = [configuration({ httpPipeline: handlers("ratelimit") })];
    const resources = middleware(0, "ratelimit", { maxRequestsPerSecond: "5" });
    await using daprd = await Daprd.start({ resources, configs });
    const ask = async (client: string) => {
      const headers = { "x-forwarded-for": client };
      return (await fetch(daprd.url("/v1.0/metadata"), { headers })).status;
    };
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask("10.0.0.1")));
    expect(answers.filter((status) => status === 200).length).toBeGreaterThanOrEqual(5);
    expect(answers).toContain(429);
    expect(await ask("10.0.0.2")).toBe(200);
  });

  it("has what goes to the application pass the handlers of appHttpPipeline, its probe excepted", async () => {
    const subscribe = [{ pubsubname: "mypub", topic: "a", route: "/a" }];
    await using app = await HttpApp.start({ subscribe, routes: { "/b": 200 } });
    const configs = [configuration({ appHttpPipeline: handlers("uppercase", "routeralias") })];
    const routes = { routes: '{"/a": "/b", "/healthz": "/nowhere"}' };
    const resources = inMemory() + middleware(0, "uppercase") + middleware(1, "routeralias", routes);
    const flags = ["--enable-app-health-check=true", "--app-health-probe-interval=1"];
    await using daprd = await Daprd.start({ resources, configs, flags, app: { port: app.port } });
    expect(await daprd.publish("a", "hello")).toBe(204);
    const { body, headers } = await app.delivered("/b");
    expect(body).toMatchObject({ DATA: "HELLO", TOPIC: "A", PUBSUBNAME: "MYPUB" });
    expect(headers["content-length"]).toBe(String(JSON.stringify(body).length));
    expect(app.to("/a")).toEqual([]);
  });

  it("takes what a handler of appHttpPipeline answers for the application's answer", async () => {
    const subscribe = [{ pubsubname: "mypub", topic: "a", route: "/a", deadLetterTopic: "dead" }];
    subscribe.push({ pubsubname: "mypub", topic: "dead", route: "/dead", deadLetterTopic: "" });
    await using app = await HttpApp.start({ subscribe, routes: { "/a": 200, "/dead": 200 } });
    const configs = [configuration({ appHttpPipeline: handlers("routerchecker") })];
    const resources = inMemory() + middleware(0, "routerchecker", { rule: "^/(dapr/.*|dead)$" });
    await using daprd = await Daprd.start({ resources, configs, app: { port: app.port } });
    expect(await daprd.publish("a", "hello")).toBe(204);
    expect((await app.delivered("/dead")).body).toMatchObject({ data: "hello" });
    expect(app.to("/a")).toEqual([]);
  });
});
