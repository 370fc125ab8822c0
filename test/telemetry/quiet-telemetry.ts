/** Telemetry of tests that look at none of it. */
import { pino } from "pino";
import type { Log } from "../../src/telemetry/log.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import type { Telemetry } from "../../src/telemetry/telemetry.ts";
import { disabledTracing } from "../../src/telemetry/tracing.ts";

/** A log that nobody reads. */
export function silentLog(): Log {
  return pino({ level: "silent" }, { write: () => {} });
}

/** Metrics that nobody scrapes, no traces, a silent log. */
export function quietTelemetry(): Telemetry {
  return { metrics: new Metrics(), tracing: disabledTracing, log: silentLog() };
}
