/** An open database file: statements, transactions, and the lock that processes share. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { asStoreError, isBusy, StoreError } from "../errors.ts";
import { migrate } from "./schema.ts";

/** A prepared statement whose rows are of a known shape. */
export interface Statement<Row> {
  get(...values: Values): Row | undefined;
  all(...values: Values): Row[];
  iterate(...values: Values): Iterable<Row>;
  run(...values: Values): { readonly changes: number | bigint };
}

/** Values by place, or one object of values by name. */
type Values = SQLInputValue[] | [Record<string, SQLInputValue>];

/**
 * Between two tries for the lock, in milliseconds. SQLite's own waiting backs
 * off to 100 ms, which would be the latency of every delivery under load.
 */
const lockRetryMs = 0.1;
const lockRetrySlowMs = 0.5;
/** From here on the slow pace. */
const lockFastPhaseMs = 20;

/** For how long after another process has written we leave gaps between transactions. */
const politeForMs = 200;

/** The gap: longer than `lockRetryMs`, or a process that writes without pause would never let another in. */
const politeGapMs = 0.2;

/** Bytes written between two checkpoints, about 4 MB of pages. */
const checkpointBytes = 4 * 1024 * 1024;

/** What a transaction writes at least, by guess: six pages. */
const transactionBytes = 6 * 4096;

/** Commit times that are kept until they are asked for. */
const maxCommitTimes = 1000;

/** The file, opened. Throws StoreError where it says so, and else what node:sqlite throws. */
export class StoreFile {
  readonly #db: DatabaseSync;
  readonly #lockLimitMs: number;
  readonly #begin: Statement<unknown>;
  readonly #beginRead: Statement<unknown>;
  readonly #commit: Statement<unknown>;
  readonly #rollback: Statement<unknown>;
  readonly #dataVersion: Statement<{ data_version: number }>;
  readonly #cell = new Int32Array(new SharedArrayBuffer(4));
  #lastDataVersion = 0;
  #lastForeignAtMs = Number.NEGATIVE_INFINITY;
  #full = true;
  #writtenBytes = 0;
  #commitSeconds: number[] = [];

  /** Opens the file and migrates it under its lock. Throws StoreError. */
  constructor(path: string, lockLimitMs: number) {
    this.#lockLimitMs = lockLimitMs;
    let db: DatabaseSync | undefined;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      db = new DatabaseSync(path, { timeout: 0 });
      this.#db = db;
      this.#whenFree(() => migrate(this.#db));
      this.#begin = this.statement("BEGIN IMMEDIATE");
      this.#beginRead = this.statement("BEGIN");
      this.#commit = this.statement("COMMIT");
      this.#rollback = this.statement("ROLLBACK");
      this.#dataVersion = this.statement("PRAGMA data_version");
      this.foreignChange();
    } catch (error) {
      db?.close();
      throw asStoreError(error);
    }
  }

  /** Prepares a statement. */
  statement<Row>(sql: string): Statement<Row> {
    // node:sqlite types rows as records of any column; what a query gives is known where it is written.
    return this.#db.prepare(sql) as unknown as Statement<Row>;
  }

  /** Runs in a read transaction: one state of the file throughout. */
  read<T>(body: () => T): T {
    return this.#whenFree(() => {
      this.#beginRead.run();
      try {
        return body();
      } finally {
        this.#commit.run();
      }
    });
  }

  /** Takes the lock. Throws StoreError, unavailable, when others have held it for too long. */
  begin(): void {
    if (performance.now() - this.#lastForeignAtMs < politeForMs) this.#sleep(politeGapMs);
    this.#whenFree(() => this.#begin.run());
  }

  /**
   * Commits. Durable: on the disk when it returns, with everything committed
   * before. Else it survives the end of this process, but not that of the machine.
   */
  commit(writtenBytes: number): void {
    const startedAtMs = performance.now();
    this.#commit.run();
    if (this.#full && this.#commitSeconds.length < maxCommitTimes) {
      this.#commitSeconds.push((performance.now() - startedAtMs) / 1000);
    }
    this.#writtenBytes += writtenBytes + transactionBytes;
  }

  /** How long the durable commits took since this was last asked, in seconds. */
  takeCommitSeconds(): number[] {
    const taken = this.#commitSeconds;
    if (taken.length > 0) this.#commitSeconds = [];
    return taken;
  }

  /** To be called before `begin`: SQLite does not change it within a transaction. */
  setDurable(durable: boolean): void {
    if (durable === this.#full) return;
    this.#db.exec(durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
    this.#full = durable;
  }

  /** Takes back a transaction; harmless when SQLite has done so already. */
  rollback(): void {
    if (this.#db.isTransaction) this.#rollback.run();
  }

  /** Whether another connection has committed since this was last asked. */
  foreignChange(): boolean {
    const version = this.#dataVersion.get()?.data_version ?? 0;
    if (version === this.#lastDataVersion) return false;
    this.#lastDataVersion = version;
    this.#lastForeignAtMs = performance.now();
    return true;
  }

  /**
   * Moves what has been written into the database file, now and then. It is
   * called when every answer is out, so that no commit waits for it.
   */
  checkpoint(): void {
    if (this.#writtenBytes < checkpointBytes) return;
    this.#writtenBytes = 0;
    this.#db.exec("PRAGMA wal_checkpoint(PASSIVE)");
  }

  /** Closes the file; the last process to do so removes the log beside it. */
  close(): void {
    this.#db.close();
  }

  #whenFree<T>(body: () => T): T {
    const startedAtMs = performance.now();
    for (;;) {
      try {
        return body();
      } catch (error) {
        if (!isBusy(error)) throw error;
        const waitedMs = performance.now() - startedAtMs;
        if (waitedMs > this.#lockLimitMs) {
          const text = `another process has held the embedded store's lock for ${Math.round(waitedMs)} ms`;
          throw new StoreError("unavailable", text, { cause: error });
        }
        this.#sleep(waitedMs < lockFastPhaseMs ? lockRetryMs : lockRetrySlowMs);
      }
    }
  }

  #sleep(ms: number): void {
    Atomics.wait(this.#cell, 0, 0, ms);
  }
}
