/** Consumer groups: who reads what, and how far they are. */
import { OrderConflict, UnknownPosition } from "../../../blocks/pubsub/driver.ts";
import { isPattern, matchesPattern } from "../../../blocks/pubsub/topics.ts";
import type { Ask, StartRow } from "../messages.ts";
import type { Counters } from "./counters.ts";
import type { Statement, StoreFile } from "./file.ts";
import type { TopicTable } from "./topics.ts";

/** A group, as far as it does not change while it has members. */
export interface Group {
  readonly id: number;
  /** A topic, or a pattern. */
  readonly topic: string;
  /** The topic's id; undefined for a pattern. */
  readonly topicId: number | undefined;
  readonly ordered: boolean;
  /** Whether it ends with its only member. */
  readonly ephemeral: boolean;
}

/** How far a group is, within the running transaction. */
export interface Progress {
  /** The last event of the log that the group has looked at. */
  cursor: number;
  /** Deliveries that wait for an earlier event of their key. */
  blocked: number;
  /** Events that retention removed before they were settled. */
  trimmed: number;
  woken: number;
  changed: boolean;
}

interface GroupRow {
  readonly id: number;
  readonly topic: string;
  readonly name: string | null;
  readonly ordered: number;
  readonly pattern: number;
}

const columns = "id, topic, name, ordered, pattern";

/** Makes, finds and changes groups. Every method belongs in a transaction. */
export class GroupTable {
  readonly #counters: Counters;
  readonly #topics: TopicTable;
  readonly #statements: ReturnType<typeof prepare>;
  readonly #progress = new Map<number, Progress>();
  readonly #woken = new Set<number>();

  constructor(file: StoreFile, counters: Counters, topics: TopicTable) {
    this.#counters = counters;
    this.#topics = topics;
    this.#statements = prepare(file);
  }

  /**
   * Finds or makes the group of a subscription. Throws OrderConflict and UnknownPosition.
   */
  make({ topic, group, start, ordered }: Ask<"join">): Group {
    if (!isPattern(topic)) this.#topics.make(topic);
    const found = group === undefined ? undefined : this.#statements.byName.get(topic, group);
    if (found && found.ordered !== Number(ordered)) {
      if (this.#statements.memberOf.get(found.id)) {
        throw new OrderConflict(`the group has members that want ${ordered ? "no " : ""}order`);
      }
      this.#reorder(found.id, ordered);
    }
    if (found) return this.#toGroup({ ...found, ordered: Number(ordered) });
    const cursor = this.#startCursor(start);
    const pattern = Number(isPattern(topic));
    return this.#toGroup(
      this.#statements.insert.get(topic, pattern, group ?? null, Number(ordered), cursor)!,
    );
  }

  /** A group that exists; undefined when it was forgotten. */
  find(id: number): Group | undefined {
    const row = this.#statements.byId.get(id);
    return row && this.#toGroup(row);
  }

  /** Every group that reads a topic. */
  readersOf(topicId: number): Group[] {
    const topic = this.#topics.name(topicId);
    const patterns = this.#statements.patterns.all().filter((row) => matchesPattern(row.topic, topic));
    return [...this.#statements.byTopic.all(topic), ...patterns].map((row) => this.#toGroup(row));
  }

  /** Whether a group reads a topic. */
  reads(group: Group, topicId: number): boolean {
    if (group.topicId !== undefined) return group.topicId === topicId;
    return matchesPattern(group.topic, this.#topics.name(topicId));
  }

  /** The topics that a group reads, as far as they exist. */
  topicsOf(group: Group): number[] {
    if (group.topicId !== undefined) return [group.topicId];
    const topics = this.#statements.topics.all();
    return topics.filter(({ name }) => matchesPattern(group.topic, name)).map(({ id }) => id);
  }

  /** Forgets a group and its deliveries. */
  drop(group: Group): void {
    this.#statements.dropDeliveries.run(group.id);
    this.#statements.drop.run(group.id);
    this.#progress.delete(group.id);
  }

  /** How far a group is. Undefined when the group was forgotten. */
  progress(id: number): Progress | undefined {
    let progress = this.#progress.get(id);
    if (!progress) {
      const row = this.#statements.progress.get(id);
      if (!row) return undefined;
      progress = { ...row, changed: false };
      this.#progress.set(id, progress);
    }
    return progress;
  }

  /** Says that deliveries of a group are free, or will be: those who wait for them should look, in all processes. */
  wake(id: number): void {
    const progress = this.progress(id);
    if (!progress || this.#woken.has(id)) return;
    progress.woken = this.#counters.next("wake");
    progress.changed = true;
    this.#woken.add(id);
  }

  /** Groups that the transaction has woken. */
  get woken(): ReadonlySet<number> {
    return this.#woken;
  }

  /** Groups woken after a number that `Counters` gave. */
  wokenAfter(wake: number): number[] {
    return this.#statements.wokenAfter.all(wake).map(({ id }) => id);
  }

  /** Writes what changed, before the commit. */
  flush(): void {
    for (const [id, { cursor, blocked, trimmed, woken, changed }] of this.#progress) {
      if (changed) this.#statements.save.run(cursor, blocked, trimmed, woken, id);
    }
  }

  /** Forgets what belongs to the transaction, after it. */
  reset(): void {
    this.#progress.clear();
    this.#woken.clear();
  }

  #startCursor(start: StartRow): number {
    const last = this.#counters.last("event");
    switch (start.at) {
      case "earliest":
        return 0;
      case "latest":
        return last;
      case "time":
        return this.#lastBefore(start.timeMs, last);
      case "position":
        if (start.position > last) throw new UnknownPosition("the position is not one of this store");
        return start.position;
    }
  }

  /** The position before the first event of the log that was published at a time or later. */
  #lastBefore(timeMs: number, last: number): number {
    let low = 0;
    let high = last;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const event = this.#statements.eventFrom.get(middle + 1);
      if (event && event.published_at < timeMs) low = event.id;
      else high = middle;
    }
    return low;
  }

  /** Turns order on or off in a group without members. */
  #reorder(id: number, ordered: boolean): void {
    this.#statements.setOrdered.run(Number(ordered), id);
    if (ordered) {
      this.#statements.setLanes.run(id);
      this.#statements.blockLanes.run({ id });
    } else this.#statements.clearLanes.run(id);
    this.#statements.countBlocked.run({ id });
    this.#progress.delete(id);
  }

  #toGroup({ id, topic, name, ordered, pattern }: GroupRow): Group {
    const topicId = pattern === 1 ? undefined : this.#topics.make(topic);
    return { id, topic, topicId, ordered: ordered === 1, ephemeral: name === null };
  }
}

