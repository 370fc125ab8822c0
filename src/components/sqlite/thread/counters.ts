/** Numbers that only grow, over all processes and restarts. */
import type { Statement, StoreFile } from "./file.ts";

/** What is counted: positions of events, revisions of items, members, wake-ups of groups, values in chunks, processes. */
export type Counter = "event" | "revision" | "member" | "wake" | "blob" | "process";

/** Counters within the running transaction. */
export class Counters {
  readonly #read: Statement<{ value: number }>;
  readonly #write: Statement<unknown>;
  readonly #values = new Map<Counter, number>();
  readonly #changed = new Set<Counter>();

  constructor(file: StoreFile) {
    this.#read = file.statement("SELECT value FROM counters WHERE name = ?");
    this.#write = file.statement(
      "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
  }

  /** The last number given. */
  last(counter: Counter): number {
    let value = this.#values.get(counter);
    if (value === undefined) {
      value = this.#read.get(counter)?.value ?? 0;
      this.#values.set(counter, value);
    }
    return value;
  }

  /** The next number: 1 or more. Only within a write transaction. */
  next(counter: Counter): number {
    const value = this.last(counter) + 1;
    this.#values.set(counter, value);
    this.#changed.add(counter);
    return value;
  }

  /** Whether the transaction gave a number. */
  changed(counter: Counter): boolean {
    return this.#changed.has(counter);
  }

  /** Writes what changed, before the commit. */
  flush(): void {
    for (const counter of this.#changed) this.#write.run(counter, this.last(counter));
  }

  /** Forgets everything, after the transaction. */
  reset(): void {
    this.#values.clear();
    this.#changed.clear();
  }
}
