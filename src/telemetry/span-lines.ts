/** Writes spans as lines of JSON, for `stdout: true`: to look at, not to keep. */
import { type HrTime, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import type { ReadableSpan, SpanExporter } from "@opentelemetry/sdk-trace";

/** One object a line, with `type: "span"`. */
export class LineExporter implements SpanExporter {
  readonly #write: (line: string) => void;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  export(...[spans, done]: Parameters<SpanExporter["export"]>): void {
    for (const span of spans) this.#write(`${JSON.stringify(spanLine(span))}\n`);
    done({ code: 0 });
  }

  async shutdown(): Promise<void> {}
}

function spanLine(span: ReadableSpan): Record<string, unknown> {
  const { traceId, spanId } = span.spanContext();
  return {
    type: "span",
    time: new Date(milliseconds(span.startTime)).toISOString(),
    name: span.name,
    kind: SpanKind[span.kind].toLowerCase(),
    trace_id: traceId,
    span_id: spanId,
    ...(span.parentSpanContext && { parent_span_id: span.parentSpanContext.spanId }),
    duration_ms: milliseconds(span.duration),
    status: SpanStatusCode[span.status.code].toLowerCase(),
    ...(span.status.message !== undefined && { status_message: span.status.message }),
    attributes: span.attributes,
  };
}

function milliseconds([seconds, nanoseconds]: HrTime): number {
  return seconds * 1000 + nanoseconds / 1e6;
}
