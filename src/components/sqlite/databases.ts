/**
 * The databases of this process: one thread for each file, however many components use it. A file that is there is opened
 * with its component. One that is not is made by the first call: where no application uses it, there is neither
 * a thread nor a file.
 */
import { existsSync } from "node:fs";
import { access, constants, mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { type Attaching, Database, type OpenedBy } from "./database.ts";
import { asStoreError, StoreError } from "./errors.ts";
import type { Answer, Ask, WorkerSettings } from "./messages.ts";

/** For how long calls are refused when the file could not be opened, in milliseconds. */
const retryMs = 1000;

/** What a component tells the thread before anything else. */
export interface Attachment<K extends Attaching> {
  readonly kind: K;
  readonly ask: Ask<K>;
  /** How long its answer may take, in milliseconds. */
  readonly limitMs: number;
}

/** An open database, and what it answered to the attachment. */
interface Attached<K extends Attaching> {
  readonly database: Database;
  readonly answer: Answer<K>;
}

interface Entry {
  readonly opening: Promise<Database>;
  shares: number;
}

/** Opens each file once. */
export class Databases {
  readonly #entries = new Map<string, Entry>();

  /** A share in the database of a file. Throws StoreError when the file, or a directory for it, cannot be used. */
  async lease<K extends Attaching>(
    settings: WorkerSettings,
    attachment: Attachment<K>,
    by: OpenedBy,
  ): Promise<Lease<K>> {
    const lease = new Lease(this, settings, attachment, by.telemetry);
    try {
      if (await isThere(settings.path)) await lease.opened(by.signal);
    } catch (error) {
      await lease.release();
      throw error;
    }
    return lease;
  }

  /** Opens a file, if it is not open. Throws StoreError. Each call that succeeds is to be followed by one of `close`. */
  async open(settings: WorkerSettings, by: OpenedBy): Promise<Database> {
    const { path } = settings;
    let entry = this.#entries.get(path);
    if (!entry) {
      entry = { opening: Database.open(settings, by), shares: 0 };
      this.#entries.set(path, entry);
    }
    entry.shares += 1;
    try {
      return await entry.opening;
    } catch (error) {
      // The next one tries again.
      if (this.#entries.get(path) === entry) this.#entries.delete(path);
      throw error;
    }
  }

  /** Closes a file when nobody else uses it. */
  async close({ path }: WorkerSettings): Promise<void> {
    const entry = this.#entries.get(path);
    if (!entry) return;
    entry.shares -= 1;
    if (entry.shares > 0) return;
    this.#entries.delete(path);
    await (await entry.opening).close();
  }
}

/** A component's share in a database. */
export class Lease<K extends Attaching> {
  readonly #databases: Databases;
  readonly #settings: WorkerSettings;
  readonly #attachment: Attachment<K>;
  readonly #telemetry: OpenedBy["telemetry"];
  readonly #closing = new AbortController();
  #opening: Promise<Attached<K>> | undefined;

  constructor(
    databases: Databases,
    settings: WorkerSettings,
    attachment: Attachment<K>,
    telemetry: OpenedBy["telemetry"],
  ) {
    this.#databases = databases;
    this.#settings = settings;
    this.#attachment = attachment;
    this.#telemetry = telemetry;
  }

  /** The database, which is opened if it is not; `signal` gives that up. Throws StoreError. */
  opened(signal?: AbortSignal): Promise<Attached<K>> {
    this.#opening ??= this.#open(signal).catch((error: unknown) => {
      // A thread for each call that fails would be a busy machine.
      setTimeout(() => {
        this.#opening = undefined;
      }, retryMs).unref();
      throw error;
    });
    return this.#opening;
  }

  /** Gives the share back; the last one closes the file. */
  async release(): Promise<void> {
    this.#closing.abort();
    const attached = await this.#opening?.catch(() => undefined);
    if (attached) await this.#databases.close(this.#settings);
  }

  async #open(given?: AbortSignal): Promise<Attached<K>> {
    const { kind, ask, limitMs } = this.#attachment;
    const closing = this.#closing.signal;
    const signal = given ? AbortSignal.any([given, closing]) : closing;
    if (closing.aborted) throw new StoreError("unavailable", "the embedded store is closed");
    const database = await this.#databases.open(this.#settings, { signal, telemetry: this.#telemetry });
    try {
      const { answer } = await database.attach(kind, ask, { signal }, limitMs);
      return { database, answer };
    } catch (error) {
      await this.#databases.close(this.#settings);
      throw error;
    }
  }
}

/** Whether a file is there. If not, its directory is, and can be written to. Throws StoreError. */
async function isThere(path: string): Promise<boolean> {
  if (existsSync(path)) return true;
  const directory = dirname(path);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await access(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw asStoreError(error);
  }
  return false;
}
