/** The sidecars that share the file, and what becomes of what a dead one held. */
import type { Counters } from "./counters.ts";
import type { DeliveryTable } from "./deliveries.ts";
import type { Statement, StoreFile } from "./file.ts";
import type { Group, GroupTable } from "./groups.ts";
import { hostId, isRunning, startOf } from "./liveness.ts";

/**
 * A process that we cannot ask the operating system about (it is in another
 * container) is dead when its row has not changed for so long.
 */
const silentElsewhereMs = 10_000;

/** The same for one that is there, and may be stopped or stuck. */
const silentHereMs = 30_000;

interface ProcessRow {
  readonly id: number;
  readonly host: string;
  readonly pid: number;
  readonly started: string;
  readonly beat: number;
}

/** Knows which processes live. Methods belong in a write transaction unless they say otherwise. */
export class ProcessTable {
  readonly #instanceId: string;
  readonly #counters: Counters;
  readonly #groups: GroupTable;
  readonly #deliveries: () => DeliveryTable;
  readonly #statements: ReturnType<typeof prepare>;
  readonly #host = hostId();
  readonly #started = startOf(process.pid);
  /** When the row of another process was last seen to change, by performance.now(). */
  readonly #lastSigns = new Map<number, { beat: number; atMs: number }>();
  #self: number | undefined;

  constructor(
    file: StoreFile,
    instanceId: string,
    counters: Counters,
    groups: GroupTable,
    deliveries: () => DeliveryTable,
  ) {
    this.#instanceId = instanceId;
    this.#counters = counters;
    this.#groups = groups;
    this.#deliveries = deliveries;
    this.#statements = prepare(file);
  }

  /** This process's id, which is made known if it is not. */
  self(): number {
    const id = this.#self ?? this.#counters.next("process");
    this.#statements.insert.run(id, this.#instanceId, this.#host, process.pid, this.#started);
    this.#self = id;
    return id;
  }

  /** Says that this process lives, if others need to know. */
  beat(): void {
    if (this.#self === undefined) return;
    if (Number(this.#statements.beat.run(this.#self).changes) === 0) this.self();
  }

  /** Whether other processes have the file open. Needs no write transaction. */
  get hasOthers(): boolean {
    return this.#self !== undefined && this.#statements.others.get(this.#self) !== undefined;
  }

  /** Adds a member of this process to a group. */
  join(group: Group): number {
    const id = this.#counters.next("member");
    this.#statements.addMember.run(id, group.id, this.self());
    return id;
  }

  /** Removes a member. Counted: what it held counts as an attempt. */
  leave(member: number, group: Group, counted: boolean): void {
    this.#statements.removeMember.run(member);
    if (group.ephemeral) this.#groups.drop(group);
    else this.#deliveries().giveBack(group, member, counted);
  }

  /** Processes that are dead. Needs no write transaction. */
  dead(): number[] {
    const now = performance.now();
    const rows = this.#statements.all.all().filter(({ id }) => id !== this.#self);
    return rows.filter((row) => this.#isDead(row, now)).map(({ id }) => id);
  }

  /** Takes everything from a process that is dead. */
  release(id: number): void {
    for (const { member, group_id } of this.#statements.membersOf.all(id)) {
      const group = this.#groups.find(group_id);
      if (group) this.leave(member, group, true);
      else this.#statements.removeMember.run(member);
    }
    this.#statements.orphan.run(id);
    this.#statements.remove.run(id);
    this.#lastSigns.delete(id);
  }

  /** Takes everything from this process, which is about to end. */
  releaseSelf(): void {
    if (this.#self === undefined) return;
    for (const { member, group_id } of this.#statements.membersOf.all(this.#self)) {
      const group = this.#groups.find(group_id);
      if (group) this.leave(member, group, false);
    }
    this.release(this.#self);
  }

  #isDead({ id, host, pid, started, beat }: ProcessRow, now: number): boolean {
    const here = host === this.#host;
    if (here && !isRunning(pid, started)) return true;
    const last = this.#lastSigns.get(id);
    if (last?.beat !== beat) {
      this.#lastSigns.set(id, { beat, atMs: now });
      return false;
    }
    return now - last.atMs > (here ? silentHereMs : silentElsewhereMs);
  }
}

function prepare(file: StoreFile) {
  const all: Statement<ProcessRow> = file.statement("SELECT id, host, pid, started, beat FROM processes");
  return {
    all,
    others: file.statement<unknown>("SELECT 1 FROM processes WHERE id <> ? LIMIT 1"),
    insert: file.statement("INSERT INTO processes VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING"),
    beat: file.statement("UPDATE processes SET beat = beat + 1 WHERE id = ?"),
    remove: file.statement("DELETE FROM processes WHERE id = ?"),
    addMember: file.statement("INSERT INTO members VALUES (?, ?, ?)"),
    removeMember: file.statement("DELETE FROM members WHERE id = ?"),
    membersOf: file.statement<{ member: number; group_id: number }>(
      "SELECT id AS member, group_id FROM members WHERE process = ?",
    ),
    orphan: file.statement("UPDATE blobs SET process = 0 WHERE process = ?"),
  };
}
