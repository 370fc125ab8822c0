/** Deadlines as clients send them. */
import { longestTimerMs } from "../timer.ts";

/** The longest deadline that a timer can keep, in milliseconds. A longer one counts as none. */
export const longestTimeoutMs = longestTimerMs;

const unitsMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/** The value of a `grpc-timeout` header in milliseconds; NaN when it is none. */
export function timeoutMsOf(header: string): number {
  return Number(header.slice(0, -1)) * (unitsMs[header.slice(-1)] ?? Number.NaN);
}
