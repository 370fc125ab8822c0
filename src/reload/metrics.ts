/** What is counted of changes of the YAML. */
import type { Counter, Family, Gauge, Metrics } from "../telemetry/metrics.ts";

/** See the head of this file. */
export class ReloadMetrics {
  readonly #reloads: Family<Counter, "outcome">;
  readonly #successful: Gauge;
  readonly #appliedAt: Gauge;

  /** What is in force at the start counts as applied. */
  constructor(metrics: Metrics) {
    this.#reloads = metrics.counter(
      "outrider_config_reloads_total",
      "Times that the YAML was read again, by outcome.",
      ["outcome"],
    );
    for (const outcome of ["applied", "refused"]) this.#reloads.with({ outcome }).add(0);
    this.#successful = metrics
      .gauge(
        "outrider_config_last_reload_successful",
        "Whether the YAML as it was read last is in force.",
        [],
      )
      .with({});
    this.#appliedAt = metrics
      .gauge(
        "outrider_config_applied_timestamp_seconds",
        "When the YAML that is in force was read, in seconds since 1970.",
        [],
      )
      .with({});
    this.#successful.set(1);
    this.#appliedAt.set(Date.now() / 1000);
  }

  applied(atMs: number): void {
    this.#reloads.with({ outcome: "applied" }).add();
    this.#successful.set(1);
    this.#appliedAt.set(atMs / 1000);
  }

  refused(): void {
    this.#reloads.with({ outcome: "refused" }).add();
    this.#successful.set(0);
  }
}
