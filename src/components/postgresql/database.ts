/** Statements on a server, over a bounded pool of connections that heals by itself. */
import type { Client, Pool, PoolClient, QueryResultRow } from "pg";
import { backoffMs } from "../../backoff.ts";
import type { Call } from "../../blocks/call.ts";
import { endedWithin } from "../../ended-within.ts";
import { pause } from "../../pause.ts";
import { Clients } from "./clients.ts";
import type { ConnectionSettings } from "./connection-fields.ts";
import { asPostgresError, isMissing, isRolledBack, isStale, PostgresError } from "./errors.ts";
import { within } from "./within.ts";

/** How long a call waits for a connection while the server is away, in milliseconds. */
const connectionLimitMs = 10_000;
const retries = { firstMs: 50, lastMs: 1000 };
/** How often a statement is sent that lost to another, or met a connection of no use. */
const maxConflicts = 8;
/** How long closing waits for connections that are in use, or whose server does not answer. */
const closeWithinMs = 2000;
/** Between two attempts at making again what is missing, in milliseconds. */
const restoreEveryMs = 1000;
/** The oldest server that has what is needed (pg_current_xact_id, gen_random_uuid). */
const oldestVersion = 130_000;

/** What a parameter may be. */
export type Value = string | number | boolean | null | Uint8Array | readonly (string | number | null)[];

/** How a statement is sent. */
export interface QueryOptions {
  /** True: sent again when the connection broke, since doing it twice does no harm. */
  readonly idempotent?: boolean;
}

/** See the head of this file. */
export class Database {
  readonly settings: ConnectionSettings;
  readonly clients: Clients;
  readonly #pool: Pool;
  readonly #closing = new AbortController();
  #prepare: boolean;
  #restore: (() => Promise<void>) | undefined;
  #restoring: Promise<boolean> | undefined;
  #restoredAtMs = Number.NEGATIVE_INFINITY;
  /** By text. */
  readonly #names = new Map<string, string>();

  private constructor(settings: ConnectionSettings, clients: Clients, pool: Pool) {
    this.settings = settings;
    this.clients = clients;
    this.#pool = pool;
    this.#prepare = settings.prepare ?? false;
  }

  /** Connects once, to see that all is well. Throws PostgresError. */
  static async open(settings: ConnectionSettings, name: string, signal: AbortSignal): Promise<Database> {
    const clients = await Clients.make(settings.endpoint, name);
    const client = await clients.connect(signal);
    try {
      await checkServer(client, clients.server);
    } catch (error) {
      throw asPostgresError(error, clients.server);
    } finally {
      void client.end().catch(() => undefined);
    }
    const { maxConnections, maxIdleMs } = settings;
    return new Database(settings, clients, clients.pool(maxConnections, maxIdleMs));
  }

  /** For errors. */
  get server(): string {
    return this.clients.server;
  }

  /** Says that sessions are the server's own: what is prepared in one is there the next time. */
  knownToBeDirect(): void {
    this.#prepare = this.settings.prepare ?? true;
  }

  /** Says how to make again what somebody has removed, or a server does not have that has taken the place of another. */
  onMissing(restore: () => Promise<void>): void {
    this.#restore = restore;
  }

  /** Aborts when `close` begins. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /**
   * Runs one statement, which is a transaction of its own. Throws PostgresError, or the signal's
   * reason; what became of the statement is then not known.
   */
  async query<Row extends QueryResultRow>(
    text: string,
    values: readonly Value[],
    { signal }: Call,
    { idempotent = false }: QueryOptions = {},
  ): Promise<Row[]> {
    const untilMs = performance.now() + connectionLimitMs;
    let name: string | undefined;
    if (this.#prepare) {
      name = this.#names.get(text) ?? `outrider_${this.#names.size}`;
      this.#names.set(text, name);
    }
    let restored = false;
    for (let attempt = 1; ; attempt += 1) {
      const client = await this.#acquire(untilMs, signal);
      const sentAtMs = performance.now();
      try {
        const query = { text, values: values as unknown[], ...(name !== undefined && { name }) };
        return await this.#run(client, () => client.query<Row>(query).then(({ rows }) => rows), signal);
      } catch (error) {
        signal.throwIfAborted();
        const known = asPostgresError(error, this.server);
        const broken = known.errorClass === "unavailable" && known.code.startsWith("OR") === false;
        const again =
          ((isRolledBack(error) || isStale(error)) && attempt < maxConflicts) ||
          (idempotent && broken && performance.now() < untilMs && !this.closing.aborted);
        if (!again && isMissing(error) && !restored) {
          restored = true;
          if (await this.#madeAgain(sentAtMs)) continue;
        }
        if (!again) throw known;
        await pause(backoffMs(attempt, retries) * Math.random(), signal);
        signal.throwIfAborted();
      }
    }
  }

  /** Runs statements in one transaction, on one connection. Throws PostgresError. */
  async transaction<T>(body: (client: PoolClient) => Promise<T>, { signal }: Call): Promise<T> {
    const client = await this.#acquire(performance.now() + connectionLimitMs, signal);
    try {
      return await this.#run(
        client,
        async () => {
          await client.query("BEGIN ISOLATION LEVEL READ COMMITTED");
          try {
            const result = await body(client);
            await client.query("COMMIT");
            return result;
          } catch (error) {
            await client.query("ROLLBACK").catch(() => undefined);
            throw error;
          }
        },
        signal,
      );
    } catch (error) {
      signal.throwIfAborted();
      throw asPostgresError(error, this.server);
    }
  }

