/** What is counted of a subscription; the handles are made once. */

import type { Counter, Histogram, Metrics } from "../../telemetry/metrics.ts";
import type { Lag } from "./driver.ts";

/** Every way in which a delivery, or an event before its delivery, can end. */
const outcomes = [
  "ack",
  "retry",
  "reject",
  "timeout",
  "abandoned",
  "expired",
  "unrouted",
  "duplicate",
  "dead_lettered",
  "dropped",
] as const;

/** How a delivery ended. */
export type DeliveryOutcome = (typeof outcomes)[number];

/** The counters of one (component, topic, group). */
export interface DeliveryMetrics {
  readonly outcome: Readonly<Record<DeliveryOutcome, Counter>>;
  /** Seconds from hand-out to settlement. */
  readonly duration: Histogram;
  /** Takes the gauges away again. */
  close(): void;
}

/** What the gauges show at a scrape. */
export interface DeliveryGauges {
  inFlight(): number;
  /** Dead letters that the broker does not have yet. */
  lettersWaiting(): number;
  /** Undefined: unknown. */
  lag(): Promise<Lag | undefined>;
}

/** Makes the handles and registers the gauges. */
export function deliveryMetrics(
  metrics: Metrics,
  labels: { readonly component: string; readonly topic: string; readonly group: string },
  gauges: DeliveryGauges,
): DeliveryMetrics {
  const names = ["component", "topic", "group"] as const;
  const counts = metrics.counter("outrider_pubsub_deliveries_total", "Deliveries by how they ended.", [
    ...names,
    "outcome",
  ] as const);
  const inFlight = metrics.gauge(
    "outrider_pubsub_in_flight",
    "Deliveries that the application holds.",
    names,
  );
  const letters = metrics.gauge(
    "outrider_pubsub_dead_letters_waiting",
    "Events given up whose dead letter the broker does not have yet.",
    names,
  );
  const lag = metrics.gauge("outrider_pubsub_lag_events", "Events that the group has not settled.", names);
  const trimmed = metrics.gauge(
    "outrider_pubsub_trimmed_unsettled_events",
    "Events that retention removed before the group had settled them.",
    names,
  );
  const partitions = metrics.gauge(
    "outrider_pubsub_partition_lag_events",
    "Events of a partition that the group has not settled.",
    [...names, "partition"] as const,
  );
  const seen = new Set<string>();
  const partitionLabels = (topic: string, partition: number) => ({
    ...labels,
    topic,
    partition: `${partition}`,
  });
  const remove = metrics.onScrape(async () => {
    inFlight.with(labels).set(gauges.inFlight());
    letters.with(labels).set(gauges.lettersWaiting());
    const behind = await gauges.lag();
    if (!behind) return;
    lag.with(labels).set(behind.events);
    trimmed.with(labels).set(behind.trimmedUnsettled);
    for (const { topic, partition, events } of behind.partitions ?? []) {
      partitions.with(partitionLabels(topic, partition)).set(events);
      seen.add(`${partition} ${topic}`);
    }
  });
  return {
    outcome: Object.fromEntries(
      outcomes.map((outcome) => [outcome, counts.with({ ...labels, outcome })]),
    ) as Record<DeliveryOutcome, Counter>,
    duration: metrics
      .histogram("outrider_pubsub_delivery_duration_seconds", "From hand-out to settlement.", names)
      .with(labels),
    close() {
      remove();
      for (const gauge of [inFlight, letters, lag, trimmed]) gauge.remove(labels);
      for (const one of seen) {
        const space = one.indexOf(" ");
        partitions.remove(partitionLabels(one.slice(space + 1), Number(one.slice(0, space))));
      }
    },
  };
}
