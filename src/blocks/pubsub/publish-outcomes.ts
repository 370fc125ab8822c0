/** What came of publishing, as messages. */
import { ConnectError } from "@connectrpc/connect";
import type {
  Failure,
  Published,
  PublishStreamFailure,
  PublishStreamResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { reasonOf } from "../../faults.ts";
import type { PublishedEvent } from "./bus.ts";

/** What came of the events of one batch, each in its place. */
export type Outcomes = readonly (PublishedEvent | ConnectError)[];

/** What is said of one batch. */
export interface Answer {
  readonly outcomes: Outcomes;
  /** Data of its events, in bytes. */
  readonly bytes: number;
}

/**
 * Acknowledges events whose sequence numbers follow `after`. Only those that failed are named, unless the client wants
 * to know of those that were published too.
 */
export function acknowledgementOf(
  answers: readonly Answer[],
  after: bigint,
  wantPublished: boolean,
): PublishStreamResponse {
  const failures: PublishStreamFailure[] = [];
  const published: Published[] = [];
  let sequence = after;
  for (const { outcomes } of answers) {
    if (!wantPublished && !outcomes.some((outcome) => outcome instanceof ConnectError)) {
      sequence += BigInt(outcomes.length);
      continue;
    }
    for (const outcome of outcomes) {
      sequence += 1n;
      const failed = outcome instanceof ConnectError;
      if (failed)
        failures.push({
          $typeName: "outrider.pubsub.v1.PublishStreamFailure",
          sequence,
          failure: failureOf(outcome),
        });
      if (wantPublished) published.push(publishedOf(failed ? { id: "", position: "" } : outcome));
    }
  }
  return {
    $typeName: "outrider.pubsub.v1.PublishStreamResponse",
    settledThrough: sequence,
    failures,
    published,
  };
}

/** The message of an event that the broker has. */
export function publishedOf({ id, position }: PublishedEvent): Published {
  return { $typeName: "outrider.pubsub.v1.Published", id, position };
}

/** The message of an event that was not published. */
export function failureOf(error: ConnectError): Failure {
  const reason = reasonOf(error);
  return {
    $typeName: "outrider.pubsub.v1.Failure",
    code: error.code,
    reason: reason ?? "",
    message: reason ? error.rawMessage : "internal error",
    retryable:
      reason === "COMPONENT_UNAVAILABLE" || reason === "SHUTTING_DOWN" || reason === "DEADLINE_EXCEEDED",
  };
}
