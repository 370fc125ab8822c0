/** What the runtime says about itself, in the three ways there are. */
import { type Log, silentLog } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { disabledTracing, type Tracing } from "./tracing.ts";

/** Passed to whatever measures, traces or logs. */
export interface Telemetry {
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  readonly log: Log;
}

/** Metrics that nobody scrapes, no traces, a silent log: for tests. */
export function quietTelemetry(): Telemetry {
  return { metrics: new Metrics(), tracing: disabledTracing, log: silentLog() };
}
