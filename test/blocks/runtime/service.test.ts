import { ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { expect, it, vi } from "vitest";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { ComponentStatus, RuntimeService } from "../../../gen/outrider/runtime/v1/runtime_pb.ts";
import { healthCheckTimeoutMs, runtimeService } from "../../../src/blocks/runtime/service.ts";
import {
  type ComponentView,
  capabilitiesOf,
  type Sidecar,
} from "../../../src/blocks/runtime/sidecar-view.ts";

function component(name: string, changes: Partial<ComponentView> = {}): ComponentView {
  return {
    name,
    type: "state.test",
    version: "v1",
    declaredIn: "",
    required: true,
    capabilities: () => ["transactions"],
    status: () => ({ state: "ready", message: "", sinceMs: Date.now() - 5000 }),
    ping: () => Promise.resolve(),
    ...changes,
  };
}

const failed: Partial<ComponentView> = {
  capabilities: () => [],
  status: () => ({ state: "failed", message: "connection refused", sinceMs: Date.now() - 61_000 }),
  ping: () => Promise.reject(new Error("must not be asked")),
};

function client(changes: Partial<Sidecar>) {
  const sidecar: Sidecar = {
    appId: "orders",
    version: "1.2.3",
    instanceId: "abc",
    startedAtMs: 1_700_000_000_000,
    dataDirectory: () => "/data",
    ports: () => [{ name: "grpc", address: "127.0.0.1", port: 50001 }],
    components: () => [],
    subscriptions: () => Promise.resolve([]),
    subscribeStreams: () => 0,
    lastReload: () => undefined,
    shutdown: () => {},
    ...changes,
  };
  const transport = createRouterTransport((router) =>
    router.service(RuntimeService, runtimeService(sidecar)),
  );
  return createClient(RuntimeService, transport);
}

it("tells what the sidecar is, with its components in the order of their names", async () => {
  const answer = await client({
    components: () => [component("b"), component("a", failed)],
    subscribeStreams: () => 3,
  }).getMetadata({});
  expect(answer).toMatchObject({
    appId: "orders",
    version: "1.2.3",
    instanceId: "abc",
    dataDirectory: "/data",
    subscribeStreams: 3,
    startedAt: { seconds: 1_700_000_000n },
    ports: [{ name: "grpc", address: "127.0.0.1", port: 50001 }],
    components: [
      { name: "a", capabilities: [], status: ComponentStatus.FAILED, statusMessage: "connection refused" },
      { name: "b", capabilities: ["transactions"], status: ComponentStatus.READY, statusMessage: "" },
    ],
  });
});

it("leaves the lag of a subscription out where the broker does not tell it", async () => {
  const view = {
    component: "pubsub",
    topic: "orders",
    group: "app",
    declared: "",
    streams: 1,
    inFlight: 2,
    maxInFlight: 256,
    trimmedUnsettled: 0n,
    highestAttempt: 1,
  };
  const { subscriptions } = await client({
    subscriptions: () =>
      Promise.resolve([
        { ...view, lag: undefined },
        { ...view, lag: 7n },
      ]),
  }).getMetadata({});
  expect(subscriptions.map(({ lag }) => lag)).toEqual([undefined, 7n]);
  expect(subscriptions[0]).toMatchObject({ topic: "orders", inFlight: 2 });
});

it("is not ready while a component that must be there is not", async () => {
  const answer = await client({ components: () => [component("a"), component("b", failed)] }).checkHealth({});
  expect(answer.ready).toBe(false);
  expect(answer.components).toMatchObject([
    { name: "a", status: ComponentStatus.READY, since: { seconds: 5n } },
    { name: "b", status: ComponentStatus.FAILED, message: "connection refused", since: { seconds: 61n } },
  ]);
});

it("is ready without a component whose errors are ignored", async () => {
  const optional = component("b", { ...failed, required: false });
  const answer = await client({ components: () => [component("a"), optional] }).checkHealth({});
  expect(answer.ready).toBe(true);
});

it("asks an open component whether its server answers, and hides what the library says", async () => {
  const away = component("a", { ping: () => Promise.reject(new Error("redis://:secret@db")) });
  const answer = await client({ components: () => [away] }).checkHealth({});
  expect(answer.ready).toBe(false);
  expect(answer.components).toMatchObject([
    { status: ComponentStatus.FAILED, message: "it does not answer" },
  ]);
});

it("tells what is wrong with a component although it answers", async () => {
  const trouble = () => "the broker refuses dead letters";
  const runtime = client({
    components: () => [component("a", { trouble }), component("b", { ...failed, trouble })],
  });
  const { components, ready } = await runtime.checkHealth({ component: "a" });
  expect({ components, ready }).toMatchObject({
    ready: true,
    components: [{ status: ComponentStatus.READY, message: "the broker refuses dead letters" }],
  });
  expect((await runtime.getMetadata({})).components).toMatchObject([
    { status: ComponentStatus.READY, statusMessage: "the broker refuses dead letters" },
    { status: ComponentStatus.FAILED, statusMessage: "connection refused" },
  ]);
});

it("does not wait long for a component that is silent", async () => {
  vi.useFakeTimers();
  const timeout = vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), ms);
    return controller.signal;
  });
  try {
    const silent = component("a", { ping: () => new Promise(() => {}) });
    const answer = client({ components: () => [silent] }).checkHealth({});
    await vi.advanceTimersByTimeAsync(healthCheckTimeoutMs);
    expect((await answer).ready).toBe(false);
  } finally {
    timeout.mockRestore();
    vi.useRealTimers();
  }
});

it("answers for one component, and says when there is none of that name", async () => {
  const runtime = client({ components: () => [component("a"), component("b", failed)] });
  const answer = await runtime.checkHealth({ component: "a" });
  expect(answer.ready).toBe(true);
  expect(answer.components.map(({ name }) => name)).toEqual(["a"]);
  await expect(runtime.checkHealth({ component: "c" })).rejects.toSatisfy(
    (error) => ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason === "COMPONENT_NOT_FOUND",
  );
});

it("answers a shutdown, and begins it", async () => {
  const shutdown = vi.fn();
  await client({ shutdown }).shutdown({});
  expect(shutdown).toHaveBeenCalledTimes(1);
});

it("names capabilities as the contracts do", () => {
  expect(capabilitiesOf({ watchResume: true, transactions: true, list: false })).toEqual([
    "transactions",
    "watch-resume",
  ]);
});
