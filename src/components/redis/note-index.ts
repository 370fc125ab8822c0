/**
 * The index of the notes of outboxes: each sidecar lists them all the time, and without it would look at every key of the database
 * for that. It is written with the notes, in one script. See `noteIndex`.
 */
import type { Call } from "../../blocks/call.ts";
import { notePrefix } from "../../blocks/state/keys.ts";
import { keysAfter, noteIndex } from "./key-scan.ts";
import type { Link, Reply } from "./link.ts";

/** Keys in one command. */
const stepKeys = 1000;
const repeat = { repeat: true } as const;

/** See the head of this file. */
export class NoteIndex {
  readonly #link: Link;
  /** Whether notes are in it that were there without it: an earlier version kept none. */
  #complete = false;

  constructor(link: Link) {
    this.#link = link;
  }

  /** Up to `limit` keys that begin with a prefix and come after a key, in ascending order of their bytes. */
  async after(
    prefix: string,
    after: string | undefined,
    limit: number,
    call: Call,
  ): Promise<readonly string[]> {
    if (!this.#complete) await this.#adopt(call);
    const first = after === undefined ? `[${prefix}` : `(${after}`;
    // No key has this byte: it is not UTF-8.
    const end = Buffer.concat([Buffer.from(`(${prefix}`), Buffer.of(0xff)]);
    const range = ["ZRANGEBYLEX", noteIndex, first, end, "LIMIT", 0, limit] as const;
    return ((await this.#link.send([...range], call, repeat)) as Reply[]).map(String);
  }

  /** Takes out keys of notes that are not there any more, because somebody else has removed them. */
  async forget(keys: readonly string[], call: Call): Promise<void> {
    if (keys.length > 0) await this.#link.send(["ZREM", noteIndex, ...keys], call, repeat);
  }

  async #adopt(call: Call): Promise<void> {
    const keys = await keysAfter(this.#link, notePrefix, undefined, call);
    for (let first = 0; first < keys.length; first += stepKeys) {
      const members = keys.slice(first, first + stepKeys).flatMap((key) => [0, key]);
      await this.#link.send(["ZADD", noteIndex, ...members], call, repeat);
    }
    this.#complete = true;
  }
}
