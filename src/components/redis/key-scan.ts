/** Finding keys by how they begin. Redis keeps no order, so all keys are looked at. */
import type { Call } from "../../blocks/call.ts";
import { reservedPrefix } from "../../blocks/state/keys.ts";
import type { Argument, Link, Reply } from "./link.ts";

/** Keys looked at in one step: Redis does nothing else meanwhile. */
const stepKeys = 1000;

/** What this component and pubsub.redis keep for themselves. */
const ownPrefix = "outrider:";

/** Within the keys of values that are not complete yet. */
export const uploadMark = ":outrider-upload:";

/**
 * Where the keys of the notes of outboxes are, a sorted set. Not in a cluster: there they are all over it, and their index could not be.
 * It begins as the notes do: a user may be kept from keys that begin otherwise.
 */
export const noteIndex = `${reservedPrefix}outbox-index`;

/** Whether a key is no item's, but something that belongs to these components. */
export function isOwnKey(key: string): boolean {
  return key.startsWith(ownPrefix) || key.includes(uploadMark) || key === noteIndex;
}

/** The keys of hashes that begin with a prefix and come after a key, in ascending order of their bytes. */
export async function keysAfter(
  link: Link,
  prefix: string,
  after: string | undefined,
  call: Call,
): Promise<readonly string[]> {
  const pattern = `${escapeGlob(prefix)}*`;
  const first = Buffer.from(prefix);
  const last = after === undefined ? undefined : Buffer.from(after);
  // Redis may give a key more than once.
  const found = new Map<string, Buffer>();
  await Promise.all(
    link.primaries().map(async (primary) => {
      let cursor = "0";
      do {
        const step: [string, ...Argument[]] = [
          "SCAN",
          cursor,
          "MATCH",
          pattern,
          "COUNT",
          stepKeys,
          "TYPE",
          "hash",
        ];
        const [next, keys] = (await primary(step, call)) as [Reply, Buffer[]];
        cursor = String(next);
        for (const key of keys) {
          if (!key.subarray(0, first.length).equals(first)) continue;
          if (last && Buffer.compare(key, last) <= 0) continue;
          const text = key.toString();
          if (!isOwnKey(text)) found.set(text, key);
        }
      } while (cursor !== "0");
    }),
  );
  return [...found].sort(([, one], [, other]) => Buffer.compare(one, other)).map(([text]) => text);
}

/** What `MATCH` takes literally. */
function escapeGlob(text: string): string {
  return text.replace(/[*?[\]\\^]/g, "\\$&");
}
