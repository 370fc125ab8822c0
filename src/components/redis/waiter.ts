/** Waits for news in streams, on a connection of its own: what blocks holds up nothing else. */
import type { Redis } from "ioredis";
import { backoffMs } from "../../backoff.ts";
import type { Link } from "./link.ts";

/** How long Redis holds an answer back when there is no news, in milliseconds. */
const blockMs = 5000;
/** How much later than that an answer may come. */
const lateMs = 3000;
const retries = { firstMs: 50, lastMs: 1000 };

/** See the head of this file. */
export class Waiter {
  readonly #link: Link;
  readonly #key: string;
  readonly #onNews: (keys: readonly string[] | undefined) => void;
  #connection: Redis | undefined;
  #waiting = false;
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  /** `key` says which server of a cluster. `onNews` gets the keys that have news; undefined when nobody knows. */
  constructor(link: Link, key: string, onNews: (keys: readonly string[] | undefined) => void) {
    this.#link = link;
    this.#key = key;
    this.#onNews = onNews;
  }

  /**
   * Tells when a stream has an entry after the id given. While an earlier call waits, that is what is waited for:
   * it knows no less, for its ids are no later.
   */
  arm(streams: ReadonlyMap<string, string>): void {
    if (this.#waiting || this.#closed || this.#retry || streams.size === 0) return;
    this.#waiting = true;
    void this.#wait(streams);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#connection?.disconnect();
  }

  async #wait(streams: ReadonlyMap<string, string>): Promise<void> {
    let keys: readonly string[] | undefined;
    let late: NodeJS.Timeout | undefined;
    try {
      // To end it in peace takes another end that answers.
      late = setTimeout(() => this.#connection?.stream?.destroy(), blockMs + lateMs);
      late.unref();
      const connection = await this.#connect();
      const args = ["COUNT", 1, "BLOCK", blockMs, "STREAMS", ...streams.keys(), ...streams.values()];
      const answer = (await connection.callBuffer("XREAD", args)) as readonly (readonly Buffer[])[] | null;
      keys = (answer ?? []).map(([key]) => String(key));
      this.#failures = 0;
    } catch {
      this.#connection?.disconnect();
      this.#connection = undefined;
      this.#failures += 1;
    } finally {
      clearTimeout(late);
    }
    this.#waiting = false;
    if (this.#closed) return;
    if (keys) {
      this.#onNews(keys);
      return;
    }
    const delayMs = backoffMs(this.#failures, retries);
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#onNews(undefined);
    }, delayMs);
    this.#retry.unref();
  }

  async #connect(): Promise<Redis> {
    if (this.#connection?.status === "ready") return this.#connection;
    this.#connection?.disconnect();
    const connection = this.#link.separate(this.#key);
    this.#connection = connection;
    // What is wrong shows in the command that fails.
    connection.on("error", () => {});
    await connection.connect();
    if (this.#closed) connection.disconnect();
    return connection;
  }
}
