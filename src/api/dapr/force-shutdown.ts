/** Whether a client that asks the sidecar to stop does not want it to wait for anything. */
import { isTrue } from "./go-bool.ts";

/** What `dapr-force-shutdown` says; null where the header is missing. */
export function isForced(header: string | null): boolean {
  return isTrue(header ?? "");
}
