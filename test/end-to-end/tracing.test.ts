/** One trace through two sidecars, as a collector gets it from the real processes. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeProject, removeProject, SidecarProcess } from "../outrider.ts";
import { type CollectedSpan, type Collector, grpcCollector, httpCollector } from "../telemetry/collector.ts";
import { Application } from "./application.ts";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const clientSpanId = "b7ad6b7169203331";
const headers = {
  traceparent: `00-${traceId}-${clientSpanId}-01`,
  tracestate: "vendor=x",
  baggage: "tenant=acme",
};
const kinds = { server: 2, producer: 4, consumer: 5 };

let cwd: string;
beforeEach(async () => {
  cwd = await makeProject();
});
afterEach(() => removeProject(cwd));

/** Publishes on one sidecar, takes the event on the other and settles it, and stops both. */
async function publishAndTake(options: Parameters<typeof SidecarProcess.start>[0], ...flags: string[]) {
  await using shop = await SidecarProcess.start(options, "--app-id", "shop", ...flags);
  await using stock = await SidecarProcess.start(options, "--app-id", "stock", ...flags);
  using publisher = new Application(shop.grpcPort);
  using subscriber = new Application(stock.grpcPort);
  using stream = subscriber.subscribe([{ topic: "orders" }]);
  await stream.heard("opened");
  const outgoing = { event: { id: "e1", data: Buffer.from("x") } };
  await publisher.pubsub.publish({ topic: "orders", outgoing }, { headers });
  const deliveries = await stream.delivered(1);
  stream.settle(deliveries);
  stream.halfClose();
  expect(await stream.ended).toBeUndefined();
  for (const sidecar of [shop, stock]) {
    sidecar.kill("SIGTERM");
    expect(await sidecar.ended).toEqual({ code: 0, signal: null });
  }
  return { event: deliveries[0]!.event!, logs: shop.stderr + stock.stderr };
}

/** Looks at the whole of it. */
function expectOneTrace(spans: readonly CollectedSpan[], extensions: Readonly<Record<string, string>>) {
  const of = (kind: number) =>
    spans.find((span) => span.traceId === traceId && span.kind === kind && /orders|Publish/.test(span.name))!;
  const [server, producer, consumer] = [of(kinds.server), of(kinds.producer), of(kinds.consumer)];
  expect(server).toMatchObject({
    name: "outrider.pubsub.v1.PubSubService/Publish",
    parentSpanId: clientSpanId,
    resource: { "service.name": "shop" },
    attributes: {
      "rpc.system": "grpc",
      "rpc.service": "outrider.pubsub.v1.PubSubService",
      "rpc.method": "Publish",
      "rpc.grpc.status_code": 0,
    },
  });
  expect(producer).toMatchObject({
    name: "publish orders",
    parentSpanId: server.spanId,
    resource: { "service.name": "shop" },
    attributes: {
      "messaging.system": "outrider",
      "messaging.operation.type": "send",
      "messaging.operation.name": "publish",
      "messaging.destination.name": "orders",
    },
  });
  expect(consumer).toMatchObject({
    name: "process orders",
    parentSpanId: producer.spanId,
    resource: { "service.name": "stock" },
    attributes: {
      "messaging.system": "outrider",
      "messaging.operation.type": "process",
      "messaging.destination.name": "orders",
      "messaging.consumer.group.name": "stock",
      "messaging.message.id": "e1",
      "outrider.outcome": "ack",
    },
  });
  for (const span of [server, producer, consumer]) expect(span.traceState).toBe("vendor=x");
  expect(extensions).toEqual({
    traceparent: `00-${traceId}-${consumer.spanId}-01`,
    tracestate: "vendor=x",
    baggage: "tenant=acme",
  });
}

describe("an event that is published on one sidecar and taken on another", () => {
  it.each([
    ["http", "http/protobuf", httpCollector],
    ["gRPC", "grpc", grpcCollector],
  ] as const)(
    "is one trace from the client's span on, at a collector over %s that the environment names",
    async (_name, protocol, open) => {
      const collector: Collector = await open();
      try {
        const env = {
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}`,
          OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        };
        const { event } = await publishAndTake({ cwd, env });
        expectOneTrace(collector.spans(), event.extensions);
      } finally {
        await collector.close();
      }
    },
  );

  it("is one trace at the collector that a Configuration names", async () => {
    const collector = await grpcCollector();
    try {
      const otel = `{ endpointAddress: "127.0.0.1:${collector.port}", protocol: grpc, isSecure: false }`;
      const config = await configuration(`tracing: { samplingRate: "1", otel: ${otel} }`);
      const { event } = await publishAndTake({ cwd }, "--config", config);
      expectOneTrace(collector.spans(), event.extensions);
    } finally {
      await collector.close();
    }
  });

  it("is one trace in Zipkin, as the configuration of dapr init has it", async () => {
    const collector = await httpCollector((response) => response.writeHead(202).end());
    try {
      const url = `http://127.0.0.1:${collector.port}/api/v2/spans`;
      const config = await configuration(
        `tracing: { samplingRate: "1", zipkin: { endpointAddress: "${url}" } }`,
      );
      const { logs } = await publishAndTake({ cwd }, "--config", config);
      expect(logs).not.toContain("not used yet");
      const spans = collector.requests.flatMap(
        ({ body }) => JSON.parse(body.toString()) as Record<string, unknown>[],
      );
      expect(collector.requests[0]?.path).toBe("/api/v2/spans");
      const [producer, consumer] = ["publish orders", "process orders"].map(
        (name) => spans.find((span) => span["name"] === name)!,
      );
      expect(producer).toMatchObject({ traceId, kind: "PRODUCER", localEndpoint: { serviceName: "shop" } });
      expect(consumer).toMatchObject({ traceId, kind: "CONSUMER", parentId: producer!["id"] });
    } finally {
      await collector.close();
    }
  });

  it("carries the trace and the baggage of its publish unchanged where nothing is traced", async () => {
    const { event } = await publishAndTake({ cwd });
    expect(event.extensions).toEqual(headers);
  });
});

async function configuration(spec: string): Promise<string> {
  const path = join(cwd, "config.yaml");
  const head = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: { name: c }\n";
  await writeFile(path, `${head}spec:\n  ${spec}\n`);
  return path;
}
