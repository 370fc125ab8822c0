/** A log line for each call, as the flag and the Configuration ask for it. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { freePorts, makeProject, Outrider, removeProject } from "../outrider.ts";

let cwd: string;
beforeEach(async () => {
  cwd = await makeProject();
});
afterEach(() => removeProject(cwd));

/** Starts a sidecar, makes a call on each port and asks for its health, and answers the lines of calls. */
async function callsLogged(...flags: readonly string[]): Promise<Record<string, unknown>[]> {
  await using sidecar = new Outrider(["run", ...freePorts, "--log-as-json", ...flags], { cwd });
  const [ready] = await sidecar.said(/^.*"msg":"ready".*$/m);
  const { grpc_port: grpcPort, http_port: httpPort } = JSON.parse(ready) as Record<string, number>;
  const get = `http://127.0.0.1:${httpPort}/outrider.state.v1.StateService/Get`;
  const headers = { "content-type": "application/json" };
  await fetch(get, { method: "POST", headers, body: '{"key":"k"}' });
  await fetch(get, { method: "POST", headers, body: '{"key":""}' });
  await fetch(`http://127.0.0.1:${httpPort}/v1.0/state/state/k?metadata.a=b`);
  await fetch(`http://127.0.0.1:${httpPort}/v1.0/healthz`);
  const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${grpcPort}` });
  await createClient(Health, transport).check({});
  sidecar.kill("SIGTERM");
  await sidecar.ended;
  const lines = sidecar.stderr
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  return lines.filter(({ scope }) => scope === "api");
}

const get = { level: "info", rpc: "outrider.state.v1.StateService/Get", duration_ms: expect.any(Number) };
const check = { level: "info", rpc: "grpc.health.v1.Health/Check", code: "OK" };

it("each call is a line with its method and code, when the flag asks for it", async () => {
  expect(await callsLogged("--enable-api-logging")).toMatchObject([
    { ...get, code: "OK" },
    { ...get, code: "INVALID_ARGUMENT" },
    { http: "GET /v1.0/state/state/k", status: 204, duration_ms: expect.any(Number) },
    { http: "GET /v1.0/healthz", status: 204 },
    check,
  ]);
});

it("calls of probes are left out when a Configuration asks for it", async () => {
  const api = "logging: { apiLogging: { enabled: true, omitHealthChecks: true, obfuscateURLs: true } }";
  const head = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: { name: c }\n";
  await writeFile(join(cwd, "config.yaml"), `${head}spec:\n  ${api}\n`);
  expect(await callsLogged("--config", "config.yaml")).toMatchObject([
    { ...get, code: "OK" },
    { ...get, code: "INVALID_ARGUMENT" },
    { http: "GET /v1.0/state/:store/:key", status: 204 },
  ]);
});

it("no call is a line when nobody asks for it", async () => {
  expect(await callsLogged()).toEqual([]);
});
