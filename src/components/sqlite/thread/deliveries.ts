/** What a group has begun to deliver and not settled. */
import { type Ask, type Plain, settleCodes } from "../messages.ts";
import type { Statement, StoreFile } from "./file.ts";
import type { Group, GroupTable, Progress } from "./groups.ts";
import type { TopicTable } from "./topics.ts";

/**
 * Deliveries of a group that may wait for an earlier event of their key. Behind
 * it, the group does not read on: other keys wait too.
 */
const maxBlocked = 10_000;

/** Events that one look reads past. */
const maxScanned = 1000;

/** Bytes of events in one answer to `receive`; the first event always goes in. */
const maxAnswerBytes = 8 * 1024 * 1024;

interface EventRow {
  readonly id: number;
  readonly topic: number;
  readonly raw: number;
  readonly key: string;
  readonly headers: string | null;
  readonly published_at: number;
  readonly expires_at: number | null;
  readonly event: Uint8Array;
}

/** A batch for one member. */
export interface Claimed {
  /** As in `receivedFields`. */
  readonly events: Plain[];
  readonly blobs: Uint8Array[];
  /** Of all blobs. */
  bytes: number;
  /** True: it stopped before the end of the log, so that looking again makes sense. */
  more: boolean;
}

const eventColumns = "id, topic, raw, key, headers, published_at, expires_at, event";

/** Hands out and settles events. Every method belongs in a transaction. */
export class DeliveryTable {
  readonly #topics: TopicTable;
  readonly #groups: GroupTable;
  readonly #statements: ReturnType<typeof prepare>;

  constructor(file: StoreFile, topics: TopicTable, groups: GroupTable) {
    this.#topics = topics;
    this.#groups = groups;
    this.#statements = prepare(file);
  }

  /** Gives a member up to `max` events. Undefined when the group was forgotten. */
  claim(group: Group, member: number, max: number): Claimed | undefined {
    const progress = this.#groups.progress(group.id);
    if (!progress) return undefined;
    const claimed: Claimed = { events: [], blobs: [], bytes: 0, more: false };
    const left = this.#claimDue(group, member, max, claimed);
    if (left > 0) this.#claimNew(group, progress, member, left, claimed);
    return claimed;
  }

  /** Settles events. Those that are not the member's are passed over. */
  settle(group: Group, { member, settlements }: Ask<"settle">): void {
    const now = Date.now();
    for (let at = 0; at < settlements.length; ) {
      const event = settlements[at]!;
      const code = settlements[at + 1];
      if (code === settleCodes.done) {
        const count = group.ordered ? 1 : runLength(settlements, at);
        if (group.ordered) {
          const gone = this.#statements.finish.get(group.id, event, member);
          if (gone && gone.lane !== null) this.#unblock(group.id, gone.lane);
        } else this.#statements.finishRun.run(group.id, event, event + count - 1, member);
        at += 3 * count;
        continue;
      }
      const returned = code === settleCodes.returned;
      const dueAt = returned ? 0 : now + Math.ceil(settlements[at + 2]!);
      const { changes } = this.#statements.release.run(dueAt, returned ? 1 : 0, group.id, event, member);
      if (changes !== 0) this.#groups.wake(group.id);
      at += 3;
    }
  }

  /** Gives back what a member holds. */
  giveBack(group: Group, member: number, counted: boolean): void {
    const { changes } = this.#statements.releaseAll.run(counted ? 0 : 1, group.id, member);
    if (changes !== 0) this.#groups.wake(group.id);
  }

  /** Makes deliveries that wait for their time due sooner by so many milliseconds. */
  bringForward(byMs: number): void {
    this.#statements.bringForward.run(byMs, Date.now());
  }

  /** When a waiting delivery of a group is due next. */
  nextDue(group: number): number | undefined {
    return this.#statements.nextDue.get(group)?.due_at;
  }

  /** Events that a group has not settled. */
  unsettled(group: Group): number {
    const progress = this.#groups.progress(group.id);
    if (!progress) return 0;
    let count = this.#statements.count.get(group.id)!.n;
    for (const topic of this.#groups.topicsOf(group)) {
      const next = this.#statements.seqAfter.get(topic, progress.cursor);
      if (next) count += this.#topics.lastSeq(topic) - next.seq + 1;
    }
    return count;
  }

