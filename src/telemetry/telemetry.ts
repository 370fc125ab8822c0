/** What the runtime says about itself, in the three ways there are. */
import { createLog, type Log, type LogOptions } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { processMetrics } from "./process-metrics.ts";
import { disabledTracing, type Tracing } from "./tracing.ts";
import type { TracingOptions } from "./tracing-options.ts";

/** Passed to whatever measures, traces or logs. */
export interface Telemetry {
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  readonly log: Log;
  /** Undefined: calls are not logged. */
  readonly callLog?: CallLogOptions | undefined;
}

/** A line for each call that ends. */
export interface CallLogOptions {
  /** True: not for those of probes. */
  readonly omitHealthChecks: boolean;
  /** True: of paths over HTTP that are no RPCs, the pattern and not the values in it. Default false. */
  readonly obfuscateUrls?: boolean;
}

/** Telemetry of a running sidecar. */
export interface RunningTelemetry extends Telemetry {
  /** Sends the spans that are left, for at most `timeoutMs`. Closes neither the log's destination nor the metrics. */
  close(timeoutMs: number): Promise<void>;
}

/** What is logged and traced; metrics are always there. */
export interface TelemetryOptions {
  readonly log: LogOptions;
  /** Undefined: no spans. So are a sampling ratio of 0, which is Dapr's "off", and no exporters. */
  readonly tracing: TracingOptions | undefined;
  /** Undefined: calls are not logged. */
  readonly callLog?: CallLogOptions | undefined;
}

/** Makes the telemetry of a sidecar. Throws an Error when the options of an exporter make no sense. */
export async function startTelemetry(options: TelemetryOptions): Promise<RunningTelemetry> {
  const metrics = new Metrics();
  const stopProcessMetrics = processMetrics(metrics);
  const log = createLog(options.log);
  const running = await startTracing(options.tracing, metrics, log);
  return {
    metrics,
    log,
    tracing: running?.tracing ?? disabledTracing,
    callLog: options.callLog,
    async close(timeoutMs) {
      stopProcessMetrics();
      await running?.close(timeoutMs);
    },
  };
}

async function startTracing(options: TracingOptions | undefined, metrics: Metrics, log: Log) {
  if (options === undefined || options.samplingRatio === 0 || options.exporters.length === 0)
    return undefined;
  const { enableTracing } = await import("./otel.ts");
  return enableTracing(options, {
    metrics,
    report: (exporter, err) => log.warn({ scope: "tracing", exporter, err }, "spans could not be sent"),
  });
}
