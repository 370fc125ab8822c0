/** What these components throw, and how blocks are to treat it. */
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import type { ErrorClass } from "../../blocks/call.ts";
import { type AskedAnswer, ComponentStatus } from "../../blocks/component-status.ts";

/** The component's process is not there, or was gone before it answered. */
export class ComponentAway extends Error {
  override readonly name = "ComponentAway";
}

/** The call's signal aborted first. */
export class CallEnded extends Error {
  override readonly name = "CallEnded";
}

/** The component has refused one event of several; its message is the component's own. */
export class EntryRefused extends Error {
  override readonly name = "EntryRefused";
}

/** Statuses after which the same call may succeed. */
const passing: readonly Code[] = [Code.Unavailable, Code.ResourceExhausted, Code.DeadlineExceeded];

/** Classifies what a driver of this folder threw. */
export function classify(error: unknown): ErrorClass | undefined {
  if (error instanceof ComponentAway) return "unavailable";
  if (error instanceof CallEnded) return "cancelled";
  if (error instanceof EntryRefused) return "refused";
  if (!(error instanceof ComponentStatus)) return undefined;
  // Whoever says what to answer knows better than its code.
  return passing.includes(error.code) && !error.asked ? "unavailable" : "refused";
}

/** Makes an error of these components of what a call threw. `ended`: its connection has. */
export function toFailure(error: unknown, signal: AbortSignal, ended: boolean): Error {
  if (signal.aborted) return new CallEnded("the call ended before the component answered", { cause: error });
  if (ended) {
    const why = ConnectError.from(error).rawMessage;
    return new ComponentAway(`the component was gone before it answered (${why})`, { cause: error });
  }
  return componentStatus(ConnectError.from(error));
}

function componentStatus(status: ConnectError): ComponentStatus {
  const fields = status
    .findDetails(BadRequestSchema)
    .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
  const { code, rawMessage } = status;
  return new ComponentStatus(rawMessage, { code, fields, asked: askedBy(status), cause: status });
}

/** Dapr's components mark an ErrorInfo that says what to answer. */
function askedBy(status: ConnectError): AskedAnswer | undefined {
  const infos = status.findDetails(ErrorInfoSchema);
  const [info] = infos;
  if (!info || infos.length !== status.details.length || infos.length > 1) return undefined;
  const { metadata, reason, domain } = info;
  const httpStatus = Number(metadata["http_code"]);
  if (metadata["kit_error"] !== "true" || !Number.isInteger(httpStatus)) return undefined;
  return { status: httpStatus, tag: metadata["tag"] ?? "", reason, domain };
}
