/** Sends spans to Zipkin. It is where the configuration that `dapr init` writes sends them. */
import { type HrTime, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import type { ReadableSpan, SpanExporter } from "@opentelemetry/sdk-trace";
import type { ZipkinOptions } from "./tracing-options.ts";

const kindNames: Partial<Record<SpanKind, string>> = {
  [SpanKind.SERVER]: "SERVER",
  [SpanKind.CLIENT]: "CLIENT",
  [SpanKind.PRODUCER]: "PRODUCER",
  [SpanKind.CONSUMER]: "CONSUMER",
};

/** Zipkin's JSON, version 2. */
export class ZipkinExporter implements SpanExporter {
  readonly #url: string;
  readonly #timeoutMs: number;
  readonly #appId: string;
  readonly #sending = new Set<Promise<void>>();

  /** Throws a TypeError when the URL is none. */
  constructor(options: ZipkinOptions, appId: string) {
    this.#url = new URL(options.url).href;
    this.#timeoutMs = options.timeoutMs;
    this.#appId = appId;
  }

  export(...[spans, done]: Parameters<SpanExporter["export"]>): void {
    const sending = this.#send(spans)
      .then(
        () => done({ code: 0 }),
        (error: unknown) =>
          done({ code: 1, error: error instanceof Error ? error : new Error(String(error)) }),
      )
      .finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  async shutdown(): Promise<void> {
    await Promise.all(this.#sending);
  }

  async #send(spans: readonly ReadableSpan[]): Promise<void> {
    const response = await fetch(this.#url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(spans.map((span) => zipkinSpan(span, this.#appId))),
      signal: AbortSignal.timeout(this.#timeoutMs),
    });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`Zipkin answered ${response.status}`);
  }
}

function zipkinSpan(span: ReadableSpan, appId: string): Record<string, unknown> {
  const { traceId, spanId } = span.spanContext();
  const kind = kindNames[span.kind];
  const service = span.resource.attributes["service.name"];
  const tags = Object.fromEntries(
    Object.entries(span.attributes).map(([key, value]) => [key, String(value)]),
  );
  if (span.status.code === SpanStatusCode.ERROR) tags["error"] = span.status.message ?? "true";
  return {
    traceId,
    id: spanId,
    ...(span.parentSpanContext && { parentId: span.parentSpanContext.spanId }),
    name: span.name,
    ...(kind && { kind }),
    timestamp: microseconds(span.startTime),
    // Zipkin takes 0 for "unknown".
    duration: Math.max(1, microseconds(span.duration)),
    localEndpoint: { serviceName: typeof service === "string" ? service : appId },
    tags,
  };
}

function microseconds([seconds, nanoseconds]: HrTime): number {
  return seconds * 1_000_000 + Math.round(nanoseconds / 1000);
}
