/** Removes, now and then, what nobody can see any more. */
import { pause } from "../../../pause.ts";
import type { Log } from "../../../telemetry/log.ts";
import { timerMs } from "../../../timer.ts";
import type { Database } from "../database.ts";
import type { Layout } from "./layout.ts";
import type { Statements } from "./statements.ts";

/** For how long a change is remembered, for watches that resume. */
const rememberMs = 60 * 60 * 1000;
/** Between two looks at what may be forgotten. */
const forgetEveryMs = 5 * 60 * 1000;
/** Rows that one statement removes. */
const perSweep = 1000;

/** See the head of this file. */
export class Cleanup {
  readonly #database: Database;
  readonly #statements: Statements;
  readonly #intervalMs: number | undefined;
  readonly #claim: string;
  readonly #log: Log;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>[] = [];

  /** `intervalMs`: how often expired items are removed; undefined: never. */
  constructor(
    database: Database,
    statements: Statements,
    intervalMs: number | undefined,
    metadataTable: string,
    { version }: Layout,
    log: Log,
  ) {
    this.#database = database;
    this.#statements = statements;
    this.#intervalMs = intervalMs;
    this.#log = log;
    // Dapr's own row: of all sidecars, Dapr's too, one does it in each interval.
    const key = version === "v2" ? `last-cleanup-state-v2-${metadataTable}` : "last-cleanup";
    this.#claim = `INSERT INTO ${metadataTable} AS m (key, value) VALUES ('${key.replaceAll('"', "")}', now()::text)
      ON CONFLICT (key) DO UPDATE SET value = now()::text
      WHERE extract(epoch FROM now() - m.value::timestamp with time zone) * 1000 > $1 RETURNING 1 AS one`;
  }

  /** Begins. Returns at once. */
  start(): void {
    const intervalMs = this.#intervalMs;
    if (intervalMs !== undefined) this.#running.push(this.#every(intervalMs, () => this.#expire(intervalMs)));
    this.#running.push(this.#every(forgetEveryMs, () => this.#forget()));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#running);
  }

  async #every(intervalMs: number, work: () => Promise<void>): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const waitMs = timerMs(intervalMs) * (0.9 + Math.random() / 10);
      await pause(waitMs, signal, { ref: false });
      if (signal.aborted) return;
      await work().catch((err: unknown) => {
        if (!signal.aborted) this.#log.warn({ err }, "cleaning up failed; trying again later");
      });
    }
  }

  async #expire(intervalMs: number): Promise<void> {
    const call = { signal: this.#closing.signal };
    const claimed = await this.#database.query(this.#claim, [Math.floor(intervalMs * 0.8)], call);
    if (claimed.length === 0) return;
    for (;;) {
      const removed = await this.#database.query(
        `${this.#statements.expire} RETURNING 1 AS one`,
        [perSweep],
        call,
      );
      if (removed.length < perSweep) return;
    }
  }

  async #forget(): Promise<void> {
    const call = { signal: this.#closing.signal };
    await this.#database.query(this.#statements.dropOldBlobs, [], call);
    for (;;) {
      const [row] = await this.#database.query<{ count: number }>(
        this.#statements.forget,
        [perSweep, rememberMs],
        call,
      );
      if ((row?.count ?? 0) < perSweep) return;
    }
  }
}
