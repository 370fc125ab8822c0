/** Values in chunks, outside their items. */
import { maxValueBytes } from "../../../blocks/state/driver.ts";
import { chunkBytes } from "../chunks.ts";
import type { Counters } from "./counters.ts";
import type { Statement, StoreFile } from "./file.ts";

/** Chunks that one transaction deletes at most: about 4 MiB, some milliseconds. */
const chunksPerSweep = 16;

/** Writes, reads and sweeps chunks. Every method belongs in a transaction. */
export class BlobTable {
  readonly #counters: Counters;
  readonly #process: () => number;
  readonly #insert: Statement<unknown>;
  readonly #forget: Statement<{ id: number }>;
  readonly #discard: Statement<unknown>;
  readonly #put: Statement<unknown>;
  readonly #chunk: Statement<{ data: Uint8Array<ArrayBuffer> }>;
  readonly #garbage: Statement<{ id: number }>;
  readonly #sweep: Statement<unknown>;

  /** `process` gives this process's id and makes sure that it is known to be alive. */
  constructor(file: StoreFile, counters: Counters, process: () => number) {
    this.#counters = counters;
    this.#process = process;
    this.#insert = file.statement("INSERT INTO blobs VALUES (?, ?)");
    this.#forget = file.statement("DELETE FROM blobs WHERE id = ? RETURNING id");
    this.#discard = file.statement(
      "INSERT INTO blobs VALUES (?, 0) ON CONFLICT (id) DO UPDATE SET process = 0",
    );
    this.#put = file.statement("INSERT INTO chunks VALUES (?, ?, ?)");
    this.#chunk = file.statement("SELECT data FROM chunks WHERE blob = ? AND n = ?");
    this.#garbage = file.statement("SELECT id FROM blobs WHERE process = 0 LIMIT 1");
    this.#sweep = file.statement(
      "DELETE FROM chunks WHERE blob = ?1 AND n IN (SELECT n FROM chunks WHERE blob = ?1 LIMIT ?2)",
    );
  }

  /** Begins a value; it is garbage when this process dies before `keep`. */
  begin(): number {
    const id = this.#counters.next("blob");
    this.#insert.run(id, this.#process());
    return id;
  }

  put(blob: number, index: number, chunk: Uint8Array): void {
    this.#put.run(blob, index, chunk);
  }

  /** Says that an item has the value now. False: it is garbage already. */
  keep(blob: number): boolean {
    return this.#forget.get(blob) !== undefined;
  }

  /** Writes a whole value. */
  write(value: Uint8Array): number {
    const id = this.#counters.next("blob");
    for (let index = 0; index * chunkBytes < value.length; index += 1) {
      this.#put.run(id, index, value.subarray(index * chunkBytes, (index + 1) * chunkBytes));
    }
    return id;
  }

  /** Leaves a value to the sweep. */
  discard(blob: number): void {
    this.#discard.run(blob);
  }

  chunk(blob: number, index: number): Uint8Array | undefined {
    return this.#chunk.get(blob, index)?.data;
  }

  /** The whole value, if `bytes` is no more than a value in one piece may have. */
  whole(blob: number, bytes: number): Uint8Array | undefined {
    if (bytes > maxValueBytes) return undefined;
    const value = new Uint8Array(bytes);
    for (let offset = 0, index = 0; offset < bytes; index += 1) {
      const chunk = this.chunk(blob, index);
      if (!chunk) throw new Error(`chunk ${index} of value ${blob} is missing`);
      value.set(chunk, offset);
      offset += chunk.length;
    }
    return value;
  }

  /** Whether there is something to sweep. */
  hasGarbage(): boolean {
    return this.#garbage.get() !== undefined;
  }

  /** Deletes some chunks that nobody has. True: there may be more. */
  sweep(): boolean {
    const garbage = this.#garbage.get();
    if (!garbage) return false;
    const { changes } = this.#sweep.run(garbage.id, chunksPerSweep);
    if (Number(changes) < chunksPerSweep) this.#forget.get(garbage.id);
    return true;
  }
}
