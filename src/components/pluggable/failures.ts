/** What these components throw, and how blocks are to treat it. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { ErrorClass } from "../../blocks/call.ts";
import { ComponentStatus } from "../../blocks/component-status.ts";

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
  return new ComponentStatus(ConnectError.from(error));
}
