/** What goes wrong with a Kafka cluster, whichever client library found it. */
import type { ErrorClass } from "../../blocks/call.ts";

/** An error of the broker, of the way to it, or of what it was asked for. */
export class KafkaError extends Error {
  override readonly name = "KafkaError";
  readonly kind: ErrorClass;
  /** Kafka's own name of the error, such as "NOT_LEADER_OR_FOLLOWER"; "" for what no broker said. */
  readonly code: string;

  constructor(kind: ErrorClass, message: string, code = "", cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
    this.code = code;
  }
}

/** How the block is to treat an error; undefined when this driver did not throw it. */
export function classify(error: unknown): ErrorClass | undefined {
  return error instanceof KafkaError ? error.kind : undefined;
}

/** Whether an error has one of these codes. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof KafkaError && codes.includes(error.code);
}

/** The error for a call whose signal aborted. */
export function cancelled(signal: AbortSignal): KafkaError {
  return new KafkaError("cancelled", "the call ended before the broker answered", "", signal.reason);
}

/** The code of events whose time is too far from the broker's. */
export const invalidTimestampCode = "INVALID_TIMESTAMP";

/** The code of events that are larger than the component or the topic takes. */
export const tooLargeCode = "MESSAGE_TOO_LARGE";

/** What the broker says and waiting mends: another node leads now, a coordinator moves, replicas are away. */
const passing = new Set([
  "CORRUPT_MESSAGE",
  "UNKNOWN_TOPIC_OR_PARTITION",
  "LEADER_NOT_AVAILABLE",
  "NOT_LEADER_FOR_PARTITION",
  "REQUEST_TIMED_OUT",
  "BROKER_NOT_AVAILABLE",
  "REPLICA_NOT_AVAILABLE",
  "NETWORK_EXCEPTION",
  "GROUP_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
  "NOT_ENOUGH_REPLICAS",
  "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
  "REBALANCE_IN_PROGRESS",
  "ILLEGAL_GENERATION",
  "UNKNOWN_MEMBER_ID",
  "NOT_CONTROLLER",
  "CONCURRENT_TRANSACTIONS",
  "KAFKA_STORAGE_ERROR",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "OFFSET_NOT_AVAILABLE",
  "PREFERRED_LEADER_NOT_AVAILABLE",
  "ELIGIBLE_LEADERS_NOT_AVAILABLE",
  "THROTTLING_QUOTA_EXCEEDED",
  "UNSTABLE_OFFSET_COMMIT",
  invalidTimestampCode,
]);

/** The error for a code that a broker answered with. */
export function brokerError(code: string, message: string): KafkaError {
  return new KafkaError(passing.has(code) ? "unavailable" : "refused", `Kafka: ${message} (${code})`, code);
}