function prepare(file: StoreFile) {
  const select = (rest: string): Statement<GroupRow> =>
    file.statement(`SELECT ${columns} FROM groups ${rest}`);
  return {
    byName: select("WHERE topic = ? AND name = ?"),
    byId: select("WHERE id = ?"),
    byTopic: select("WHERE topic = ? AND pattern = 0"),
    patterns: select("WHERE pattern = 1"),
    topics: file.statement<{ id: number; name: string }>("SELECT id, name FROM topics"),
    insert: file.statement<GroupRow>(
      `INSERT INTO groups (topic, pattern, name, ordered, cursor, blocked, trimmed, woken)
       VALUES (?, ?, ?, ?, ?, 0, 0, 0) RETURNING ${columns}`,
    ),
    memberOf: file.statement<{ id: number }>("SELECT id FROM members WHERE group_id = ? LIMIT 1"),
    drop: file.statement("DELETE FROM groups WHERE id = ?"),
    dropDeliveries: file.statement("DELETE FROM deliveries WHERE group_id = ?"),
    progress: file.statement<Omit<Progress, "changed">>(
      "SELECT cursor, blocked, trimmed, woken FROM groups WHERE id = ?",
    ),
    save: file.statement("UPDATE groups SET cursor = ?, blocked = ?, trimmed = ?, woken = ? WHERE id = ?"),
    wokenAfter: file.statement<{ id: number }>("SELECT id FROM groups WHERE woken > ?"),
    eventFrom: file.statement<{ id: number; published_at: number }>(
      "SELECT id, published_at FROM events WHERE id >= ? ORDER BY id LIMIT 1",
    ),
    setOrdered: file.statement("UPDATE groups SET ordered = ? WHERE id = ?"),
    setLanes: file.statement(
      `UPDATE deliveries SET lane = (SELECT nullif(key, '') FROM events WHERE events.id = event_id)
       WHERE group_id = ?`,
    ),
    blockLanes: file.statement(
      `UPDATE deliveries SET due_at = NULL WHERE group_id = :id AND lane IS NOT NULL AND event_id >
       (SELECT min(event_id) FROM deliveries AS d WHERE d.group_id = :id AND d.lane = deliveries.lane)`,
    ),
    clearLanes: file.statement(
      "UPDATE deliveries SET lane = NULL, due_at = coalesce(due_at, 0) WHERE group_id = ?",
    ),
    countBlocked: file.statement(
      `UPDATE groups SET blocked = (SELECT count(*) FROM deliveries
       WHERE group_id = :id AND owner IS NULL AND due_at IS NULL) WHERE id = :id`,
    ),
  };
}