  /** The oldest event of the log that a group may still want. */
  oldestWanted(group: Group): number {
    const cursor = this.#groups.progress(group.id)?.cursor ?? 0;
    return Math.min(cursor + 1, this.#statements.first.get(group.id)?.event_id ?? cursor + 1);
  }

  /** Takes events that are to be removed from a group that has not settled them; counts them. */
  forget(group: Group, events: ReadonlySet<number>, first: number, last: number): void {
    const progress = this.#groups.progress(group.id);
    if (!progress) return;
    let trimmed = 0;
    for (const event of events) if (event > progress.cursor) trimmed += 1;
    for (const row of this.#statements.between.all(group.id, first, last)) {
      if (!events.has(row.event_id)) continue;
      trimmed += 1;
      this.#statements.remove.run(group.id, row.event_id);
      if (row.owner === null && row.due_at === null) progress.blocked -= 1;
      if (row.lane !== null) this.#unblock(group.id, row.lane);
    }
    if (trimmed === 0) return;
    progress.trimmed += trimmed;
    progress.changed = true;
  }

  #claimDue(group: Group, member: number, max: number, claimed: Claimed): number {
    let left = max;
    for (const { event_id, attempt } of this.#statements.due.all(group.id, Date.now(), max)) {
      if (claimed.bytes >= maxAnswerBytes) {
        claimed.more = true;
        return 0;
      }
      if (!this.#add(event_id, attempt + 1, claimed)) continue;
      this.#statements.hold.run(member, attempt + 1, group.id, event_id);
      left -= 1;
    }
    return left;
  }

  #claimNew(group: Group, progress: Progress, member: number, max: number, claimed: Claimed): void {
    if (progress.blocked >= maxBlocked) return;
    if (group.topicId !== undefined && !group.ordered) {
      this.#claimRun(group.id, group.topicId, progress, member, max, claimed);
    } else this.#claimSelected(group, progress, member, max, claimed);
  }

  /** Claims what comes next in a topic, all of it. */
  #claimRun(
    group: number,
    topic: number,
    progress: Progress,
    member: number,
    max: number,
    claimed: Claimed,
  ): void {
    const from = progress.cursor;
    let count = 0;
    for (const row of this.#statements.eventsOf.iterate(topic, from, max)) {
      this.#push(row, 1, claimed);
      progress.cursor = row.id;
      count += 1;
      if (claimed.bytes >= maxAnswerBytes) break;
    }
    if (count === 0) return;
    progress.changed = true;
    this.#statements.insertRun.run(group, member, topic, from, progress.cursor);
  }

  /** Reads on in the log, and claims what the group reads and whose key is free. */
  #claimSelected(group: Group, progress: Progress, member: number, max: number, claimed: Claimed): void {
    const { ofTopic, ofAll } = this.#statements;
    const rows =
      group.topicId === undefined
        ? ofAll.iterate(progress.cursor, maxScanned)
        : ofTopic.iterate(group.topicId, progress.cursor, maxScanned);
    let left = max;
    let scanned = 0;
    for (const { id, topic, key } of rows) {
      if (left === 0 || progress.blocked >= maxBlocked || claimed.bytes >= maxAnswerBytes) return;
      scanned += 1;
      progress.cursor = id;
      progress.changed = true;
      if (group.topicId === undefined && !this.#groups.reads(group, topic)) continue;
      const lane = group.ordered && key !== "" ? key : null;
      if (lane !== null && this.#statements.inLane.get(group.id, lane)) {
        this.#statements.insert.run(group.id, id, null, 0, lane);
        progress.blocked += 1;
      } else if (this.#add(id, 1, claimed)) {
        this.#statements.insert.run(group.id, id, member, 1, lane);
        left -= 1;
      }
    }
    claimed.more = scanned === maxScanned;
  }

  #add(id: number, attempt: number, claimed: Claimed): boolean {
    const row = this.#statements.event.get(id);
    if (row) this.#push(row, attempt, claimed);
    return row !== undefined;
  }

  #push(row: EventRow, attempt: number, claimed: Claimed): void {
    const { id, topic, key, headers, raw, published_at, expires_at, event } = row;
    const name = this.#topics.name(topic);
    const expiresAt = expires_at ?? undefined;
    claimed.events.push(id, name, key, headers ?? undefined, raw, published_at, expiresAt, attempt);
    claimed.blobs.push(event);
    claimed.bytes += event.length;
  }

  /** Frees the next event of a key, when the one before it is settled. */
  #unblock(group: number, lane: string): void {
    const next = this.#statements.laneHead.get(group, lane);
    if (!next || next.owner !== null || next.due_at !== null) return;
    this.#statements.free.run(group, next.event_id);
    const progress = this.#groups.progress(group);
    if (progress) {
      progress.blocked -= 1;
      progress.changed = true;
    }
    this.#groups.wake(group);
  }
}

