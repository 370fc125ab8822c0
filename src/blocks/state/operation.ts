/** What is measured and traced of each operation on a store, whatever the store. */
import type { HandlerContext } from "@connectrpc/connect";
import { reasonOf } from "../../faults.ts";
import type { Counter, Histogram } from "../../telemetry/metrics.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { noTrace, type Span, type Tracing, traceOf } from "../../telemetry/tracing.ts";
import type { Call } from "../call.ts";

/** A call to a store. The context of a handler is one, and its trace goes on. */
export type StateCall = Call | (Call & Pick<HandlerContext, "values" | "requestHeader">);

/** The methods of a store. */
export type OperationName =
  | "get"
  | "batch_get"
  | "set"
  | "delete"
  | "transact"
  | "list"
  | "watch"
  | "query"
  | "read"
  | "write";

/** One method of one store. Made once: its handles are kept, and a call that goes well allocates nothing. */
export class Operation {
  readonly name: OperationName;
  readonly #component: string;
  readonly #system: string;
  readonly #tracing: Tracing;
  readonly #counterOf: (outcome: string) => Counter;
  readonly #ok: Counter;
  readonly #failed = new Map<string, Counter>();
  readonly #duration: Histogram;

  /** @param type The component's type, such as "state.redis". */
  constructor(name: OperationName, component: string, type: string, { metrics, tracing }: Telemetry) {
    this.name = name;
    this.#component = component;
    this.#system = type.slice(type.indexOf(".") + 1);
    this.#tracing = tracing;
    const family = metrics.counter("outrider_state_operations_total", "Operations of the state block.", [
      "component",
      "operation",
      "outcome",
    ]);
    this.#counterOf = (outcome) => family.with({ component, operation: name, outcome });
    this.#ok = this.#counterOf("ok");
    this.#duration = metrics
      .histogram("outrider_state_operation_duration_seconds", "How long they took.", [
        "component",
        "operation",
      ])
      .with({ component, operation: name });
  }

  /** A span of a call, where there is tracing. */
  span(call: StateCall, batchSize = 1): Span | undefined {
    if (!this.#tracing.enabled) return undefined;
    const span = this.#tracing.startSpan(
      `${this.name} ${this.#component}`,
      "client",
      "values" in call ? traceOf(call) : noTrace,
      {
        "db.system.name": this.#system,
        "db.operation.name": this.name,
        "db.namespace": this.#component,
        "outrider.component": this.#component,
      },
    );
    if (batchSize > 1) span.set("db.operation.batch.size", batchSize);
    return span;
  }

  /** Counts a call that went well. `startedAt` is what performance.now() said. */
  succeeded(startedAt: number, span: Span | undefined): void {
    this.#ok.add();
    this.#duration.observe((performance.now() - startedAt) / 1000);
    span?.end();
  }

  /** Counts a call that went wrong, by its reason. */
  failed(startedAt: number, span: Span | undefined, error: unknown): void {
    this.#count((reasonOf(error) ?? "failed").toLowerCase());
    this.#duration.observe((performance.now() - startedAt) / 1000);
    span?.end(error);
  }

  /** Counts a stream that its reader left. How long it was read says nothing of the store. */
  left(span: Span | undefined): void {
    this.#count("left");
    span?.end();
  }

  #count(outcome: string): void {
    let counter = this.#failed.get(outcome);
    if (counter === undefined) {
      counter = this.#counterOf(outcome);
      this.#failed.set(outcome, counter);
    }
    counter.add();
  }
}
