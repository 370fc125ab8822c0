/**
 * Finds the notes that were left in a store, because a sidecar died, a broker was away or an answer
 * got lost, and has them published in the order in which they were made. Who finds one
 * of another sidecar claims it first, so that of several sidecars one publishes it.
 */
import { backoffMs } from "../../backoff.ts";
import { pause } from "../../pause.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { Connection } from "../connection.ts";
import { EtagMismatch, type Item, type StateDriver } from "./driver.ts";
import { claimOf, type Note, noteOf, notesPrefix, stateOf } from "./outbox-note.ts";
import { type NotePublisher, outboxCall } from "./outbox-publisher.ts";

/** What recovery needs to know. */
export interface OutboxRecoveryOptions {
  readonly connection: Connection<StateDriver>;
  readonly appId: string;
  readonly instanceId: string;
  readonly publisher: NotePublisher;
  readonly telemetry: Telemetry;
  /** Whether the outbox has this note in hand by itself. */
  readonly inHand: (key: string) => boolean;
}

/** A note of another sidecar that is older than this, in milliseconds, has been left. */
const leftAfterMs = 5000;
/** For how long a note belongs to who claimed it, in milliseconds. */
const claimMs = 30_000;
/** How often the store is looked through while nothing is known to be left, in milliseconds. */
const idleMs = 30_000;
/** After a look that left something. */
const retries = { firstMs: 250, lastMs: 10_000 };
/** Notes looked at together. */
const pageSize = 100;
/** Values in memory together, in bytes, unless one alone is longer. */
const maxBytes = 8 * 1024 * 1024;

/** See the head of this file. */
export class OutboxRecovery {
  readonly #options: OutboxRecoveryOptions;
  readonly #closing = new AbortController();
  #idle: AbortController | undefined;
  #running: Promise<void> | undefined;

  constructor(options: OutboxRecoveryOptions) {
    this.#options = options;
  }

  /** Begins to look, and does so until it is closed. Returns at once. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Something has been left: it is looked for at once. */
  wake(): void {
    this.#idle?.abort();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { connection, telemetry } = this.#options;
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      // Whoever wakes it from here on wants another look.
      this.#idle = new AbortController();
      try {
        const driver = await connection.ready(this.#closing.signal);
        failures = (await this.#look(driver)) ? 0 : failures + 1;
      } catch (err) {
        if (this.#closing.signal.aborted) return;
        failures += 1;
        const { component } = connection;
        telemetry.log.warn({ component, err }, "looking for notes of the outbox failed; trying again");
      }
      // A failure is waited for even if somebody wakes it: there is nothing else that could help.
      if (failures > 0) await pause(backoffMs(failures, retries), this.#closing.signal, { ref: false });
      else await pause(idleMs, this.#idle.signal, { ref: false });
    }
  }

  /** Publishes what was left; returns false when something stays that has to be looked at again soon. */
  async #look(driver: StateDriver): Promise<boolean> {
    const range = { prefix: notesPrefix(this.#options.appId), limit: pageSize, keysOnly: true };
    let all = true;
    let after: string | undefined;
    for (;;) {
      const page = await driver.list!({ ...range, after }, outboxCall());
      const left = page.items.filter(({ key }) => !this.#options.inHand(key));
      const ready = left.filter((item) => this.#isLeft(item));
      if (ready.length < left.length) all = false;
      for (const batch of batchesOf(ready)) {
        if (this.#closing.signal.aborted || !(await this.#publish(batch, driver))) all = false;
      }
      after = page.items.at(-1)?.key;
      if (!page.more || after === undefined) return all;
    }
  }

  async #publish(found: readonly Item[], driver: StateDriver): Promise<boolean> {
    const items = await driver.get(
      found.map(({ key }) => key),
      outboxCall(),
    );
    let all = true;
    const notes: Note[] = [];
    for (const item of items) {
      // Its writer, or another, was faster.
      if (item === undefined) continue;
      const note = await noteOf(item);
      const { component } = this.#options.connection;
      if (note === undefined) {
        this.#options.telemetry.log.error(
          { component, key: item.key },
          "a note of the outbox cannot be read",
        );
      } else if (await this.#claim(item, driver)) notes.push(note);
      else all = false;
    }
    return (await this.#options.publisher.settle(notes)) && all;
  }

  #isLeft(item: Item): boolean {
    const { writer, writtenAtMs, claimedUntilMs } = stateOf(item);
    if (writer === this.#options.instanceId) return true;
    return Date.now() > Math.max(writtenAtMs + leftAfterMs, claimedUntilMs);
  }

  async #claim(item: Item, driver: StateDriver): Promise<boolean> {
    if (stateOf(item).writer === this.#options.instanceId) return true;
    try {
      await driver.write([claimOf(item, Date.now() + claimMs)], outboxCall());
      return true;
    } catch (error) {
      if (error instanceof EtagMismatch) return false;
      throw error;
    }
  }
}

function* batchesOf(items: readonly Item[]): Generator<Item[]> {
  let batch: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    if (batch.length > 0 && bytes + item.valueBytes > maxBytes) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(item);
    bytes += item.valueBytes;
  }
  if (batch.length > 0) yield batch;
}
