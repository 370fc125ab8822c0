/**
 * Spans through OpenTelemetry's SDK. Loaded only when tracing is configured:
 * the SDK costs start-up time and memory that nobody else should pay.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import * as api from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import { endedWithin } from "../ended-within.ts";
import type { Counter, Metrics } from "./metrics.ts";
import {
  type Attributes,
  checkedTrace,
  parseTraceparent,
  type Span,
  type SpanKind,
  type TraceHeaders,
  type Tracing,
} from "./tracing.ts";
import type { ExporterOptions, TracingOptions } from "./tracing-options.ts";

/** Spans that wait to be sent; more are dropped. */
const maxQueuedSpans = 8192;

/** Characters of an attribute's value; the rest is cut off. */
const maxAttributeLength = 1024;

/** Tracing that sends spans away. */
export interface RunningTracing {
  readonly tracing: Tracing;
  /** Sends what is left, for at most `timeoutMs`. Spans that end later are not sent. */
  close(timeoutMs: number): Promise<void>;
}

/** What tracing needs beside its options. */
export interface TracingContext {
  readonly metrics: Metrics;
  /** Told when spans could not be sent: when it begins, and once a minute while it goes on. */
  readonly report: (exporter: string, error: unknown) => void;
}

/** Starts to trace. Throws an Error when an exporter's options make no sense. Connects to nothing yet. */
export async function enableTracing(
  options: TracingOptions,
  context: TracingContext,
): Promise<RunningTracing> {
  const sent = context.metrics.counter(
    "outrider_tracing_spans_total",
    "Spans handed to an exporter, by what became of them.",
    ["exporter", "outcome"],
  );
  const exporters: SpanExporter[] = [];
  for (const settings of options.exporters) {
    const labels = { exporter: settings.kind };
    exporters.push(
      new ReportingExporter(
        await openExporter(settings, options),
        sent.with({ ...labels, outcome: "sent" }),
        sent.with({ ...labels, outcome: "failed" }),
        (error) => context.report(settings.kind, error),
      ),
    );
  }
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      "service.name": options.appId,
      "service.instance.id": options.instanceId,
      ...options.resourceAttributes,
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(options.samplingRatio) }),
    spanLimits: { attributeValueLengthLimit: maxAttributeLength },
    spanProcessors: exporters.map(
      (exporter) =>
        new BatchSpanProcessor({
          exporter,
          maxQueueSize: maxQueuedSpans,
          scheduledDelayMillis: options.batchDelayMs ?? 5000,
        }),
    ),
  });
  return {
    tracing: new OtelTracing(provider.getTracer("outrider")),
    // What fails here has been counted and reported by the exporter.
    close: (timeoutMs) => endedWithin(provider.shutdown(), timeoutMs),
  };
}

async function openExporter(settings: ExporterOptions, options: TracingOptions): Promise<SpanExporter> {
  switch (settings.kind) {
    case "otlp-http": {
      const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-proto");
      const { url, headers, timeoutMs } = settings;
      return new OTLPTraceExporter({ url, headers: { ...headers }, timeoutMillis: timeoutMs });
    }
    case "otlp-grpc": {
      const { OtlpGrpcExporter } = await import("./otlp-grpc.ts");
      return new OtlpGrpcExporter(settings);
    }
    case "zipkin": {
      const { ZipkinExporter } = await import("./zipkin.ts");
      return new ZipkinExporter(settings, options.appId);
    }
    case "stdout": {
      const { LineExporter } = await import("./span-lines.ts");
      return new LineExporter(settings.write);
    }
  }
}

const reportEveryMs = 60_000;

/** Counts what an exporter sends, and tells somebody when it cannot: the SDK keeps that to itself. */
class ReportingExporter implements SpanExporter {
  readonly #exporter: SpanExporter;
  readonly #sent: Counter;
  readonly #failed: Counter;
  readonly #report: (error: unknown) => void;
  #reportedAt = Number.NEGATIVE_INFINITY;

