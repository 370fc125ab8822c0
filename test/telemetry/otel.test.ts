import { afterEach, describe, expect, it, vi } from "vitest";
import { fault, invalidRequest } from "../../src/faults.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { enableTracing, type RunningTracing } from "../../src/telemetry/otel.ts";
import { startTelemetry } from "../../src/telemetry/telemetry.ts";
import { noTrace, parseTraceparent } from "../../src/telemetry/tracing.ts";
import {
  type ExporterOptions,
  otlpOptions,
  type TracingOptions,
} from "../../src/telemetry/tracing-options.ts";
import { type Collector, grpcCollector, httpCollector } from "./collector.ts";
import { sampleValue } from "./prometheus-text.ts";

const remote = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const cleanup: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of cleanup.splice(0).reverse()) await close();
});

async function collecting(collector: Promise<Collector>): Promise<Collector> {
  const opened = await collector;
  cleanup.push(() => opened.close());
  return opened;
}

async function tracingTo(exporter: ExporterOptions, options: Partial<TracingOptions> = {}) {
  const metrics = new Metrics();
  const report = vi.fn();
  const running: RunningTracing = await enableTracing(
    { appId: "orders", instanceId: "i1", samplingRatio: 1, exporters: [exporter], ...options },
    { metrics, report },
  );
  cleanup.push(() => running.close(100));
  return { ...running, metrics, report };
}

function otlp(collector: Collector, protocol: "http" | "grpc"): ExporterOptions {
  return otlpOptions({
    endpointAddress: `127.0.0.1:${collector.port}`,
    protocol,
    isSecure: false,
    headers: { "x-tenant": "t1" },
    timeoutMs: 2000,
  });
}

describe.each([
  ["http", httpCollector],
  ["grpc", grpcCollector],
] as const)("spans to a collector over %s", (protocol, open) => {
  it("hang together from the client's span on, with their attributes and the application's name", async () => {
    const collector = await collecting(open());
    const { tracing, close } = await tracingTo(otlp(collector, protocol), {
      resourceAttributes: { "deployment.environment.name": "test" },
    });
    const parent = { traceparent: remote, tracestate: "rojo=1", baggage: "user=alice" };
    const server = tracing.startSpan("outrider.state.v1.StateService/Get", "server", parent, {
      "rpc.system": "grpc",
      attempt: 2,
      share: 0.5,
      cold: true,
    });
    server.set("rpc.grpc.status_code", 0);
    const client = tracing.startSpan("state.get", "client", server.headers);
    client.end();
    server.end();
    await close(2000);

    const [get, inner] = ["outrider.state.v1.StateService/Get", "state.get"].map(
      (name) => collector.spans().find((span) => span.name === name)!,
    );
    expect(collector.spans().length).toBe(2);
    expect(get).toMatchObject({
      traceId: "0af7651916cd43dd8448eb211c80319c",
      parentSpanId: "b7ad6b7169203331",
      traceState: "rojo=1",
      kind: 2,
      attributes: { "rpc.system": "grpc", attempt: 2, share: 0.5, cold: true, "rpc.grpc.status_code": 0 },
      resource: {
        "service.name": "orders",
        "service.instance.id": "i1",
        "deployment.environment.name": "test",
      },
    });
    expect(inner).toMatchObject({ traceId: get!.traceId, parentSpanId: get!.spanId, kind: 3 });
    expect(server.headers).toEqual({
      traceparent: `00-${get!.traceId}-${get!.spanId}-01`,
      tracestate: "rojo=1",
      baggage: "user=alice",
    });
    expect(collector.requests[0]?.headers["x-tenant"]).toBe("t1");
  });
});

