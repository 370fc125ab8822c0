/** grpc.health.v1, as probes use it. */
import { type Client, Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { healthMount } from "../../src/server/health.ts";
import type { Listening } from "../../src/server/listening.ts";
import { Readiness } from "../../src/server/readiness.ts";
import { mountsOf, Scene, startServer } from "./service.ts";

const stateName = "outrider.state.v1.StateService";
let readiness: Readiness;
let server: Listening;
let health: Client<typeof Health>;

beforeEach(async () => {
  readiness = new Readiness();
  const mounts = mountsOf(new Scene());
  server = await startServer("grpc", [...mounts, healthMount(readiness, mounts)]);
  health = createClient(Health, createGrpcTransport({ baseUrl: `http://127.0.0.1:${server.port}` }));
});
afterEach(() => server.close(0));

it("says of the whole and of each service whether it is ready", async () => {
  for (const service of ["", stateName]) {
    expect((await health.check({ service })).status).toBe(Status.NOT_SERVING);
  }
  readiness.set(true);
  for (const service of ["", stateName]) {
    expect((await health.check({ service })).status).toBe(Status.SERVING);
  }
});

it('serves "liveness" whether it is ready or not', async () => {
  expect((await health.check({ service: "liveness" })).status).toBe(Status.SERVING);
});

it("answers NOT_FOUND for a service that it does not know", async () => {
  await expect(health.check({ service: "other" })).rejects.toMatchObject({ code: Code.NotFound });
});

it("lists every service", async () => {
  readiness.set(true);
  const { statuses } = await health.list({});
  expect(Object.keys(statuses).sort()).toEqual(["", "outrider.pubsub.v1.PubSubService", stateName]);
  expect(statuses[""]?.status).toBe(Status.SERVING);
});

it("tells a watcher the state at once and after every change, until it leaves", async () => {
  const leaving = new AbortController();
  const watching = health.watch({ service: stateName }, { signal: leaving.signal })[Symbol.asyncIterator]();
  const next = async () => (await watching.next()).value?.status;
  expect(await next()).toBe(Status.NOT_SERVING);
  for (const ready of [true, false, true]) {
    const told = next();
    readiness.set(ready);
    expect(await told).toBe(ready ? Status.SERVING : Status.NOT_SERVING);
  }
  leaving.abort();
  await expect(next()).rejects.toMatchObject({ code: Code.Canceled });
});

it("keeps the watch of an unknown service open", async () => {
  const leaving = new AbortController();
  const watching = health.watch({ service: "other" }, { signal: leaving.signal })[Symbol.asyncIterator]();
  expect((await watching.next()).value?.status).toBe(Status.SERVICE_UNKNOWN);
  const end = watching.next();
  readiness.set(true);
  leaving.abort();
  await expect(end).rejects.toMatchObject({ code: Code.Canceled });
});
