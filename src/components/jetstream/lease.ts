/**
 * Which member of a group gives out its events, where only one may: a key in a bucket that whoever leads writes
 * again and again. Clocks are not compared: a lease is over when its key has not changed for a while on the
 * challenger's own clock, and its holder stops believing in it before that.
 */
import { nuid } from "@nats-io/transport-node";
import type { Log } from "../../telemetry/log.ts";
import { Bucket, WrongRevision } from "./bucket.ts";
import type { Connection } from "./connection.ts";
import { type Entry, headersForDeletion, itemOf } from "./state-entry.ts";

/**
 * A key that has not changed for this long is free. This is nearly all of the time until somebody else reads for a group whose reader
 * has died: 2 to 3 seconds. Shorter, and a machine that only stumbles loses its place, and what is handled there is handled twice.
 */
const leaseMs = 2500;
/** How long after a renewal its holder believes in it: nothing is given out or settled after that. */
const believedMs = 2000;
/** How often the holder renews it. A write: a group costs 2 a second, whether there is something to read or not. */
export const renewEveryMs = 500;
/** How often others look whether they can have it. A read: 4 a second for each other sidecar of a group. */
export const challengeEveryMs = 250;
/**
 * A challenger that has not looked for longer has stood still itself, or the server has. So may have whoever leads: that time counts
 * no more than a look.
 */
const blindMs = 4 * challengeEveryMs;
/** How long it is remembered that nobody leads. */
const forgetAfterMs = 60 * 60 * 1000;

/** The bucket with the leases of all groups. */
const leases = "outrider_leases";

/** See the head of this file. */
export class Lease {
  readonly #bucket: Bucket;
  readonly #key: string;
  /** Nobody else's. */
  readonly #owner: Buffer;
  /** Of the key as this member wrote it last; undefined: it does not lead. */
  #revision: number | undefined;
  #believedUntilMs = 0;
  /** Since when the key has been seen as it is, and when it was looked at last. */
  #seen: { readonly revision: number; sinceMs: number; lookedAtMs: number } | undefined;

  private constructor(bucket: Bucket, key: string, owner: string) {
    this.#bucket = bucket;
    this.#key = key;
    this.#owner = Buffer.from(`${owner} ${nuid.next()}`);
  }

  /** Throws what the library throws. */
  static async open(
    connection: Connection,
    key: string,
    owner: string,
    replicas: number,
    log: Log,
  ): Promise<Lease> {
    return new Lease(await Bucket.open(connection, leases, Math.max(1, replicas), log), key, owner);
  }

  /** Whether this member leads, and may believe so. */
  get valid(): boolean {
    return this.#revision !== undefined && performance.now() < this.#believedUntilMs;
  }

  /** Whether this member was the last to lead as far as it knows, although it may be too late to believe so. */
  get owned(): boolean {
    return this.#revision !== undefined;
  }

  /** Leads if nobody does. Throws what the library throws. */
  async acquire(): Promise<boolean> {
    const last = await this.#bucket.last(this.#key);
    // Where a lease was and nothing is left of it, the bucket was lost: its holder still believes in it.
    const taken = last === undefined ? this.#seen !== undefined : itemOf(this.#key, last) !== undefined;
    const revision = last?.revision ?? 0;
    if (taken && !this.#isOurs(last) && !this.#isOver(revision)) return false;
    return this.#write(revision);
  }

  /** Goes on leading. False: somebody else has led since. Throws what the library throws; then it may be tried again. */
  async renew(): Promise<boolean> {
    const revision = this.#revision;
    if (revision === undefined) return false;
    if (await this.#write(revision)) return true;
    // The answer to a write may have been lost: then the last one is ours, under a revision that we do not know.
    const last = await this.#bucket.last(this.#key);
    if (this.#isOurs(last) && (await this.#write(last.revision))) return true;
    this.#revision = undefined;
    return false;
  }

  /** Lets others lead at once. */
  async release(): Promise<void> {
    const revision = this.#revision;
    this.#revision = undefined;
    if (revision === undefined) return;
    const written = headersForDeletion(this.#bucket.timeToLive ? forgetAfterMs : undefined);
    await this.#bucket.put(this.#key, new Uint8Array(), written, revision);
  }

  #isOurs(last: Entry | undefined): last is Entry {
    return last !== undefined && this.#owner.equals(last.value);
  }

  #isOver(revision: number): boolean {
    const now = performance.now();
    if (this.#seen?.revision !== revision) this.#seen = { revision, sinceMs: now, lookedAtMs: now };
    const sinceLookMs = now - this.#seen.lookedAtMs;
    if (sinceLookMs > blindMs) this.#seen.sinceMs += sinceLookMs - challengeEveryMs;
    this.#seen.lookedAtMs = now;
    return now - this.#seen.sinceMs >= leaseMs;
  }

  async #write(expected: number): Promise<boolean> {
    const startedAtMs = performance.now();
    try {
      const { seq } = await this.#bucket.put(this.#key, this.#owner, undefined, expected);
      this.#revision = seq;
      this.#seen = { revision: seq, sinceMs: startedAtMs, lookedAtMs: startedAtMs };
      this.#believedUntilMs = startedAtMs + believedMs;
      return true;
    } catch (error) {
      if (!(error instanceof WrongRevision)) throw error;
      return false;
    }
  }
}
