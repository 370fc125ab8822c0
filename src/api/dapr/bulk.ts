/** How events are gathered that an application gets many at a time. */
import type { BulkOptions } from "./topic-subscription.ts";

/** As in Dapr, where a subscription does not say. */
const defaultBulk = { maxMessages: 100, maxAwaitMs: 1000 } as const;

/** How events are gathered; 0 and less are the defaults. Undefined: they are not. */
export function bulkOf(enabled: boolean, maxMessages = 0, maxAwaitMs = 0): BulkOptions | undefined {
  if (!enabled) return undefined;
  return {
    maxMessages: maxMessages > 0 ? maxMessages : defaultBulk.maxMessages,
    maxAwaitMs: maxAwaitMs > 0 ? maxAwaitMs : defaultBulk.maxAwaitMs,
  };
}
