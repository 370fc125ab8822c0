/**
 * Tells other processes that something was committed. Not part of the transaction it tells of: PostgreSQL
 * commits those that notify one after the other, over the whole server, and waits for the disk in each. What
 * is rung while an earlier ring is on its way goes with the next, once.
 */
import type { Database } from "./database.ts";

/** PostgreSQL takes 8,000 bytes. */
const maxPayload = 7000;

/** See the head of this file. */
export class Bell {
  readonly #database: Database;
  readonly #channel: string;
  readonly #waiting = new Set<string>();
  #ringing = false;

  constructor(database: Database, channel: string) {
    this.#database = database;
    this.#channel = channel;
  }

  /** Tells a word without spaces. Returns at once; one that gets lost is made up for by looking at intervals. */
  ring(word: string): void {
    this.#waiting.add(word);
    if (!this.#ringing) void this.#send();
  }

  async #send(): Promise<void> {
    this.#ringing = true;
    try {
      while (this.#waiting.size > 0) {
        let payload = "";
        for (const word of this.#waiting) {
          if (payload.length + word.length > maxPayload) break;
          payload += payload === "" ? word : ` ${word}`;
          this.#waiting.delete(word);
        }
        const call = { signal: this.#database.closing };
        await this.#database.query("SELECT pg_notify($1, $2)", [this.#channel, payload], call);
      }
    } catch {
      this.#waiting.clear();
    } finally {
      this.#ringing = false;
    }
  }
}