  /** Closes every connection. What is under way may still end. */
  async close(): Promise<void> {
    this.#closing.abort();
    await endedWithin(this.#pool.end(), closeWithinMs);
  }

  /** Makes again what is missing, unless that was done since a time. False: it was of no avail. */
  async #madeAgain(sinceMs: number): Promise<boolean> {
    if (this.#restoredAtMs > sinceMs) return true;
    if (!this.#restoring) {
      if (!this.#restore || performance.now() - this.#restoredAtMs < restoreEveryMs) return false;
      const end = () => {
        this.#restoredAtMs = performance.now();
        this.#restoring = undefined;
      };
      const made = this.#restore().then(
        () => true,
        () => false,
      );
      this.#restoring = made.finally(end);
    }
    return this.#restoring;
  }

  /** A free connection, waited for while the server is away. */
  async #acquire(untilMs: number, signal: AbortSignal): Promise<PoolClient> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#checkout(untilMs, signal);
      } catch (error) {
        signal.throwIfAborted();
        const known = asPostgresError(error, this.server);
        const leftMs = untilMs - performance.now();
        if (known.errorClass !== "unavailable" || leftMs <= 0 || this.closing.aborted) throw known;
        await pause(Math.min(backoffMs(attempt, retries), leftMs), signal);
        signal.throwIfAborted();
      }
    }
  }

  async #checkout(untilMs: number, signal: AbortSignal): Promise<PoolClient> {
    if (this.closing.aborted) throw new PostgresError("unavailable", "the component is closed");
    const connecting = this.#pool.connect();
    try {
      return await within(connecting, untilMs - performance.now(), signal, () => {
        return new PostgresError("unavailable", `no connection to ${this.server} got free in time`);
      });
    } catch (error) {
      // It may still come: then it goes back.
      connecting.then(
        (client) => client.release(),
        () => undefined,
      );
      throw error;
    }
  }

  /** Runs work on a connection, which is given back when the work is done, or thrown away when it takes too long. */
  async #run<T>(client: PoolClient, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const { timeoutMs } = this.settings;
    let late = false;
    let broken: Error | undefined;
    const fail = (error: Error) => {
      broken = error;
    };
    client.on("error", fail);
    const release = (error?: Error) => {
      client.off("error", fail);
      client.release(error ?? broken);
    };
    // In a promise, so that the connection is given back when it throws at once.
    const working = Promise.resolve().then(work);
    const timer = setTimeout(() => {
      late = true;
      release(new Error("too late"));
    }, timeoutMs);
    working.then(
      () => {
        clearTimeout(timer);
        if (!late) release();
      },
      (error: unknown) => {
        clearTimeout(timer);
        if (late) return;
        // An error without SQLSTATE is one of the connection.
        const fatal =
          !(error instanceof Error && "severity" in error) ||
          /^57P/.test(String("code" in error && error.code)) ||
          isStale(error);
        release(fatal ? new Error("broken") : undefined);
      },
    );
    return within(working, timeoutMs, signal, () => {
      return new PostgresError("unavailable", `${this.server} did not answer within ${timeoutMs} ms`);
    });
  }
}

async function checkServer(client: Client, server: string): Promise<void> {
  const { rows } = await client.query<{ version: number; encoding: string }>(
    "SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding",
  );
  const { version, encoding } = rows[0]!;
  if (version < oldestVersion)
    throw new PostgresError(
      "refused",
      `${server} is of version ${Math.floor(version / 10_000)}; 13 or later is needed`,
    );
  if (encoding !== "UTF8")
    throw new PostgresError("refused", `${server} has a database in ${encoding}; UTF8 is needed`);
}
