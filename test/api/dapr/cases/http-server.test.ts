/** CORS and API token; and what else the HTTP port does for everybody. */

import { request as httpRequest } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { describe, expect, it } from "vitest";
import { Daprd } from "../daprd.ts";
import { errorOf } from "./grpc-errors.ts";
import { component, configuration } from "./yaml.ts";

interface Answer {
  readonly status: number;
  readonly acao: string | undefined;
  readonly vary: string | undefined;
}

/** fetch has its own idea of these headers. */
function ask(daprd: Daprd, method: string, headers: Record<string, string>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest(daprd.url("/v1.0/metadata"), { method, headers, agent: false }, (response) => {
      response.resume();
      const { "access-control-allow-origin": acao, vary } = response.headers;
      resolve({ status: response.statusCode!, acao, vary });
    });
    asked.once("error", reject);
    asked.end();
  });
}

function preflight(daprd: Daprd, origin: string, more: Record<string, string> = {}): Promise<Answer> {
  return ask(daprd, "OPTIONS", { origin, "access-control-request-method": "GET", ...more });
}

const env = { DAPR_API_TOKEN: "test" };
const wrong = { "dapr-api-token": "foo" };
const right = { "dapr-api-token": "test" };
const some = expect.stringMatching(/./);

describe("HTTP server", () => {
  it("http-server/cors-allow-all", async () => {
    await using daprd = await Daprd.start({ env, flags: ["--allowed-origins=*"] });
    expect(await preflight(daprd, "*")).toEqual({ status: 200, acao: "*", vary: some });
    expect(await preflight(daprd, "*", wrong)).toEqual({ status: 200, acao: "*", vary: some });
    expect(await ask(daprd, "GET", right)).toMatchObject({ status: 200, acao: undefined });
    expect(await ask(daprd, "GET", wrong)).toMatchObject({ status: 401, acao: undefined });
  });

  it("http-server/cors-origin-and-api-token", async () => {
    const origin = "https://example.com";
    await using daprd = await Daprd.start({ env, flags: [`--allowed-origins=${origin}`] });
    expect(await preflight(daprd, origin)).toEqual({ status: 200, acao: origin, vary: some });
    expect(await preflight(daprd, origin, wrong)).toEqual({ status: 200, acao: origin, vary: some });
    const other = await preflight(daprd, "https://foobaz.com");
    expect(other).toEqual({ status: 200, acao: undefined, vary: some });
    expect(await ask(daprd, "GET", right)).toMatchObject({ status: 200, acao: undefined });
    expect(await ask(daprd, "GET", wrong)).toMatchObject({ status: 401, acao: undefined });
    expect(await ask(daprd, "GET", { ...right, origin })).toMatchObject({ status: 200, acao: origin });
  });

  it("http-server/cors-off-by-default", async () => {
    await using daprd = await Daprd.start();
    const nothing = { status: 404, acao: undefined, vary: undefined };
    expect(await preflight(daprd, "https://test.com")).toEqual(nothing);
    expect(await preflight(daprd, "*", wrong)).toEqual(nothing);
    expect(await ask(daprd, "GET", {})).toMatchObject({ status: 200, acao: undefined });
    expect(await ask(daprd, "GET", wrong)).toMatchObject({ status: 200, acao: undefined });
  });

  it("health needs no token, and the public port has nothing else than health and metadata", async () => {
    await using daprd = await Daprd.start({ env, resources: component("mystore", "state.in-memory") });
    const open = (path: string) => fetch(`http://127.0.0.1:${daprd.publicPort}${path}`);
    expect((await open("/v1.0/healthz")).status).toBe(204);
    expect((await open("/v1.0/metadata")).status).toBe(200);
    expect((await open("/v1.0/state/mystore/a")).status).toBe(404);
    expect((await fetch(daprd.url("/v1.0/state/mystore/a"))).status).toBe(401);
    expect((await fetch(daprd.url("/v1.0/healthz/outbound"))).status).toBe(204);
    await expect(daprd.grpc.getState({ storeName: "mystore", key: "a" })).rejects.toThrow(/unauthenticated/);
  });

  it("says why it refuses a call without its token, in Dapr's words", async () => {
    await using daprd = await Daprd.start({ env });
    const refused = await fetch(daprd.url("/v1.0/metadata"), { headers: { "dapr-api-token": "foo" } });
    expect([refused.status, await refused.text()]).toEqual([401, "invalid api token\n"]);
    for (const [headers, why] of [
      [{}, "missing api token in request metadata"],
      [{ "dapr-api-token": "foo" }, "authentication error: api token mismatch"],
    ] as const)
      expect(await errorOf(daprd.grpc.getMetadata({}, { headers }))).toEqual({
        code: "Unauthenticated",
        message: "Unauthorized",
        count: 1,
        ErrorInfo: {
          reason: "Unauthorized",
          domain: "dapr.io",
          metadata: { "http.code": "401", "http.error_message": why },
        },
      });
  });

  it("refuses a body that is too long, and takes the size of --max-body-size", async () => {
    const resources = component("mystore", "state.in-memory");
    await using daprd = await Daprd.start({ resources, flags: ["--max-body-size=1Ki"] });
    const save = (length: number) => {
      const body = JSON.stringify([{ key: "a", value: "x".repeat(length) }]);
      return fetch(daprd.url("/v1.0/state/mystore"), { method: "POST", body });
    };
    expect((await save(500)).status).toBe(204);
    expect((await save(2000)).status).toBe(413);
  });

  it("takes a whole URL for a target, as whoever takes it for a proxy sends it", async () => {
    await using daprd = await Daprd.start();
    const url = daprd.url("/v1.0/metadata?a=b");
    const status = await new Promise((resolve, reject) => {
      const asked = httpRequest({ host: "127.0.0.1", port: daprd.httpPort, path: url }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      asked.once("error", reject).end();
    });
    expect(status).toBe(200);
  });

  it("speaks HTTP/2 without TLS on the same port", async () => {
    await using daprd = await Daprd.start();
    const session = connectHttp2(`http://127.0.0.1:${daprd.httpPort}`);
    const stream = session.request({ ":path": "/v1.0/healthz" });
    const status = await new Promise((resolve) =>
      stream.once("response", (head) => resolve(head[":status"])),
    );
    expect(status).toBe(204);
    session.destroy();
  });

  it("stops for POST /v1.0/shutdown, with 0", async () => {
    await using daprd = await Daprd.start();
    expect((await fetch(daprd.url("/v1.0/shutdown"), { method: "POST" })).status).toBe(204);
    expect(await daprd.exitCode()).toBe(0);
  });
});

describe("a forced shutdown", () => {
  it("ends the process with 1 as soon as it is answered, whatever is in flight", async () => {
    await using daprd = await Daprd.start({ flags: ["--dapr-graceful-shutdown-seconds=60"] });
    const headers = { "dapr-force-shutdown": "true" };
    expect((await fetch(daprd.url("/v1.0/shutdown"), { method: "POST", headers })).status).toBe(204);
    expect(await daprd.exitCode()).toBe(1);
  });
});

describe("spec.api of a Configuration", () => {
  const resources = component("mystore", "state.in-memory") + component("mypub", "pubsub.in-memory");
  const native = (daprd: Daprd, method: string) =>
    fetch(daprd.url(`/outrider.${method}`), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"component":"mystore","key":"a"}',
    });

  it("leaves only what is allowed, in the protocol that it names, in our own API too", async () => {
    const allowed = [
      { name: "state", version: "v1", protocol: "grpc" },
      { name: "publish", version: "v1.0", protocol: "http" },
    ];
    const configs = [configuration({ api: { allowed } })];
    await using daprd = await Daprd.start({ resources, configs });
    await daprd.grpc.getState({ storeName: "mystore", key: "a" });
    const closed = /requested endpoint is not available/;
    await expect(daprd.publishEvent("a")).rejects.toThrow(closed);
    await expect(daprd.grpc.getMetadata({})).rejects.toThrow(closed);
    expect(await daprd.publish("a", "x")).toBe(204);
    expect((await fetch(daprd.url("/v1.0/state/mystore/a"))).status).toBe(404);
    expect((await fetch(daprd.url("/v1.0/metadata"))).status).toBe(404);
    expect((await fetch(daprd.url("/v1.0/shutdown"), { method: "POST" })).status).toBe(404);
    expect((await native(daprd, "state.v1.StateService/Get")).status).toBe(501);
    expect((await native(daprd, "runtime.v1.RuntimeService/Shutdown")).status).toBe(501);
    expect(await daprd.health()).toBe(204);
  });

  it("closes what is denied, and nothing else", async () => {
    const configs = [configuration({ api: { denied: [{ name: "state", version: "v1" }] } })];
    await using daprd = await Daprd.start({ resources, configs });
    await expect(daprd.grpc.getState({ storeName: "mystore", key: "a" })).rejects.toThrow(/not available/);
    expect((await fetch(daprd.url("/v1.0/state/mystore/a"))).status).toBe(404);
    expect((await native(daprd, "state.v1.StateService/Get")).status).toBe(501);
    await daprd.publishEvent("a");
    expect((await daprd.metadata()).id).toBe(daprd.appId);
  });
});
