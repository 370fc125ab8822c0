import { Code, ConnectError, createContextValues, createHandlerContext } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { StateService } from "../../gen/outrider/state/v1/state_pb.ts";
import {
  checkedTrace,
  disabledTracing,
  noTrace,
  parseTraceparent,
  traceKey,
  traceOf,
} from "../../src/telemetry/tracing.ts";

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const other = "00-11111111111111111111111111111111-2222222222222222-00";

function contextOf(headers: Record<string, string>) {
  return createHandlerContext({
    service: StateService,
    method: StateService.method.get,
    protocolName: "grpc",
    requestMethod: "POST",
    url: "http://localhost/",
    requestHeader: new Headers(headers),
    contextValues: createContextValues(),
  });
}

describe("without tracing", () => {
  it("a client's headers go on unchanged to what is called for it", () => {
    const headers = {
      traceparent,
      tracestate: "rojo=00f067aa0ba902b7,congo=t61",
      baggage: "user=alice;p=1,x=%20",
    };
    const span = disabledTracing.startSpan("state.get", "server", traceOf(contextOf(headers)), { a: 1 });
    span.set("b", true);
    span.end(new ConnectError("no", Code.Internal));
    expect(span.headers).toEqual(headers);
    expect(disabledTracing.enabled).toBe(false);
  });

  it("there is no trace where the client sent none", () => {
    expect(disabledTracing.startSpan("x", "server", traceOf(contextOf({}))).headers).toBe(noTrace);
  });
});

describe("the trace of a call", () => {
  it("is the server's span, when it started one, and else the client's", () => {
    const context = contextOf({ traceparent });
    expect(traceOf(context).traceparent).toBe(traceparent);
    context.values.set(traceKey, { ...noTrace, traceparent: other });
    expect(traceOf(context).traceparent).toBe(other);
  });
});

describe("a client's trace headers", () => {
  it.each([
    "junk",
    `${traceparent}-extra`,
    traceparent.toUpperCase(),
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
    `01${traceparent.slice(2)}-${"x".repeat(300)}`,
  ])("count as absent when the traceparent is none: %s", (wrong) => {
    expect(checkedTrace(wrong, "a=b", "c=d")).toEqual({ ...noTrace, baggage: "c=d" });
    expect(parseTraceparent(wrong)).toBeUndefined();
  });

  it("may be of a later version, which may say more", () => {
    const later = `01${traceparent.slice(2)}-more`;
    expect(checkedTrace(later, "", "").traceparent).toBe(later);
    expect(parseTraceparent(later)?.sampled).toBe(true);
  });

  const tracestates = {
    full: Array.from({ length: 32 }, (_, index) => `k${index}=v`).join(","),
    longest: `a=${"x".repeat(255)},b=${"x".repeat(252)}`,
  };

  it.each(["rojo=1", "t@v=1, a=b", "a=b,,c=d", ...Object.values(tracestates)])(
    "keep the tracestate %s",
    (state) => {
      expect(checkedTrace(traceparent, state, "").tracestate).toBe(state);
    },
  );

  it.each(["nothing", "A=b", "a=b\u0000", `${tracestates.full},k32=v`, `${tracestates.longest}x`, "a=ä"])(
    "lose the tracestate %s, and nothing else",
    (state) => {
      expect(checkedTrace(traceparent, state, "c=d")).toEqual({
        traceparent,
        tracestate: "",
        baggage: "c=d",
      });
    },
  );

  it.each(["a=b", "a = b ; p ; q=1 , c=", "a=%C3%A4", `a=${"x".repeat(8190)}`])(
    "keep the baggage %s",
    (baggage) => {
      expect(checkedTrace("", "", baggage).baggage).toBe(baggage);
    },
  );

  it.each(["nothing", "a b=c", 'a="b"', "a=b\nc", "a=ä", "a=b,,c=d", `a=${"x".repeat(8191)}`])(
    "lose the baggage %s, and nothing else",
    (baggage) => {
      expect(checkedTrace(traceparent, "", baggage)).toEqual({ traceparent, tracestate: "", baggage: "" });
    },
  );
});
