/** Errors of drivers, made faults: the one place. */
import { Code, ConnectError } from "@connectrpc/connect";
import { fault, reasonOf } from "../../faults.ts";
import type { Call } from "../call.ts";
import type { StateDriver } from "./driver.ts";
import { EtagMismatch, PositionExpired, ValueChanged } from "./driver.ts";
import { DecryptionFailed } from "./encryption.ts";

/** How long a client waits before it tries again, when the store does not say, in milliseconds. */
const retryAfterMs = 1000;

/**
 * The fault that an error becomes. `keyOf` takes the prefix off a key. Without
 * a driver the error is not of a driver, and a fault already.
 */
export function failureOf(
  error: unknown,
  component: string,
  driver: StateDriver | undefined,
  call: Call,
  keyOf: (stored: string) => string,
): ConnectError {
  if (error instanceof ConnectError && reasonOf(error) !== undefined) return error;
  const metadata = { component };
  if (error instanceof EtagMismatch) {
    const key = keyOf(error.key);
    return fault("ETAG_MISMATCH", `the precondition of the write of "${key}" is not met`, {
      metadata: { component, key },
      cause: error,
    });
  }
  if (error instanceof DecryptionFailed) {
    const message = `state store "${component}" cannot decrypt: ${error.message}`;
    return fault("COMPONENT_FAILED", message, { metadata, cause: error });
  }
  if (error instanceof PositionExpired) {
    const message =
      "the store no longer knows what changed after the position: start again without resume_after";
    return fault("POSITION_EXPIRED", message, { metadata, cause: error });
  }
  if (error instanceof ValueChanged) {
    const message = "the item was overwritten while it was being read: read it again";
    return fault("VALUE_CHANGED", message, { metadata, cause: error });
  }
  const kind = driver?.classify(error);
  if (kind === "cancelled" || (kind === undefined && call.signal.aborted))
    return ended(error, call, metadata);
  // A stream of requests may fail with an error of its own, which says what it is.
  if (error instanceof ConnectError) return error;
  if (kind === "unavailable") {
    return fault("COMPONENT_UNAVAILABLE", `state store "${component}" is not available`, {
      metadata,
      retryAfterMs,
      cause: error,
    });
  }
  return fault("COMPONENT_FAILED", `state store "${component}" failed`, { metadata, cause: error });
}

/** Why the call ended before the store answered, as its signal says. */
function ended(error: unknown, call: Call, metadata: Record<string, string>): ConnectError {
  const reason: unknown = call.signal.aborted ? call.signal.reason : error;
  if (reasonOf(reason) !== undefined) return reason as ConnectError;
  const code = reason instanceof ConnectError ? reason.code : undefined;
  if (code === Code.DeadlineExceeded || (reason instanceof Error && reason.name === "TimeoutError")) {
    return fault("DEADLINE_EXCEEDED", "the deadline passed before the store answered", {
      metadata,
      cause: error,
    });
  }
  if (code === Code.Unavailable) {
    return fault("SHUTTING_DOWN", "the sidecar is going away", { metadata, retryAfterMs, cause: error });
  }
  return fault("CANCELLED", "the call ended before the store answered", { metadata, cause: error });
}
