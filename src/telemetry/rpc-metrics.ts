/** The measures of a server's methods: the same names on every port. */
import type { Counter, Metrics } from "./metrics.ts";

/** The measures of one method: made once, used for each call. */
export interface RpcMetrics {
  /** Counts a call in; returns what `end` needs. */
  begin(): number;
  /** Counts it out. `code` is a gRPC status code, 0 for OK. */
  end(startedAt: number, code: number): void;
}

/** gRPC's names of its status codes, by number. */
export const codeNames: readonly string[] = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

/** The measures of a method, such as `rpcMetrics(metrics, "outrider.state.v1.StateService", "Get")`. */
export function rpcMetrics(metrics: Metrics, service: string, method: string): RpcMetrics {
  const requests = metrics.counter("outrider_rpc_requests_total", "Calls that ended, by gRPC status code.", [
    "service",
    "method",
    "code",
  ]);
  const labels = { service, method };
  const duration = metrics
    .histogram("outrider_rpc_duration_seconds", "How long calls took, streams from open to end.", [
      "service",
      "method",
    ])
    .with(labels);
  const inFlight = metrics
    .gauge("outrider_rpc_in_flight", "Calls that have not ended.", ["service", "method"])
    .with(labels);
  const byCode: (Counter | undefined)[] = new Array(codeNames.length).fill(undefined);
  return {
    begin() {
      inFlight.add(1);
      return performance.now();
    },
    end(startedAt, code) {
      inFlight.add(-1);
      duration.observe((performance.now() - startedAt) / 1000);
      const known = codeNames[code] === undefined ? 2 : code;
      let counter = byCode[known];
      if (counter === undefined) {
        counter = requests.with({ service, method, code: codeNames[known]! });
        byCode[known] = counter;
      }
      counter.add();
    },
  };
}
