/** What happens without being asked for: other processes' changes, times that come, and cleaning up. */
import { timerMs } from "../../../timer.ts";
import type { WorkerSettings } from "../messages.ts";
import { Bell } from "./bell.ts";
import type { Tables } from "./tables.ts";

/** How often others are looked after, and things are cleaned up. */
const tickMs = 500;
/** A clock that goes back by less from one tick to the next is being set right, and is not followed. */
const leastJumpMs = 1000;

/** How often the file is asked for changes of others while somebody waits: the bell works, or not. */
const pollMs = 100;
const pollWithoutBellMs = 10;

/** New events of others that are looked at one by one; with more, everybody who waits looks. */
const maxTail = 1000;

/** What the engine does for it. */
export interface Loop {
  /** Runs soon: somebody is due. */
  wake(): void;
  /** A transaction of its own. It never throws. */
  transact(durable: boolean, body: () => void): void;
}

/** Timers of an open file, and the bell beside it. */
export class Housekeeping {
  readonly #tables: Tables;
  /** By how much the clock has been ahead of performance.now() at the most since the last tick. */
  #clockAheadMs = clockAheadMs();
  readonly #loop: Loop;
  readonly #bell: Bell;
  readonly #tick: NodeJS.Timeout;
  readonly #cleanedAtMs = new Map<number, number>();
  #others = false;
  #poll: NodeJS.Timeout | undefined;
  #sweeping: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs: number | undefined;
  #scheduledAtMs: number | undefined;
  #expiryAtMs: number | undefined;
  #seenEvent = 0;
  #seenWake = 0;
  #ticks = 0;

