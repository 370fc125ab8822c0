/**
 * Publishes. What callers give while a topic's last statement is on its way goes with the next one, in the
 * order of the calls: one statement and one wait for the disk for all of them.
 */
import type { Call } from "../../../blocks/call.ts";
import type { Outgoing, Published } from "../../../blocks/pubsub/driver.ts";
import type { Database } from "../database.ts";
import { PostgresError } from "../errors.ts";
import { type EventRow, toRow } from "./events.ts";
import type { Tables } from "./tables.ts";

/** What one statement has at most; more only when one call brings it. */
const maxBatchEvents = 1000;
const maxBatchBytes = 4 * 1024 * 1024;

/** What publishing makes happen. */
export interface PublisherEvents {
  /** A topic has news; `others`: there are other sidecars to tell. */
  onPublished(topicId: number, others: boolean): void;
  /** Something is to enter its topic at a time, milliseconds since 1970. */
  onScheduled(dueAtMs: number): void;
  /** The sidecar's number; 0 when it has none. */
  readonly sidecar: number;
}

interface Pending {
  readonly rows: readonly EventRow[];
  readonly data: readonly Uint8Array[];
  readonly bytes: number;
  readonly resolve: (published: readonly Published[]) => void;
  readonly reject: (error: unknown) => void;
}

interface Queue {
  readonly topic: string;
  readonly waiting: Pending[];
}

/** See the head of this file. */
export class Publisher {
  readonly #database: Database;
  readonly #text: string;
  readonly #events: PublisherEvents;
  /** Topics with a statement on its way. */
  readonly #queues = new Map<string, Queue>();

  constructor(database: Database, tables: Tables, events: PublisherEvents) {
    this.#database = database;
    this.#text = `SELECT topic_id, first_seq, others FROM ${tables.publish}($1, $2, $3, $4, $5, $6)`;
    this.#events = events;
  }

  /** As in PubSubDriver. */
  publish(topic: string, events: readonly Outgoing[], { signal }: Call): Promise<readonly Published[]> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      let bytes = 0;
      const rows = events.map(toRow);
      const data = events.map(({ event }) => event.data);
      for (const { l } of rows) bytes += l;
      const done = () => signal.removeEventListener("abort", abort);
      const pending: Pending = {
        rows,
        data,
        bytes,
        resolve: (published) => {
          done();
          resolve(published);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      const abort = () => {
        const waiting = this.#queues.get(topic)?.waiting;
        const index = waiting?.indexOf(pending) ?? -1;
        if (index >= 0) waiting!.splice(index, 1);
        pending.reject(signal.reason);
      };
      signal.addEventListener("abort", abort, { once: true });
      const queue = this.#queues.get(topic);
      if (queue) {
        queue.waiting.push(pending);
        return;
      }
      const fresh = { topic, waiting: [pending] };
      this.#queues.set(topic, fresh);
      void this.#flush(fresh);
    });
  }

  async #flush(queue: Queue): Promise<void> {
    // Whoever publishes in the same turn goes with it.
    await Promise.resolve();
    while (queue.waiting.length > 0) {
      const batch = take(queue.waiting);
      try {
        await this.#send(queue.topic, batch);
      } catch (error) {
        // One of them may be at fault for all: each on its own, still in their order.
        const divide = batch.length > 1 && error instanceof PostgresError && error.errorClass === "refused";
        if (!divide) for (const pending of batch) pending.reject(error);
        else for (const pending of batch) await this.#send(queue.topic, [pending]).catch(pending.reject);
      }
    }
    this.#queues.delete(queue.topic);
  }

  async #send(topic: string, batch: readonly Pending[]): Promise<void> {
    const now: EventRow[] = [];
    const later: EventRow[] = [];
    let offset = 0;
    let nowBytes = 0;
    let nextDue: number | undefined;
    for (const { rows } of batch) {
      for (const row of rows) {
        row.f = offset;
        offset += row.l;
        if (row.d === undefined) {
          now.push(row);
          nowBytes += row.l;
          row.i = now.length;
        } else {
          later.push(row);
          row.i = later.length;
          nextDue = Math.min(nextDue ?? row.d, row.d);
        }
      }
    }
    const data = Buffer.concat(
      batch.flatMap((pending) => pending.data),
      offset,
    );
    const values = [topic, JSON.stringify(now), JSON.stringify(later), data, nowBytes, this.#events.sidecar];
    type Answer = { topic_id: number; first_seq: number; others: boolean };
    // Not the callers' signals: what is sent is done, whoever waits for it.
    const [answer] = await this.#database.query<Answer>(this.#text, values, {
      signal: this.#database.closing,
    });
    const { topic_id, first_seq, others } = answer!;
    for (const { rows, resolve } of batch) {
      resolve(
        rows.map(({ d, i }) => ({ position: d === undefined ? `${topic_id}.${first_seq + i - 1}` : "" })),
      );
    }
    if (now.length > 0) this.#events.onPublished(topic_id, others);
    if (nextDue !== undefined) this.#events.onScheduled(nextDue);
  }
}

/** The first calls that fit in one statement; at least one. */
function take(waiting: Pending[]): Pending[] {
  let count = 0;
  let events = 0;
  let bytes = 0;
  for (const pending of waiting) {
    events += pending.rows.length;
    bytes += pending.bytes;
    if (count > 0 && (events > maxBatchEvents || bytes > maxBatchBytes)) break;
    count += 1;
  }
  return waiting.splice(0, count);
}
