/** One server span for each call, over every protocol. */
import { beforeEach, describe, expect, it } from "vitest";
import type { Telemetry } from "../../src/telemetry/telemetry.ts";
import type { Attributes, Span, TraceHeaders, Tracing } from "../../src/telemetry/tracing.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";
import { mountsOf, protocols, Scene, setStage } from "./service.ts";

interface Recorded {
  readonly name: string;
  readonly kind: string;
  readonly parent: TraceHeaders;
  readonly attributes: Record<string, unknown>;
  readonly ends: unknown[];
}

let spans: Recorded[];
let telemetry: Telemetry;
const headers = { traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`, tracestate: "", baggage: "" };
const tracing: Tracing = {
  enabled: true,
  startSpan(name, kind, parent, attributes: Attributes = {}): Span {
    const span: Recorded = { name, kind, parent, attributes: { ...attributes }, ends: [] };
    spans.push(span);
    return {
      headers,
      set: (key, value) => {
        span.attributes[key] = value;
      },
      end: (error) => {
        span.ends.push(error);
      },
    };
  },
};

beforeEach(() => {
  spans = [];
  telemetry = { ...quietTelemetry(), tracing };
});

describe.each(protocols)("$name", (protocol) => {
  it("makes a span under the client's, which the handler's work goes under", async () => {
    const scene = new Scene();
    const stage = await setStage(protocol, mountsOf(scene), { telemetry });
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await stage.state.get({ key: "trace" }, { headers: { traceparent } });
    await stage.server.close(1000);
    expect(scene.trace).toEqual(headers);
    expect(spans).toMatchObject([
      {
        name: "outrider.state.v1.StateService/Get",
        kind: "server",
        parent: { traceparent },
        attributes: {
          "rpc.service": "outrider.state.v1.StateService",
          "rpc.method": "Get",
          "rpc.system": protocol.name.startsWith("gRPC") ? "grpc" : "connect_rpc",
          "rpc.grpc.status_code": 0,
        },
        ends: [undefined],
      },
    ]);
  });

  it("ends it as failed only when the failure is the server's", async () => {
    const stage = await setStage(protocol, mountsOf(new Scene()), { telemetry });
    await expect(stage.state.get({ key: "fault" })).rejects.toThrow();
    await expect(stage.state.get({ key: "bug" })).rejects.toThrow();
    await stage.server.close(1000);
    expect(spans.map(({ attributes, ends }) => [attributes["rpc.grpc.status_code"], ends.length])).toEqual([
      [5, 1],
      [13, 1],
    ]);
    expect(spans.map(({ ends }) => ends[0] === undefined)).toEqual([true, false]);
  });

  it("ends the span of a stream that its client leaves", async () => {
    const stage = await setStage(protocol, mountsOf(new Scene()), { telemetry });
    const leaving = new AbortController();
    const messages = stage.state
      .watch({ selector: { case: "key", value: "idle" } }, { signal: leaving.signal })
      [Symbol.asyncIterator]();
    await messages.next();
    expect(spans.map(({ ends }) => ends.length)).toEqual([0]);
    leaving.abort();
    await expect.poll(() => spans[0]?.ends).toEqual([undefined]);
    expect(spans[0]?.attributes["rpc.grpc.status_code"]).toBe(1);
    await stage.server.close(0);
  });
});
