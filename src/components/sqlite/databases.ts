/** The databases that are open in this process: one thread for each file, however many components use it. */
import { Database, type OpenedBy } from "./database.ts";
import type { WorkerSettings } from "./messages.ts";

/** A share in an open database. */
export interface Lease {
  readonly database: Database;
  /** Gives the share back; the last one closes the file. */
  release(): Promise<void>;
}

interface Entry {
  readonly opening: Promise<Database>;
  shares: number;
}

/** Opens each file once. */
export class Databases {
  readonly #entries = new Map<string, Entry>();

  /** A share in the database of a file, which is opened if it is not. Throws StoreError. */
  async open(settings: WorkerSettings, by: OpenedBy): Promise<Lease> {
    const { path } = settings;
    let entry = this.#entries.get(path);
    if (!entry) {
      entry = { opening: Database.open(settings, by), shares: 0 };
      this.#entries.set(path, entry);
    }
    entry.shares += 1;
    try {
      const database = await entry.opening;
      return { database, release: () => this.#release(path, entry) };
    } catch (error) {
      // The next one tries again.
      if (this.#entries.get(path) === entry) this.#entries.delete(path);
      throw error;
    }
  }

  async #release(path: string, entry: Entry): Promise<void> {
    entry.shares -= 1;
    if (entry.shares > 0) return;
    if (this.#entries.get(path) === entry) this.#entries.delete(path);
    await (await entry.opening).close();
  }
}
