/** Any error into the one that clients may see. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Log } from "../telemetry/log.ts";

/** The codes that mean that something is wrong here, and not with the request. */
const defects: ReadonlySet<Code> = new Set([Code.Unknown, Code.Internal, Code.DataLoss]);

/** Whether an error with this code is the server's own failure, as OpenTelemetry counts them. */
export function isServerFailure(code: number): boolean {
  return (
    defects.has(code) ||
    code === Code.DeadlineExceeded ||
    code === Code.Unimplemented ||
    code === Code.Unavailable
  );
}

/**
 * Makes what a handler threw fit to be sent. A fault stays what it is, and its cause goes to the
 * log; anything else becomes "internal error", and goes to the log as a whole.
 *
 * `rpc` is the method's full name, for the log.
 */
export function errorForClient(thrown: unknown, rpc: string, log: Log): ConnectError {
  if (!(thrown instanceof ConnectError)) {
    log.error({ err: thrown, rpc }, "a call failed for a reason that is not told to its client");
    return new ConnectError("internal error", Code.Internal);
  }
  if (thrown.cause !== undefined) {
    const level = defects.has(thrown.code) ? "error" : "debug";
    log[level]({ err: thrown.cause, rpc, code: Code[thrown.code] }, thrown.rawMessage);
  }
  return thrown.rawMessage.isWellFormed() ? thrown : wellFormed(thrown);
}

/** Half of a surrogate pair, from a key or a topic that is quoted, cannot be sent. */
function wellFormed({ rawMessage, code, metadata, details }: ConnectError): ConnectError {
  const error = new ConnectError(rawMessage.toWellFormed(), code, metadata);
  error.details = details;
  return error;
}
