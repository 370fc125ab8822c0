/** Writes to a bucket, with their preconditions: one, or several that happen all or not at all. */
import { nuid } from "@nats-io/transport-node";
import { EtagMismatch, type Write } from "../../blocks/state/driver.ts";
import { type Bucket, rememberDeletionsMs, tooLarge, WrongRevision } from "./bucket.ts";
import { NatsError } from "./errors.ts";
import { etagOf, headersFor, headersForDeletion, itemOf, revisionOf } from "./state-entry.ts";
import { bucketKeyOf } from "./state-keys.ts";

/** How often a write is tried that others keep getting in the way of. */
const maxTries = 10;
const nothing = new Uint8Array();

/** Applies one write. Returns its etag, "" for a deletion. Throws EtagMismatch. */
export async function applyOne(bucket: Bucket, write: Write): Promise<string> {
  const key = bucketKeyOf(write.key);
  for (let tries = 1; ; tries++) {
    // That there is nothing is tried first: it is what those expect who ask for it.
    const expected =
      tries === 1 && write.precondition?.kind === "absent" ? 0 : await expectedOf(bucket, key, write);
    try {
      const { seq } = await bucket.put(key, payloadOf(write), headersOf(bucket, write), expected);
      return write.kind === "set" ? etagOf(seq, write.expiresAtMs) : "";
    } catch (error) {
      if (!(error instanceof WrongRevision)) throw error;
      if (write.precondition?.kind === "etag" || tries === maxTries) throw new EtagMismatch(write.key);
    }
  }
}

/** Applies writes all or none. Returns an etag for each. Throws EtagMismatch with the first key at fault. */
export async function applyAll(bucket: Bucket, writes: readonly Write[]): Promise<readonly string[]> {
  for (let tries = 1; ; tries++) {
    const keys = writes.map(({ key }) => bucketKeyOf(key));
    const expected = await Promise.all(writes.map((write, index) => checked(bucket, keys[index]!, write)));
    const batch = nuid.next();
    try {
      for (const [index, write] of writes.entries()) {
        const written = headersOf(bucket, write) ?? bucket.headers();
        written.set("Nats-Batch-Id", batch);
        written.set("Nats-Batch-Sequence", String(index + 1));
        const value = payloadOf(write);
        const before = expected[index];
        if (before !== undefined) written.set("Nats-Expected-Last-Subject-Sequence", String(before));
        if (index < writes.length - 1) {
          bucket.add(keys[index]!, value, written);
          continue;
        }
        written.set("Nats-Batch-Commit", "1");
        const { seq } = await bucket.put(keys[index]!, value, written);
        const first = seq - writes.length + 1;
        return writes.map((each, at) => (each.kind === "set" ? etagOf(first + at, each.expiresAtMs) : ""));
      }
    } catch (error) {
      if (error instanceof Error && /max_payload/.test(error.message)) {
        const largest = writes.map(payloadOf).reduce((a, b) => (a.byteLength >= b.byteLength ? a : b));
        throw tooLarge(bucket.connection, largest, error);
      }
      // What the preconditions were checked against has changed: they are checked again.
      if (!(error instanceof WrongRevision)) throw error;
      if (tries === maxTries)
        throw new NatsError("unavailable", "others kept changing what the transaction writes", {
          cause: error,
        });
    }
  }
}

/** The sequence that the last message of a key must have; undefined: any. Throws EtagMismatch. */
async function expectedOf(
  bucket: Bucket,
  key: string,
  { key: name, precondition }: Write,
): Promise<number | undefined> {
  if (precondition === undefined) return undefined;
  if (precondition.kind === "etag") {
    const revision = revisionOf(precondition.etag);
    if (revision === undefined) throw new EtagMismatch(name);
    return revision;
  }
  const last = await bucket.last(key);
  if (last && itemOf(name, last, true)) throw new EtagMismatch(name);
  return last?.revision ?? 0;
}

/** As `expectedOf`, and made sure of: a batch does not tell which of its messages is at fault. */
async function checked(bucket: Bucket, key: string, write: Write): Promise<number | undefined> {
  if (write.precondition?.kind !== "etag") return expectedOf(bucket, key, write);
  const revision = revisionOf(write.precondition.etag);
  const last = revision === undefined ? undefined : await bucket.last(key);
  if (revision === undefined || last?.revision !== revision) throw new EtagMismatch(write.key);
  return revision;
}

function payloadOf(write: Write): Uint8Array {
  return write.kind === "set" ? write.value : nothing;
}

function headersOf(bucket: Bucket, write: Write) {
  if (write.kind === "set") return headersFor(write, bucket.timeToLive);
  return headersForDeletion(bucket.timeToLive ? rememberDeletionsMs : undefined);
}
