/** Calls that failed are made again: how often, and after which waits. */
import type { StatusCodes } from "./status-codes.ts";

/** A retry policy, with Dapr's defaults in. */
export interface RetrySettings {
  /** Constant: the same wait before each. Exponential: longer each time. */
  readonly policy: "constant" | "exponential";
  /** Before the first retry, in milliseconds. */
  readonly durationMs: number;
  /** The longest wait, in milliseconds. */
  readonly maxIntervalMs: number;
  /** Infinity: without end. */
  readonly maxRetries: number;
  /** Which failures, by their status, are worth it; undefined: all, as are those without a status. */
  readonly matching?: RetryMatching | undefined;
}

/** See `RetrySettings.matching`; undefined: every status of the protocol. */
export interface RetryMatching {
  readonly http?: StatusCodes | undefined;
  readonly grpc?: StatusCodes | undefined;
}

/** As in Dapr: each wait is half as long again. */
const growth = 1.5;
/** As in Dapr: waits that grow are up to so much shorter or longer. */
const jitter = 0.5;
/** As in Dapr: how long waits that grow go on, in milliseconds. */
const exponentialForMs = 15 * 60_000;

/** How long to wait before a retry, 1 for the first, in milliseconds; undefined: it is not to be made. */
export function waitBefore(
  retry: number,
  { policy, durationMs, maxIntervalMs, maxRetries }: RetrySettings,
  elapsedMs: number,
): number | undefined {
  if (retry > maxRetries) return undefined;
  if (policy === "constant") return durationMs;
  if (elapsedMs > exponentialForMs) return undefined;
  const waitMs = Math.min(durationMs * growth ** (retry - 1), maxIntervalMs);
  return waitMs * (1 - jitter + Math.random() * 2 * jitter);
}
