/** This sidecar among those that have members in the log, and what becomes of what a dead one held. */
import type { Call } from "../../../blocks/call.ts";
import type { Log } from "../../../telemetry/log.ts";
import type { Database } from "../database.ts";
import type { Tables } from "./tables.ts";

/** A sidecar whose session lock is free is dead when it has shown no sign of life for so long: one that lives takes it again. */
const unlockedMs = 1500;
/** One that never had the lock, as behind a pooler. */
const silentMs = 10_000;
/** One that has the lock and may be stopped or stuck, or its network cut. */
const lockedSilentMs = 20_000;

interface Row {
  readonly id: number;
  readonly beat: number;
  readonly locked: boolean;
  readonly held: boolean;
}

interface Sign {
  readonly beat: number;
  readonly atMs: number;
  /** Since when its lock has been seen free. */
  readonly freeSinceMs: number | undefined;
}

/** See the head of this file. */
export class Sidecars {
  readonly #database: Database;
  readonly #texts: {
    readonly register: string;
    readonly locked: string;
    readonly beat: string;
    readonly reap: string;
  };
  readonly #instance: string;
  readonly #app: string;
  readonly #log: Log;
  readonly #signs = new Map<number, Sign>();
  #registering: Promise<number> | undefined;
  #self = 0;

  constructor(database: Database, tables: Tables, instance: string, app: string, log: Log) {
    this.#database = database;
    this.#instance = instance;
    this.#app = app;
    this.#log = log;
    this.#texts = {
      register: `INSERT INTO ${tables.sidecars} (instance, app) VALUES ($1, $2) RETURNING id`,
      locked: `UPDATE ${tables.sidecars} SET locked = true, beat = beat + 1 WHERE id = $1`,
      beat: `SELECT id, beat, locked, held FROM ${tables.beat}($1, $2)`,
      reap: `SELECT reap AS group_id FROM ${tables.reap}($1, $2, $3) AS reap`,
    };
  }

  /** This sidecar's number; 0 before it is registered. */
  get self(): number {
    return this.#self;
  }

  /** Makes this sidecar known, and gives its number. */
  register(call: Call): Promise<number> {
    this.#registering ??= this.#register(call).catch((error: unknown) => {
      this.#registering = undefined;
      throw error;
    });
    return this.#registering;
  }

  /**
   * Says that this sidecar lives, and takes everything from those that do not. Returns groups that have something free.
   * `lost`: others have taken this one for dead, and its members from it.
   */
  async beat(
    locked: boolean,
    call: Call,
  ): Promise<{ readonly freed: readonly number[]; readonly lost: boolean }> {
    const beaten = this.#self;
    const rows = await this.#database.query<Row & Record<string, unknown>>(
      this.#texts.beat,
      [beaten, locked],
      call,
    );
    const lost = beaten !== 0 && !rows.some(({ id }) => id === beaten);
    if (lost) await this.renew(beaten, call);
    const nowMs = performance.now();
    const freed: number[] = [];
    for (const row of rows) {
      if (row.id === this.#self || !this.#isDead(row, nowMs)) continue;
      this.#signs.delete(row.id);
      freed.push(...(await this.#reap(row.id, row.beat, true, call)));
      this.#log.info({ sidecar: row.id }, "another sidecar is gone: what it held is delivered again");
    }
    for (const id of this.#signs.keys()) if (!rows.some((row) => row.id === id)) this.#signs.delete(id);
    return { freed, lost };
  }

  /** Makes this sidecar known anew, since others have taken the one of a number for dead; one call does it. */
  async renew(lost: number, call: Call): Promise<number> {
    if (this.#self === lost) {
      this.#self = 0;
      this.#registering = undefined;
    }
    return this.register(call);
  }

  /** Says that this sidecar holds its lock. */
  async locked(call: Call): Promise<void> {
    await this.#database.query(this.#texts.locked, [this.#self], call);
  }

  /** Takes this sidecar from the list. */
  async leave(call: Call): Promise<readonly number[]> {
    const self = this.#self;
    this.#self = 0;
    return self === 0 ? [] : this.#reap(self, null, false, call);
  }

  async #register({ signal }: Call): Promise<number> {
    const [row] = await this.#database.query<{ id: number }>(
      this.#texts.register,
      [this.#instance, this.#app],
      { signal },
    );
    this.#self = row!.id;
    return row!.id;
  }

  async #reap(id: number, beat: number | null, counted: boolean, call: Call): Promise<number[]> {
    const rows = await this.#database.query<{ group_id: number | null }>(
      this.#texts.reap,
      [id, beat, counted],
      call,
    );
    return rows.flatMap(({ group_id }) => (group_id === null ? [] : [group_id]));
  }

  #isDead({ id, beat, locked, held }: Row, nowMs: number): boolean {
    const last = this.#signs.get(id);
    const free = locked && !held;
    if (last?.beat !== beat) {
      this.#signs.set(id, { beat, atMs: nowMs, freeSinceMs: free ? nowMs : undefined });
      return false;
    }
    const freeSinceMs = free ? (last.freeSinceMs ?? nowMs) : undefined;
    this.#signs.set(id, { ...last, freeSinceMs });
    if (freeSinceMs !== undefined) return nowMs - freeSinceMs >= unlockedMs;
    return nowMs - last.atMs > (locked ? lockedSilentMs : silentMs);
  }
}