/** How many settlements from here on say that events are done which follow each other without a gap. */
function runLength(settlements: readonly number[], at: number): number {
  const first = settlements[at]!;
  let count = 1;
  while (
    settlements[at + 3 * count] === first + count &&
    settlements[at + 3 * count + 1] === settleCodes.done
  ) {
    count += 1;
  }
  return count;
}

interface Waiting {
  readonly event_id: number;
  readonly owner: number | null;
  readonly due_at: number | null;
  readonly lane: string | null;
}

function prepare(file: StoreFile) {
  const scan = (where: string): Statement<{ id: number; topic: number; key: string }> =>
    file.statement(`SELECT id, topic, key FROM events WHERE ${where} ORDER BY id LIMIT ?`);
  return {
    due: file.statement<{ event_id: number; attempt: number }>(
      `SELECT event_id, attempt FROM deliveries WHERE group_id = ? AND due_at <= ? AND due_at IS NOT NULL
       ORDER BY due_at, event_id LIMIT ?`,
    ),
    bringForward: file.statement("UPDATE deliveries SET due_at = max(0, due_at - ?) WHERE due_at > ?"),
    nextDue: file.statement<{ due_at: number }>(
      `SELECT due_at FROM deliveries WHERE group_id = ? AND due_at IS NOT NULL
       ORDER BY due_at, event_id LIMIT 1`,
    ),
    hold: file.statement(
      "UPDATE deliveries SET owner = ?, attempt = ?, due_at = NULL WHERE group_id = ? AND event_id = ?",
    ),
    ofTopic: scan("topic = ? AND id > ?"),
    ofAll: scan("id > ?"),
    event: file.statement<EventRow>(`SELECT ${eventColumns} FROM events WHERE id = ?`),
    eventsOf: file.statement<EventRow>(
      `SELECT ${eventColumns} FROM events WHERE topic = ? AND id > ? ORDER BY id LIMIT ?`,
    ),
    insertRun: file.statement(
      `INSERT INTO deliveries (group_id, event_id, owner, attempt)
       SELECT ?, id, ?, 1 FROM events WHERE topic = ? AND id > ? AND id <= ?`,
    ),
    insert: file.statement(
      "INSERT INTO deliveries (group_id, event_id, owner, attempt, lane) VALUES (?, ?, ?, ?, ?)",
    ),
    inLane: file.statement<unknown>("SELECT 1 FROM deliveries WHERE group_id = ? AND lane = ? LIMIT 1"),
    laneHead: file.statement<Waiting>(
      `SELECT event_id, owner, due_at, lane FROM deliveries INDEXED BY deliveries_lane
       WHERE group_id = ? AND lane = ? ORDER BY event_id LIMIT 1`,
    ),
    free: file.statement("UPDATE deliveries SET due_at = 0 WHERE group_id = ? AND event_id = ?"),
    finish: file.statement<{ lane: string | null }>(
      "DELETE FROM deliveries WHERE group_id = ? AND event_id = ? AND owner = ? RETURNING lane",
    ),
    finishRun: file.statement(
      "DELETE FROM deliveries WHERE group_id = ? AND event_id BETWEEN ? AND ? AND owner = ?",
    ),
    release: file.statement(
      `UPDATE deliveries SET owner = NULL, due_at = ?, attempt = attempt - ?
       WHERE group_id = ? AND event_id = ? AND owner = ?`,
    ),
    releaseAll: file.statement(
      `UPDATE deliveries SET owner = NULL, due_at = 0, attempt = attempt - ? WHERE group_id = ? AND owner = ?`,
    ),
    count: file.statement<{ n: number }>("SELECT count(*) AS n FROM deliveries WHERE group_id = ?"),
    first: file.statement<{ event_id: number }>(
      "SELECT event_id FROM deliveries WHERE group_id = ? ORDER BY event_id LIMIT 1",
    ),
    between: file.statement<Waiting>(
      `SELECT event_id, owner, due_at, lane FROM deliveries
       WHERE group_id = ? AND event_id BETWEEN ? AND ? ORDER BY event_id`,
    ),
    remove: file.statement("DELETE FROM deliveries WHERE group_id = ? AND event_id = ?"),
    seqAfter: file.statement<{ seq: number }>(
      "SELECT seq FROM events WHERE topic = ? AND id > ? ORDER BY id LIMIT 1",
    ),
  };
}
