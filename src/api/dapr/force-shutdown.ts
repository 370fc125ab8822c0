/** Whether a client that asks the sidecar to stop does not want it to wait for anything. */
import { readBoolean } from "../../config/booleans.ts";

/** What `dapr-force-shutdown` says; null where the header is missing. */
export function isForced(header: string | null): boolean {
  return readBoolean(header ?? "") ?? false;
}