  constructor({ path, watchFiles }: WorkerSettings, tables: Tables, loop: Loop) {
    this.#tables = tables;
    this.#loop = loop;
    this.#bell = new Bell(`${path}-bell`, watchFiles, () => {
      if (this.#noticeOthers()) this.#loop.wake();
    });
    this.#tick = setInterval(() => this.#onTick(), tickMs);
    this.#guard(() => this.#lookAround());
  }

  /** After every turn of the engine. */
  afterRun(): void {
    const { receivers, watchers } = this.#tables;
    // The turn may have given deliveries a time by a clock that is put back before the next tick.
    this.#clockAheadMs = Math.max(this.#clockAheadMs, clockAheadMs());
    this.#noticeOthers();
    if (this.#tables.revisionsChanged) {
      this.#tables.revisionsChanged = false;
      this.#guard(() => this.#tables.read(() => watchers.compare()));
    }
    if (this.#tables.newsForOthers && this.#others) this.#bell.ring();
    this.#tables.newsForOthers = false;
    this.#arm();
    if (receivers.waiting || watchers.waiting) this.#poll ??= this.#nextPoll();
  }

  stop(): void {
    this.#bell.close();
    clearInterval(this.#tick);
    clearTimeout(this.#poll);
    clearTimeout(this.#timer);
    clearImmediate(this.#sweeping);
  }

  /**
   * What waits to be tried again has its time by the clock, which other processes go by, too. When the clock was put back, it
   * would wait for as long as that: its time is put back as well. Each process may do so, and then it only comes sooner.
   */
  #followClock(): void {
    const ahead = clockAheadMs();
    const backMs = this.#clockAheadMs - ahead;
    this.#clockAheadMs = ahead;
    if (backMs < leastJumpMs) return;
    const { deliveries, receivers } = this.#tables;
    this.#loop.transact(false, () => deliveries.bringForward(Math.ceil(backMs)));
    receivers.markAll();
    this.#loop.wake();
  }

  /** True when others have changed something. */
  #noticeOthers(): boolean {
    let changed = false;
    this.#guard(() => {
      changed = this.#tables.file.foreignChange();
      if (changed) this.#lookAround();
      else {
        this.#seenEvent = Math.max(this.#seenEvent, this.#tables.lastEvent);
        this.#seenWake = Math.max(this.#seenWake, this.#tables.lastWake);
      }
    });
    return changed;
  }

  /** Finds out who has to look, for what other processes did. */
  #lookAround(): void {
    const { receivers, topics, groups, counters, processes } = this.#tables;
    this.#tables.revisionsChanged = true;
    this.#tables.timesChanged = true;
    this.#tables.read(() => {
      if (receivers.waiting) {
        const tail = topics.after(this.#seenEvent, maxTail);
        if (tail.length === maxTail) receivers.markAll();
        else for (const topic of new Set(tail.map((event) => event.topic))) receivers.markTopic(topic);
        for (const group of groups.wokenAfter(this.#seenWake)) receivers.markGroup(group);
      }
      this.#others = processes.hasOthers;
      this.#seenEvent = counters.last("event");
      this.#seenWake = counters.last("wake");
    });
  }

  #nextPoll(): NodeJS.Timeout {
    return setTimeout(
      () => {
        this.#poll = undefined;
        if (this.#noticeOthers()) this.#loop.wake();
        const { receivers, watchers } = this.#tables;
        if (receivers.waiting || watchers.waiting) this.#poll ??= this.#nextPoll();
      },
      this.#bell.works ? pollMs : pollWithoutBellMs,
    );
  }

  /** Sets the timer for the next thing that has a time. */
  #arm(): void {
    if (this.#tables.timesChanged) {
      this.#tables.timesChanged = false;
      this.#guard(() => this.#tables.read(() => this.#readTimes()));
    }
    const times = [this.#scheduledAtMs, this.#expiryAtMs, this.#tables.receivers.nextDueMs()];
    const next = Math.min(...times.map((time) => time ?? Number.POSITIVE_INFINITY));
    if (next === this.#timerAtMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = next;
    if (next === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(() => this.#onTime(), timerMs(next - Date.now()));
  }

  #readTimes(): void {
    const { topics, items, watchers } = this.#tables;
    this.#scheduledAtMs = topics.nextDue();
    const expiries = [...watchers.stores()].map((store) => items.nextExpiry(store));
    const known = expiries.filter((time) => time !== undefined);
    this.#expiryAtMs = known.length === 0 ? undefined : Math.min(...known);
  }

  #onTime(): void {
    this.#timerAtMs = undefined;
    const { topics, items, watchers, receivers } = this.#tables;
    const now = Date.now();
    if ((this.#scheduledAtMs ?? Number.POSITIVE_INFINITY) <= now) {
      this.#loop.transact(true, () => topics.moveDue());
      this.#tables.timesChanged = true;
    }
    if ((this.#expiryAtMs ?? Number.POSITIVE_INFINITY) <= now) {
      this.#loop.transact(true, () => {
        for (const store of watchers.stores()) items.expire(store);
      });
      this.#tables.timesChanged = true;
    }
    receivers.markTimed(now);
    this.#loop.wake();
  }

  #onTick(): void {
    const { processes } = this.#tables;
    this.#ticks += 1;
    this.#guard(() => {
      this.#followClock();
      if (this.#noticeOthers()) this.#loop.wake();
      const dead = this.#tables.read(() => {
        this.#others = processes.hasOthers;
        return processes.dead();
      });
      if (dead.length > 0) {
        this.#loop.transact(false, () => {
          for (const id of dead) processes.release(id);
        });
        this.#loop.wake();
      }
      if (this.#others && this.#ticks % 2 === 0) this.#loop.transact(false, () => processes.beat());
      this.#cleanUp();
    });
    this.#arm();
    this.#sweep();
  }

  /** Makes deletions of items that have expired, and forgets old deletions. */
  #cleanUp(): void {
    const { items, cleanupIntervalsMs } = this.#tables;
    const now = performance.now();
    for (const [store, everyMs] of cleanupIntervalsMs) {
      if (now - (this.#cleanedAtMs.get(store) ?? 0) < everyMs) continue;
      const due = this.#tables.read(
        () => (items.nextExpiry(store) ?? Number.POSITIVE_INFINITY) <= Date.now(),
      );
      // While there are more, the next tick goes on.
      if (due) this.#loop.transact(true, () => items.expire(store));
      else this.#cleanedAtMs.set(store, now);
      if (due) this.#loop.wake();
    }
    if (this.#tables.read(() => items.hasOldDeletions())) {
      this.#loop.transact(false, () => items.forgetDeletions());
    }
  }

  /** Removes events and values that nobody wants, until there are no more. */
  #sweep(): void {
    this.#sweeping = undefined;
    const { retention, blobs } = this.#tables;
    this.#guard(() => {
      if (!retention.due && !this.#tables.read(() => blobs.hasGarbage())) return;
      let more = false;
      this.#loop.transact(false, () => {
        const events = retention.sweep();
        more = blobs.sweep() || events;
      });
      this.#tables.file.checkpoint();
      if (more) this.#sweeping ??= setImmediate(() => this.#sweep());
    });
  }

  /** A file that cannot be read now is told to those who call; here, the next time is waited for. */
  #guard(body: () => void): void {
    try {
      body();
    } catch {
      this.#tables.timesChanged = true;
    }
  }
}

function clockAheadMs(): number {
  return Date.now() - performance.now();
}
