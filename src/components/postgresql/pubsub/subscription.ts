/** A member of a group. */
import type { Call } from "../../../blocks/call.ts";
import type { DriverSubscription, Lag, Received, Settlement } from "../../../blocks/pubsub/driver.ts";
import { pause } from "../../../pause.ts";
import { WakeUp } from "../../../wake-up.ts";
import type { Database } from "../database.ts";
import { PostgresError, raised } from "../errors.ts";
import { type ClaimedRow, toReceived } from "./events.ts";
import type { Receiver, Receivers } from "./receivers.ts";
import type { Tables } from "./tables.ts";

/** Bytes of events in one answer; the first event always goes in. */
const maxClaimBytes = 8 * 1024 * 1024;
/** How long leaving may take. When the server is away, it is told later. */
const leaveWithinMs = 3000;
/** For how long, and how often, claiming is tried again while connections break. */
const failingLimitMs = 10_000;
const retryMs = 200;

/** What a member needs to know of its group. */
export interface Membership {
  readonly member: number;
  readonly group: number;
  readonly topic: number | undefined;
  readonly raw: boolean;
}

/** What a member tells its broker. */
export interface MemberEvents {
  /** Others of the group may receive something now, or later. */
  onFreed(group: number): void;
  /** Events of the group are settled. */
  onDone(): void;
  onClose(): void;
  /** The server could not be told that the member leaves: what it holds is still kept for it. */
  onStuck(member: number): void;
}

interface Receipt {
  readonly topic: number;
  readonly seq: number;
  /** By which claim it was given. */
  readonly claim: number;
}

const kinds = { done: 0, again: 1, returned: 2 } as const;

/** See the head of this file. */
export class PostgresSubscription implements DriverSubscription, Receiver {
  readonly #database: Database;
  readonly #membership: Membership;
  readonly #receivers: Receivers;
  readonly #events: MemberEvents;
  readonly #texts: {
    readonly claim: string;
    readonly settle: string;
    readonly lost: string;
    readonly leave: string;
    readonly lag: string;
  };
  /** What this member has and has not settled: a receipt is good once. */
  readonly #held = new Set<unknown>();
  readonly #closing = new AbortController();
  /** What was claimed for a receive that had ended. */
  #ready: Received[] = [];
  #claiming: Promise<void> | undefined;
  /** When something is due that the group waits for, by performance.now(). */
  #nextDueMs: number | undefined;
  #claims = 0;
  /** A claim that has failed: nobody knows what it took, or is yet to take. */
  #lost: number | undefined;
  #woken = true;
  readonly #wake = new WakeUp();

  constructor(
    database: Database,
    tables: Tables,
    membership: Membership,
    receivers: Receivers,
    events: MemberEvents,
  ) {
    this.#database = database;
    this.#membership = membership;
    this.#receivers = receivers;
    this.#events = events;
    this.#texts = {
      claim: `SELECT * FROM ${tables.claim}($1, $2, $3, $4, $5)`,
      settle: `SELECT ${tables.settle}($1, $2, $3, $4, $5, $6, $7, $8) AS freed`,
      lost: `SELECT ${tables.return_lost}($1, $2, $3)`,
      leave: `SELECT group_id FROM ${tables.leave}($1, false)`,
      lag: `SELECT events, trimmed FROM ${tables.lag}($1)`,
    };
    receivers.add(this);
  }

  get group(): number {
    return this.#membership.group;
  }

  get topic(): number | undefined {
    return this.#membership.topic;
  }

  wake(): void {
    this.#woken = true;
    this.#wake.ring();
  }

  async receive(max: number, { signal }: Call): Promise<readonly Received[]> {
    const ended = AbortSignal.any([signal, this.#closing.signal]);
    let failingSinceMs: number | undefined;
    while (!ended.aborted) {
      if (this.#ready.length > 0) return this.#ready.splice(0, max);
      if (!this.#claiming) {
        this.#woken = false;
        this.#claiming = this.#claim(max).finally(() => {
          this.#claiming = undefined;
        });
      }
      const claiming = this.#claiming;
      // It may fail when nobody waits for it any more.
      claiming.catch(() => undefined);
      try {
        if (!(await endedBefore(claiming, ended))) return [];
        failingSinceMs = undefined;
      } catch (error) {
        failingSinceMs ??= performance.now();
        if (!mayPass(error) || performance.now() - failingSinceMs > failingLimitMs) throw error;
        await pause(retryMs, ended);
        continue;
      }
      if (this.#ready.length === 0 && !this.#woken) await this.#news(ended);
    }
    return [];
  }

  async settle(settlements: readonly Settlement[], call: Call): Promise<void> {
    const held = settlements.filter(({ receipt }) => this.#held.has(receipt));
    if (held.length === 0) return;
    for (const { receipt } of held) this.#held.delete(receipt);
    const { member, group } = this.#membership;
    try {
      const values = [group, member, ...runs(held)];
      type Answer = { freed: boolean };
      const [answer] = await this.#database.query<Answer>(this.#texts.settle, values, call, {
        idempotent: true,
      });
      if (answer?.freed) this.#events.onFreed(group);
      this.#events.onDone();
    } catch (error) {
      // It may be tried again.
      if (!this.#closing.signal.aborted) for (const { receipt } of held) this.#held.add(receipt);
      throw error;
    }
  }

  async lag(call: Call): Promise<Lag> {
    type Row = { events: number; trimmed: number };
    const [row] = await this.#database.query<Row>(this.#texts.lag, [this.group], call, { idempotent: true });
    return { events: row!.events, trimmedUnsettled: row!.trimmed };
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#receivers.delete(this);
    this.#events.onClose();
    this.#held.clear();
    this.#ready = [];
    const call = { signal: AbortSignal.timeout(leaveWithinMs) };
    type Row = { group_id: number | null };
    const { member } = this.#membership;
    const leaving = this.#database.query<Row>(this.#texts.leave, [member], call, { idempotent: true });
    const [row] = await leaving.catch((error: unknown) => {
      this.#events.onStuck(member);
      throw error;
    });
    if (row?.group_id != null) this.#events.onFreed(row.group_id);
  }

  async #claim(max: number): Promise<void> {
    const { member, group, raw } = this.#membership;
    const call = { signal: this.#closing.signal };
    if (this.#lost !== undefined)
      await this.#database.query(this.#texts.lost, [group, member, this.#lost], call, { idempotent: true });
    const claim = ++this.#claims;
    this.#lost = claim;
    const rows = await this.#database.query<ClaimedRow & Record<string, unknown>>(
      this.#texts.claim,
      [group, member, max, maxClaimBytes, claim],
      call,
    );
    this.#lost = undefined;
    this.#nextDueMs = undefined;
    for (const row of rows) {
      if (row.seq === null) {
        if (row.published_ms !== null) this.#nextDueMs = performance.now() + row.published_ms;
        continue;
      }
      const receipt: Receipt = { topic: row.topic_id!, seq: row.seq, claim };
      this.#held.add(receipt);
      this.#ready.push(toReceived(row, receipt, raw));
    }
  }

  /** Waits until looking makes sense again. */
  #news(ended: AbortSignal): Promise<void> {
    const dueMs = this.#nextDueMs;
    return this.#wake.wait(ended, dueMs === undefined ? undefined : Math.ceil(dueMs - performance.now()));
  }
}

