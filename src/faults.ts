/**
 * Every error that this runtime gives a client, in one table.
 *
 * A fault is a ConnectError with a google.rpc.ErrorInfo, so that each server
 * can encode it. Anything else that a handler throws is a defect: clients see
 * "internal error", the log sees the cause.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import { badRequest, errorInfo, retryInfo } from "./protobuf/error-details.ts";

/** `ErrorInfo.domain` of every fault. */
const faultDomain = "outrider.dev";

/** Every reason, and the gRPC code that goes with it. Public: add, never rename. */
export const faultCodes = {
  /** No component of this block has the name that the request gives. */
  COMPONENT_NOT_FOUND: Code.NotFound,
  /** The component cannot serve now: it is being opened, or its server is away. */
  COMPONENT_UNAVAILABLE: Code.Unavailable,
  /** The component refused or failed in a way that trying again will not mend. */
  COMPONENT_FAILED: Code.Internal,
  /** A field of the request is wrong; BadRequest says which. */
  INVALID_REQUEST: Code.InvalidArgument,
  /** The component lacks the capability that the request needs. */
  NOT_SUPPORTED: Code.Unimplemented,
  /** A write's precondition is not met. */
  ETAG_MISMATCH: Code.Aborted,
  /** The value does not fit in one message; there is a streaming method for it. */
  VALUE_TOO_LARGE: Code.FailedPrecondition,
  /** The value was overwritten while it was being read. */
  VALUE_CHANGED: Code.Aborted,
  /** The position is older than what the store remembers. */
  POSITION_EXPIRED: Code.OutOfRange,
  /** Streams of one group disagree about the options they share. */
  SUBSCRIPTION_CONFLICT: Code.FailedPrecondition,
  /** No subscription of that id is open on the stream, or none of that name is declared. */
  UNKNOWN_SUBSCRIPTION: Code.NotFound,
  /** No such delivery is held on the stream. */
  UNKNOWN_DELIVERY: Code.NotFound,
  /** The component's scopes keep this application from the topic. */
  TOPIC_FORBIDDEN: Code.PermissionDenied,
  /** A message, or what would have to be held for it, is over a limit. */
  TOO_LARGE: Code.ResourceExhausted,
  /** The server has as many streams open as it may. */
  TOO_MANY_STREAMS: Code.ResourceExhausted,
  /** The server takes calls with an API token only, and there is none or another. */
  UNAUTHENTICATED: Code.Unauthenticated,
  /** The sidecar is going away. */
  SHUTTING_DOWN: Code.Unavailable,
  /** The call's deadline passed first. */
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  /** The client ended the call first. */
  CANCELLED: Code.Canceled,
} as const satisfies Record<string, Code>;

/** A key of `faultCodes`: `ErrorInfo.reason` on the wire. */
export type Reason = keyof typeof faultCodes;

/** One field at fault, as in google.rpc.BadRequest. */
export interface Violation {
  /** The path of the field, as in `writes[2].set.key`. */
  readonly field: string;
  /** What was expected, as a sentence without the field's name. */
  readonly description: string;
}

/** What a fault carries beside its sentence. */
export interface FaultDetails {
  /** `ErrorInfo.metadata`: lowerCamelCase keys, no secrets. */
  readonly metadata?: Record<string, string>;
  /** google.rpc.BadRequest. */
  readonly violations?: readonly Violation[];
  /** google.rpc.RetryInfo: how long to wait before trying again, in milliseconds. */
  readonly retryAfterMs?: number;
  /** Logged here, never sent. */
  readonly cause?: unknown;
}

class Fault extends ConnectError {
  readonly reason: Reason;

  /** ConnectError's own says yes to every ConnectError. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof ConnectError && "reason" in value;
  }

  constructor(reason: Reason, message: string, details: FaultDetails) {
    // Half of a surrogate pair, from a key or a topic that is quoted, cannot be sent.
    super(message.toWellFormed(), faultCodes[reason], undefined, undefined, details.cause);
    this.reason = reason;
    const { metadata = {}, violations, retryAfterMs } = details;
    this.details.push(errorInfo(reason, faultDomain, metadata));
    if (violations) this.details.push(badRequest(violations));
    if (retryAfterMs !== undefined) this.details.push(retryInfo(retryAfterMs));
  }
}

/** Makes the one kind of error that a handler throws. */
export function fault(reason: Reason, message: string, details: FaultDetails = {}): ConnectError {
  return new Fault(reason, message, details);
}

/** The fault for a request with fields that make no sense. */
export function invalidRequest(...violations: readonly Violation[]): ConnectError {
  const message = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
  return fault("INVALID_REQUEST", message, { violations });
}

/** The reason of a fault that was made here; undefined for anything else, also for a fault that another process sent. */
export function reasonOf(error: unknown): Reason | undefined {
  return error instanceof Fault ? error.reason : undefined;
}
