/** Counts the error codes that clients get over HTTP, as Dapr does where a Configuration asks for it. */
import { componentStatusOf } from "../../blocks/component-status.ts";
import type { Counter, Family, Metrics } from "../../telemetry/metrics.ts";
import { DaprError } from "./errors.ts";

/** Which codes are of which building block, by their beginnings. */
const categories: readonly (readonly [beginning: string, category: string])[] = [
  ["ERR_STATE_", "state"],
  ["ERR_PUBSUB_", "pubsub"],
  ["ERR_TOPIC_", "pubsub"],
  ["ERR_SECRET_", "secret"],
  ["ERR_DIRECT_INVOKE", "service-invocation"],
];

/** See the head of this file. */
export class ErrorCodes {
  readonly #family: Family<Counter, "app_id" | "category" | "error_code">;
  readonly #appId: string;

  constructor(metrics: Metrics, appId: string) {
    this.#appId = appId;
    this.#family = metrics.counter(
      "dapr_error_code_total",
      "Errors of Dapr's HTTP API, by their code; only with recordErrorCodes.",
      ["app_id", "category", "error_code"],
    );
  }

  /** Counts what a route threw. Codes that a component has made up are not counted: there may be any number. */
  count(error: unknown): void {
    if (!(error instanceof DaprError)) return;
    const { errorCode } = error.kind;
    if (componentStatusOf(error)?.asked?.tag === errorCode) return;
    const category = categories.find(([beginning]) => errorCode.startsWith(beginning))?.[1] ?? "common";
    this.#family.with({ app_id: this.#appId, category, error_code: errorCode }).add();
  }
}