/** Whether claiming again makes sense: the connection broke, and not the membership. */
function mayPass(error: unknown): boolean {
  return (
    error instanceof PostgresError && error.errorClass === "unavailable" && error.code !== raised.memberGone
  );
}

/** Waits for a promise; false when the signal aborted first. Throws what the promise throws. */
function endedBefore(promise: Promise<void>, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const abort = () => resolve(false);
    if (signal.aborted) return resolve(false);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(
      () => {
        signal.removeEventListener("abort", abort);
        resolve(true);
      },
      (error: unknown) => {
        signal.removeEventListener("abort", abort);
        if (signal.aborted) resolve(false);
        else reject(error);
      },
    );
  });
}

/** The parameters of the settling function: events that follow each other and have the same outcome are one. */
function runs(settlements: readonly Settlement[]): number[][] {
  const topics: number[] = [];
  const firsts: number[] = [];
  const lasts: number[] = [];
  const claims: number[] = [];
  const codes: number[] = [];
  const delays: number[] = [];
  for (const settlement of settlements) {
    const { topic, seq, claim } = settlement.receipt as Receipt;
    const code = kinds[settlement.kind];
    const delayMs = settlement.kind === "again" ? settlement.delayMs : 0;
    const last = lasts.length - 1;
    const follows = topics[last] === topic && lasts[last] === seq - 1 && claims[last] === claim;
    if (follows && codes[last] === code && delays[last] === delayMs) {
      lasts[last] = seq;
      continue;
    }
    topics.push(topic);
    firsts.push(seq);
    lasts.push(seq);
    claims.push(claim);
    codes.push(code);
    delays.push(delayMs);
  }
  return [topics, firsts, lasts, claims, codes, delays];
}