  constructor(exporter: SpanExporter, sent: Counter, failed: Counter, report: (error: unknown) => void) {
    this.#exporter = exporter;
    this.#sent = sent;
    this.#failed = failed;
    this.#report = report;
  }

  export(...[spans, done]: Parameters<SpanExporter["export"]>): void {
    this.#exporter.export(spans, (result) => {
      if (result.code === 0) {
        this.#sent.add(spans.length);
        this.#reportedAt = Number.NEGATIVE_INFINITY;
      } else {
        this.#failed.add(spans.length);
        if (performance.now() - this.#reportedAt >= reportEveryMs) {
          this.#reportedAt = performance.now();
          this.#report(result.error);
        }
      }
      done(result);
    });
  }

  forceFlush(): Promise<void> {
    return this.#exporter.forceFlush?.() ?? Promise.resolve();
  }

  shutdown(): Promise<void> {
    return this.#exporter.shutdown();
  }
}

const kinds: Record<SpanKind, api.SpanKind> = {
  internal: api.SpanKind.INTERNAL,
  server: api.SpanKind.SERVER,
  client: api.SpanKind.CLIENT,
  producer: api.SpanKind.PRODUCER,
  consumer: api.SpanKind.CONSUMER,
};

class OtelTracing implements Tracing {
  readonly enabled = true;
  readonly #tracer: api.Tracer;

  constructor(tracer: api.Tracer) {
    this.#tracer = tracer;
  }

  startSpan(name: string, kind: SpanKind, parent: TraceHeaders, attributes?: Attributes): Span {
    const { traceparent, tracestate, baggage } = checkedTrace(
      parent.traceparent,
      parent.tracestate,
      parent.baggage,
    );
    const remote = parseTraceparent(traceparent);
    const context = remote
      ? api.trace.setSpanContext(api.ROOT_CONTEXT, {
          traceId: remote.traceId,
          spanId: remote.spanId,
          traceFlags: remote.sampled ? api.TraceFlags.SAMPLED : api.TraceFlags.NONE,
          isRemote: true,
          ...(tracestate === "" ? {} : { traceState: api.createTraceState(tracestate) }),
        })
      : api.ROOT_CONTEXT;
    const span = this.#tracer.startSpan(
      name,
      { kind: kinds[kind], ...(attributes && { attributes }) },
      context,
    );
    return new OtelSpan(span, kind, tracestate, baggage);
  }
}

/** The codes that are a server's fault, by OpenTelemetry's convention; others are the caller's. */
const serverFaults: readonly Code[] = [
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
];

class OtelSpan implements Span {
  readonly headers: TraceHeaders;
  readonly #span: api.Span;
  readonly #kind: SpanKind;

  constructor(span: api.Span, kind: SpanKind, tracestate: string, baggage: string) {
    const { traceId, spanId, traceFlags } = span.spanContext();
    this.headers = {
      traceparent: `00-${traceId}-${spanId}-${traceFlags & api.TraceFlags.SAMPLED ? "01" : "00"}`,
      tracestate,
      baggage,
    };
    this.#span = span;
    this.#kind = kind;
  }

  set(key: string, value: string | number | boolean): void {
    this.#span.setAttribute(key, value);
  }

  end(error?: unknown): void {
    if (error !== undefined) this.#fail(error);
    this.#span.end();
  }

  /** Says no more than a client is told: messages of other errors may hold secrets. The log has them. */
  #fail(error: unknown): void {
    if (error instanceof ConnectError) {
      this.#span.setAttribute("error.type", Code[error.code]);
      if (this.#kind === "server" && !serverFaults.includes(error.code)) return;
      this.#span.setStatus({ code: api.SpanStatusCode.ERROR, message: error.rawMessage });
    } else {
      this.#span.setAttribute("error.type", error instanceof Error ? error.name : "_OTHER");
      this.#span.setStatus({ code: api.SpanStatusCode.ERROR });
    }
  }
}
