/** What is counted of publishing and delivering, under the names that Dapr has. */
import type { Counter, Family, Metrics } from "../../telemetry/metrics.ts";

type EgressLabel = "app_id" | "component" | "namespace" | "success" | "topic";
type IngressLabel = "app_id" | "component" | "namespace" | "process_status" | "status" | "topic";

const egressLabels = ["app_id", "component", "namespace", "success", "topic"] as const;
const ingressLabels = ["app_id", "component", "namespace", "process_status", "status", "topic"] as const;

/** Topics whose counters are kept at hand. */
const maxKnownTopics = 1000;

/** See the head of this file. */
export class DaprPubSubMetrics {
  readonly #egress: Family<Counter, EgressLabel>;
  readonly #egressBulk: Family<Counter, EgressLabel>;
  readonly #ingress: Family<Counter, IngressLabel>;
  readonly #published = new Map<string, Counter>();
  readonly #common: { readonly app_id: string; readonly namespace: string };

  constructor(metrics: Metrics, appId: string, namespace: string) {
    this.#common = { app_id: appId, namespace };
    this.#egress = metrics.counter(
      "dapr_component_pubsub_egress_count",
      "Events published by Dapr's API, by outcome.",
      egressLabels,
    );
    this.#egressBulk = metrics.counter(
      "dapr_component_pubsub_egress_bulk_count",
      "Bulk publishes by Dapr's API, by outcome.",
      egressLabels,
    );
    this.#ingress = metrics.counter(
      "dapr_component_pubsub_ingress_count",
      "Events that an application that listens has answered, by its answer.",
      ingressLabels,
    );
  }

  /** A publish of one event, or of several at once. */
  published(component: string, topic: string, bulk: boolean, success: boolean): void {
    const key = `${bulk ? "bulk" : "one"} ${success}\n${component}\n${topic}`;
    let counter = this.#published.get(key);
    if (!counter) {
      const family = bulk ? this.#egressBulk : this.#egress;
      counter = family.with({ ...this.#common, component, success: String(success), topic });
      if (this.#published.size < maxKnownTopics) this.#published.set(key, counter);
    }
    counter.add();
  }

  /** Counters of a subscription's events, by the application's answer. */
  deliveries(component: string, topic: string): Readonly<Record<"success" | "retry" | "drop", Counter>> {
    const counter = (outcome: "success" | "retry" | "drop") => {
      const status = outcome === "drop" ? "success" : outcome;
      return this.#ingress.with({ ...this.#common, component, process_status: outcome, status, topic });
    };
    return { success: counter("success"), retry: counter("retry"), drop: counter("drop") };
  }
}