describe("spans", () => {
  it("reach Zipkin, as the configuration of dapr init has it", async () => {
    const collector = await collecting(httpCollector((response) => response.writeHead(202).end()));
    const url = `http://127.0.0.1:${collector.port}/api/v2/spans`;
    const { tracing, close } = await tracingTo({ kind: "zipkin", url, timeoutMs: 2000 });
    tracing
      .startSpan("publish", "producer", { ...noTrace, traceparent: remote }, { topic: "t" })
      .end(new Error("x"));
    await close(2000);
    expect(collector.requests[0]?.path).toBe("/api/v2/spans");
    expect(JSON.parse(collector.requests[0]!.body.toString())).toEqual([
      {
        traceId: "0af7651916cd43dd8448eb211c80319c",
        id: expect.stringMatching(/^[0-9a-f]{16}$/),
        parentId: "b7ad6b7169203331",
        name: "publish",
        kind: "PRODUCER",
        timestamp: expect.any(Number),
        duration: expect.any(Number),
        localEndpoint: { serviceName: "orders" },
        tags: { topic: "t", "error.type": "Error", error: "true" },
      },
    ]);
  });

  it("are lines of JSON when they are to be looked at", async () => {
    const lines: string[] = [];
    const { tracing, close } = await tracingTo({ kind: "stdout", write: (line) => lines.push(line) });
    tracing.startSpan("publish", "producer", noTrace).end();
    await close(2000);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      type: "span",
      name: "publish",
      kind: "producer",
      status: "unset",
    });
  });

  it("begin a new trace when the client's traceparent is none, and drop its broken baggage", async () => {
    const { tracing } = await tracingTo({ kind: "stdout", write: () => {} });
    const span = tracing.startSpan("x", "server", {
      traceparent: "junk",
      tracestate: "a=b",
      baggage: "not baggage",
    });
    expect(parseTraceparent(span.headers.traceparent)).toMatchObject({ sampled: true });
    expect(span.headers).toMatchObject({ tracestate: "", baggage: "" });
  });

  it("follow their parent's decision, and the ratio without a parent", async () => {
    const lines: string[] = [];
    const write = (line: string) => lines.push(line);
    const { tracing, close } = await tracingTo({ kind: "stdout", write }, { samplingRatio: 1e-9 });
    const root = tracing.startSpan("root", "server", noTrace);
    const sampled = tracing.startSpan("sampled", "server", { ...noTrace, traceparent: remote });
    const unsampled = tracing.startSpan("unsampled", "server", {
      ...noTrace,
      traceparent: remote.replace(/01$/, "00"),
    });
    for (const span of [root, sampled, unsampled]) span.end();
    await close(2000);
    expect(lines.map((line) => JSON.parse(line).name)).toEqual(["sampled"]);
    expect(root.headers.traceparent).toMatch(/-00$/);
    expect(unsampled.headers.traceparent).toMatch(/^00-0af7651916cd43dd8448eb211c80319c-.{16}-00$/);
  });

  it("say what went wrong only as far as the client is told, and whose fault it was", async () => {
    const lines: string[] = [];
    const { tracing, close } = await tracingTo({ kind: "stdout", write: (line) => lines.push(line) });
    const end = (kind: "server" | "client", error: unknown) =>
      tracing.startSpan("x", kind, noTrace).end(error);
    end("client", new TypeError("password is s3cr3t"));
    end("server", fault("COMPONENT_UNAVAILABLE", "away", { cause: new Error("s3cr3t") }));
    end("server", invalidRequest({ field: "key", description: "empty" }));
    end("client", invalidRequest({ field: "key", description: "empty" }));
    await close(2000);
    const spans = lines.map((line) => JSON.parse(line));
    expect(spans.map((span) => span.status)).toEqual(["error", "error", "unset", "error"]);
    expect(spans.map((span) => span.attributes["error.type"])).toEqual([
      "TypeError",
      "Unavailable",
      "InvalidArgument",
      "InvalidArgument",
    ]);
    expect(lines.join("")).not.toContain("s3cr3t");
  });

  it("end once", async () => {
    const lines: string[] = [];
    const { tracing, close } = await tracingTo({ kind: "stdout", write: (line) => lines.push(line) });
    const span = tracing.startSpan("x", "server", noTrace);
    span.end();
    span.end(new Error("late"));
    await close(2000);
    expect(lines.length).toBe(1);
    expect(JSON.parse(lines[0]!).status).toBe("unset");
  });
});

