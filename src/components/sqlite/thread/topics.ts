/** The log: topics, events, and those that enter it later. */
import { type Ask, eventFields } from "../messages.ts";
import type { Counters } from "./counters.ts";
import type { Statement, StoreFile } from "./file.ts";

/** Events that one transaction moves into their topics when they are due. */
const duePerMove = 500;

/** What an event costs beside its bytes, for `retentionBytes`: about the row and its place in the index. */
export const eventOverheadBytes = 64;

interface Topic {
  readonly id: number;
  readonly name: string;
  lastSeq: number;
  bytes: number;
  changed: boolean;
}

interface Scheduled {
  readonly id: number;
  readonly topic: number;
  readonly ttl: number | null;
  readonly raw: number;
  readonly key: string;
  readonly headers: string | null;
  readonly event: Uint8Array;
}

/** Appends events. Every method belongs in a transaction. */
export class TopicTable {
  readonly #counters: Counters;
  readonly #find: Statement<{ id: number }>;
  readonly #create: Statement<{ id: number }>;
  readonly #name: Statement<{ name: string }>;
  readonly #load: Statement<{ name: string; last_seq: number; bytes: number }>;
  readonly #save: Statement<unknown>;
  readonly #append: Statement<unknown>;
  readonly #schedule: Statement<unknown>;
  readonly #due: Statement<Scheduled>;
  readonly #unschedule: Statement<unknown>;
  readonly #nextDue: Statement<{ due_at: number }>;
  readonly #after: Statement<{ id: number; topic: number }>;
  /** Ids and names never change once they are committed. */
  readonly #ids = new Map<string, number>();
  readonly #names = new Map<number, string>();
  readonly #topics = new Map<number, Topic>();
  readonly #published = new Set<number>();
  #scheduled = false;

  constructor(file: StoreFile, counters: Counters) {
    this.#counters = counters;
    this.#find = file.statement("SELECT id FROM topics WHERE name = ?");
    this.#create = file.statement("INSERT INTO topics (name, last_seq, bytes) VALUES (?, 0, 0) RETURNING id");
    this.#name = file.statement("SELECT name FROM topics WHERE id = ?");
    this.#load = file.statement("SELECT name, last_seq, bytes FROM topics WHERE id = ?");
    this.#save = file.statement("UPDATE topics SET last_seq = ?, bytes = ? WHERE id = ?");
    this.#append = file.statement(
      `INSERT INTO events (id, topic, seq, published_at, expires_at, raw, key, headers, event)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#schedule = file.statement(
      "INSERT INTO scheduled (due_at, topic, ttl, raw, key, headers, event) VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    this.#due = file.statement("SELECT * FROM scheduled WHERE due_at <= ? ORDER BY due_at, id LIMIT ?");
    this.#unschedule = file.statement("DELETE FROM scheduled WHERE id = ?");
    this.#nextDue = file.statement("SELECT due_at FROM scheduled ORDER BY due_at LIMIT 1");
    this.#after = file.statement("SELECT id, topic FROM events WHERE id > ? ORDER BY id LIMIT ?");
  }

  /** The id of a topic; undefined when there is none. */
  find(name: string): number | undefined {
    const known = this.#ids.get(name);
    if (known !== undefined) return known;
    const found = this.#find.get(name)?.id;
    if (found !== undefined) this.#ids.set(name, found);
    return found;
  }

  /** The id of a topic, which is made if need be. */
  make(name: string): number {
    const found = this.find(name);
    if (found !== undefined) return found;
    const { id } = this.#create.get(name)!;
    this.#ids.set(name, id);
    return id;
  }

  /** The name of a topic that exists. */
  name(id: number): string {
    const known = this.#names.get(id);
    if (known !== undefined) return known;
    const name = this.#name.get(id)?.name ?? "";
    if (name !== "") this.#names.set(id, name);
    return name;
  }

  /** Appends or schedules events. Returns positions, 0 for what was scheduled. */
  publish({ topic, events }: Ask<"publish">, blobs: readonly Uint8Array[]): number[] {
    const id = this.make(topic);
    const now = Date.now();
    return blobs.map((event, index) => {
      const at = index * eventFields;
      // In the order of `eventFields`.
      const key = events[at] as string;
      const headers = events[at + 1] as string | undefined;
      const raw = events[at + 2] as number;
      const deliverAtMs = events[at + 3] as number | undefined;
      const ttl = events[at + 4] as number | undefined;
      if (deliverAtMs === undefined || deliverAtMs <= now) {
        return this.#enter(id, key, headers ?? null, raw, ttl ?? null, event, now);
      }
      this.#schedule.run(Math.ceil(deliverAtMs), id, ttl ?? null, raw, key, headers ?? null, event);
      this.#scheduled = true;
      return 0;
    });
  }

  /** Moves some events that are due into their topics. */
  moveDue(): void {
    const now = Date.now();
    for (const { id, topic, key, headers, raw, ttl, event } of this.#due.all(now, duePerMove)) {
      this.#enter(topic, key, headers, raw, ttl, event, now);
      this.#unschedule.run(id);
    }
  }

  /** When the next event is due. */
  nextDue(): number | undefined {
    return this.#nextDue.get()?.due_at;
  }

  /** The number of the newest event within its topic. */
  lastSeq(topic: number): number {
    return this.#topic(topic).lastSeq;
  }

  /** Bytes that a topic's events take. */
  bytes(topic: number): number {
    return this.#topic(topic).bytes;
  }

  /** Says that events have been removed. */
  shrink(topic: number, bytes: number): void {
    const state = this.#topic(topic);
    state.bytes = Math.max(0, state.bytes - bytes);
    state.changed = true;
  }

  /** Events after a position, in all topics; at most `limit`. */
  after(position: number, limit: number): { id: number; topic: number }[] {
    return this.#after.all(position, limit);
  }

  /** Topics that the transaction has published to. */
  get published(): ReadonlySet<number> {
    return this.#published;
  }

  /** Whether the transaction has scheduled something. */
  get scheduled(): boolean {
    return this.#scheduled;
  }

  /** Writes what changed, before the commit. */
  flush(): void {
    for (const topic of this.#topics.values()) {
      if (topic.changed) this.#save.run(topic.lastSeq, topic.bytes, topic.id);
    }
  }

  /** Forgets what belongs to the transaction, after it. */
  reset(committed: boolean): void {
    if (!committed) {
      // They may name what the transaction had made.
      this.#ids.clear();
      this.#names.clear();
    }
    this.#topics.clear();
    this.#published.clear();
    this.#scheduled = false;
  }

  #enter(
    topic: number,
    key: string,
    headers: string | null,
    raw: number,
    ttl: number | null,
    event: Uint8Array,
    now: number,
  ): number {
    const state = this.#topic(topic);
    const position = this.#counters.next("event");
    state.lastSeq += 1;
    state.bytes += event.length + eventOverheadBytes;
    state.changed = true;
    const expiresAt = ttl === null ? null : now + Math.ceil(ttl);
    this.#append.run(position, topic, state.lastSeq, now, expiresAt, raw, key, headers, event);
    this.#published.add(topic);
    return position;
  }

  #topic(id: number): Topic {
    let topic = this.#topics.get(id);
    if (!topic) {
      const row = this.#load.get(id);
      if (!row) throw new Error(`topic ${id} does not exist`);
      topic = { id, name: row.name, lastSeq: row.last_seq, bytes: row.bytes, changed: false };
      this.#topics.set(id, topic);
    }
    return topic;
  }
}
