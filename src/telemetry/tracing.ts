/**
 * Traces as the runtime sees them: strings that come in, and strings that go out.
 *
 * Nothing here needs an SDK. Without tracing, what a client sends goes on unchanged
 * to whatever is called for it; with tracing, `otel.ts` makes spans of it.
 */
import { type ContextKey, createContextKey, type HandlerContext } from "@connectrpc/connect";

/** W3C Trace Context and Baggage as strings, "" where absent. */
export interface TraceHeaders {
  readonly traceparent: string;
  readonly tracestate: string;
  readonly baggage: string;
}

/** No trace at all. */
export const noTrace: TraceHeaders = Object.freeze({ traceparent: "", tracestate: "", baggage: "" });

/** What a span is to the one it talks to, as OpenTelemetry has it. */
export type SpanKind = "server" | "client" | "producer" | "consumer" | "internal";

/** What a span may say of itself. Names follow OpenTelemetry's semantic conventions. */
export type Attributes = Readonly<Record<string, string | number | boolean>>;

/** Makes spans, or does not. */
export interface Tracing {
  /** False: startSpan returns a span that costs nothing and passes the parent's headers through. */
  readonly enabled: boolean;
  /** Begins a span under `parent`; a root when the parent has no valid traceparent. */
  startSpan(name: string, kind: SpanKind, parent: TraceHeaders, attributes?: Attributes): Span;
}

/** A piece of work with a beginning and an end. */
export interface Span {
  /** Of this span, for what is called under it. */
  readonly headers: TraceHeaders;
  set(key: string, value: string | number | boolean): void;
  /** Ends it, as failed when there is an error. What comes after the first time is passed over. */
  end(error?: unknown): void;
}

/** Where a server leaves the headers of the span that it started for a call. */
export const traceKey: ContextKey<TraceHeaders> = createContextKey(noTrace, {
  description: "trace headers of the call",
});

/** The trace headers of a call: of the RPC span that the server started, else of the request's headers. */
export function traceOf(context: Pick<HandlerContext, "values" | "requestHeader">): TraceHeaders {
  const started = context.values.get(traceKey);
  return started === noTrace ? traceOfHeaders(context.requestHeader) : started;
}

/** Longest traceparent that is looked at, in characters: version 00 has 55, later ones may have more. */
const maxTraceparentLength = 256;
/** Longest tracestate that goes on, in characters, and most members: the least the W3C asks everyone to pass. */
const maxTracestateLength = 512;
const maxTracestateMembers = 32;
/** Longest baggage that goes on, in characters, which are bytes: the W3C's own limit. */
const maxBaggageLength = 8192;

/**
 * The trace headers of a request. What is too long or no valid header counts as absent:
 * a client's broken trace never fails its call. tracestate without a valid traceparent means nothing.
 */
function traceOfHeaders(headers: Headers): TraceHeaders {
  return checkedTrace(
    headers.get("traceparent") ?? "",
    headers.get("tracestate") ?? "",
    headers.get("baggage") ?? "",
  );
}

/** As `traceOfHeaders`, of the three strings; "" where absent. */
export function checkedTrace(traceparent: string, tracestate: string, baggage: string): TraceHeaders {
  if (traceparent === "" && baggage === "") return noTrace;
  const parent = parseTraceparent(traceparent) ? traceparent : "";
  return {
    traceparent: parent,
    tracestate: parent !== "" && validTracestate(tracestate) ? tracestate : "",
    baggage: validBaggage(baggage) ? baggage : "",
  };
}

/** The parts of a traceparent. */
export interface TraceParent {
  /** 32 lowercase hex digits, not all zero. */
  readonly traceId: string;
  /** 16 lowercase hex digits, not all zero. */
  readonly spanId: string;
  readonly sampled: boolean;
}

const traceparentForm =
  /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** Reads a traceparent; undefined when it is none. */
export function parseTraceparent(traceparent: string): TraceParent | undefined {
  if (traceparent.length < 55 || traceparent.length > maxTraceparentLength) return undefined;
  const match = traceparentForm.exec(traceparent);
  // Only later versions than 00 may have more fields than we know.
  if (!match || (match[1] === "00" && match[5] !== undefined)) return undefined;
  return { traceId: match[2]!, spanId: match[3]!, sampled: (Number.parseInt(match[4]!, 16) & 1) === 1 };
}

const tracestateMember =
  /^(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})=[ -+\--<>-~]{0,255}[!-+\--<>-~]$/;

function validTracestate(tracestate: string): boolean {
  if (tracestate === "" || tracestate.length > maxTracestateLength) return false;
  const members = tracestate.split(",").map((member) => member.trim());
  return (
    members.length <= maxTracestateMembers &&
    members.every((member) => member === "" || tracestateMember.test(member))
  );
}

const baggageMember =
  /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+[ \t]*=[ \t]*[!#-+\--:<-[\]-~]*(?:[ \t]*;[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*=[ \t]*[!#-+\--:<-[\]-~]*)?)*$/;

function validBaggage(baggage: string): boolean {
  if (baggage === "" || baggage.length > maxBaggageLength) return false;
  return baggage.split(",").every((member) => baggageMember.test(member.trim()));
}

/** Makes no spans: headers go through. */
export const disabledTracing: Tracing = Object.freeze({
  enabled: false,
  startSpan: (_name: string, _kind: SpanKind, parent: TraceHeaders): Span =>
    parent === noTrace ? noSpan : new PassingSpan(parent),
});

class PassingSpan implements Span {
  readonly headers: TraceHeaders;

  constructor(headers: TraceHeaders) {
    this.headers = headers;
  }

  set(): void {}

  end(): void {}
}

const noSpan: Span = Object.freeze(new PassingSpan(noTrace));