describe("a collector that is no use", () => {
  it("is reported once and counted, and no call notices", async () => {
    const collector = await collecting(httpCollector((response) => response.writeHead(400).end()));
    const { tracing, close, metrics, report } = await tracingTo(otlp(collector, "http"), { batchDelayMs: 1 });
    const failed = async () =>
      sampleValue(await metrics.text(), "outrider_tracing_spans_total", {
        exporter: "otlp-http",
        outcome: "failed",
      });
    tracing.startSpan("x", "server", noTrace).end();
    await expect.poll(failed).toBe(1);
    tracing.startSpan("x", "server", noTrace).end();
    await close(2000);
    expect(await failed()).toBe(2);
    expect(report).toHaveBeenCalledTimes(1);
  });

  it.each(["http", "grpc"] as const)(
    "does not hold up a stop for longer than it may (%s)",
    async (protocol) => {
      const silent = await collecting(httpCollector(() => {}));
      const { tracing, close } = await tracingTo(otlp(silent, protocol));
      tracing.startSpan("x", "server", noTrace).end();
      const startedAt = performance.now();
      await close(100);
      expect(performance.now() - startedAt).toBeLessThan(1500);
    },
  );
});

describe("the settings of a collector", () => {
  const settings = (endpointAddress: string, protocol: string, isSecure?: boolean) =>
    otlpOptions({ endpointAddress, protocol, ...(isSecure === undefined ? {} : { isSecure }) });

  it.each([
    ["otel:4318", "http", undefined, "https://otel:4318/v1/traces"],
    ["otel:4318", "http/protobuf", false, "http://otel:4318/v1/traces"],
    ["http://otel:4318", "http", true, "http://otel:4318/v1/traces"],
    ["https://otel/custom/path", "http", false, "https://otel/custom/path"],
  ])("%s over %s, secure %s, mean %s", (address, protocol, isSecure, url) => {
    expect(settings(address, protocol, isSecure)).toMatchObject({ kind: "otlp-http", url });
  });

  it.each([
    ["otel:4317", undefined, { address: "otel:4317", secure: true }],
    ["otel", false, { address: "otel:4317", secure: false }],
    ["http://[::1]:4317", true, { address: "[::1]:4317", secure: false }],
  ])("%s over gRPC, secure %s", (address, isSecure, expected) => {
    expect(settings(address, "grpc", isSecure)).toMatchObject({ kind: "otlp-grpc", ...expected });
  });

  it("are refused with what was expected when they make no sense", () => {
    expect(() => settings("otel:4317", "udp")).toThrow('protocol: expected "grpc" or "http", not "udp"');
    expect(() => settings("", "http")).toThrow("endpointAddress: expected");
    expect(() => settings("no host", "http")).toThrow("endpointAddress: expected");
    expect(() => settings("http://otel:4317/path", "grpc")).toThrow("no path");
  });
});

describe("the telemetry of a sidecar", () => {
  const log = {
    level: "info",
    format: "json",
    secrets: () => new Set<string>(),
    base: { app_id: "orders", instance: "i1" },
  } as const;
  const line: ExporterOptions = { kind: "stdout", write: () => {} };

  it.each([
    ["nothing is configured", undefined],
    ["the sampling ratio is 0", { appId: "a", instanceId: "i", samplingRatio: 0, exporters: [line] }],
    ["spans would go nowhere", { appId: "a", instanceId: "i", samplingRatio: 1, exporters: [] }],
  ] as const)("makes no spans when %s", async (_when, tracing) => {
    const telemetry = await startTelemetry({ log: { ...log, destination: { write: () => {} } }, tracing });
    expect(telemetry.tracing.enabled).toBe(false);
    await telemetry.close(100);
  });

  it("logs that spans cannot be sent, and shows the process in its metrics", async () => {
    const collector = await collecting(httpCollector((response) => response.writeHead(400).end()));
    const lines: string[] = [];
    const telemetry = await startTelemetry({
      log: { ...log, destination: { write: (text) => lines.push(text) } },
      tracing: { appId: "a", instanceId: "i", samplingRatio: 1, exporters: [otlp(collector, "http")] },
    });
    telemetry.tracing.startSpan("x", "server", noTrace).end();
    await telemetry.close(2000);
    expect(JSON.parse(lines[0]!)).toMatchObject({ level: "warn", scope: "tracing", exporter: "otlp-http" });
    expect(await telemetry.metrics.text()).toContain("process_resident_memory_bytes");
  });
});
