/** What goes on beside the calls: looks for what was not heard, signs of life, delayed events, retention. */
import { pause } from "../../../pause.ts";
import type { Log } from "../../../telemetry/log.ts";
import { timerMs } from "../../../timer.ts";
import type { Bell } from "../bell.ts";
import type { Database } from "../database.ts";
import type { Listener } from "../listener.ts";
import { groupWord, type Receivers, topicWord } from "./receivers.ts";
import type { Sidecars } from "./sidecars.ts";
import type { Tables } from "./tables.ts";

/** Between two looks while notifications arrive, and between two signs of life. */
const lookEveryMs = 1000;
const beatEveryMs = 1000;
/** Between two looks at what can be removed: when something happened, and in any case. */
const trimSoonMs = 1000;
const trimEveryMs = 30_000;
/** Events that one statement removes, or moves into their topics. */
const perTrim = 5000;
const perMove = 500;

/** See the head of this file. */
export class Keeper {
  readonly #database: Database;
  readonly #texts: {
    readonly look: string;
    readonly leave: string;
    readonly enter: string;
    readonly trim: string;
  };
  readonly #retention: { readonly ageMs: number; readonly bytes: number };
  readonly #sidecars: Sidecars;
  readonly #receivers: Receivers;
  readonly #listener: Listener;
  readonly #bell: Bell;
  readonly #log: Log;
  readonly #closing = new AbortController();
  /** Members that have left, which the server does not know. */
  readonly #gone = new Set<number>();
  #running: Promise<unknown> | undefined;
  #beatSoon: AbortController | undefined;
  #trimDue = true;
  #lastTrimMs = Number.NEGATIVE_INFINITY;
  #enterAtMs: number | undefined;
  #enterTimer: NodeJS.Timeout | undefined;
  #entering: Promise<void> | undefined;

  constructor(
    database: Database,
    tables: Tables,
    retention: { readonly ageMs: number; readonly bytes: number },
    sidecars: Sidecars,
    receivers: Receivers,
    listener: Listener,
    bell: Bell,
    log: Log,
  ) {
    this.#database = database;
    this.#retention = retention;
    this.#sidecars = sidecars;
    this.#receivers = receivers;
    this.#listener = listener;
    this.#bell = bell;
    this.#log = log;
    this.#texts = {
      look: `SELECT kind, id, value FROM ${tables.look}($1, $2)`,
      leave: `SELECT group_id FROM ${tables.leave}($1, false)`,
      enter: `SELECT moved, topics FROM ${tables.enter_due}($1)`,
      trim: `SELECT ${tables.trim}($1, $2, $3) AS more`,
    };
  }

  /** Begins. Returns at once. */
  start(): void {
    this.#running ??= Promise.all([
      this.#repeat(
        "looking for news",
        () => this.#look(),
        () => this.#pause(this.#lookMs()),
      ),
      this.#repeat(
        "the sign of life",
        () => this.#beat(),
        () => this.#pauseUntilBeat(),
      ),
      this.#repeat(
        "retention",
        () => this.#trim(),
        () => this.#pause(trimSoonMs),
      ),
    ]);
  }

  /** Shows a sign of life now: what the session lock says has changed. */
  beatSoon(): void {
    this.#beatSoon?.abort();
  }

  /** A member has left, and the server could not be told: it is told as soon as it can be. */
  leaveLater(member: number): void {
    this.#gone.add(member);
  }

  /** Something was published or settled. */
  trimSoon(): void {
    this.#trimDue = true;
  }

  /** Something is to enter its topic at a time, milliseconds since 1970. */
  enterAt(dueAtMs: number): void {
    if (this.#closing.signal.aborted || (this.#enterAtMs !== undefined && this.#enterAtMs <= dueAtMs)) return;
    clearTimeout(this.#enterTimer);
    this.#enterAtMs = dueAtMs;
    const inMs = timerMs(dueAtMs - Date.now());
    this.#enterTimer = setTimeout(() => {
      this.#enterAtMs = undefined;
      this.#entering ??= this.#enter().finally(() => {
        this.#entering = undefined;
      });
    }, inMs);
    this.#enterTimer.unref();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#beatSoon?.abort();
    clearTimeout(this.#enterTimer);
    await this.#running;
    await this.#entering;
  }

  async #repeat(what: string, work: () => Promise<void>, wait: () => Promise<void>): Promise<void> {
    const { signal } = this.#closing;
    let failing = false;
    while (!signal.aborted) {
      try {
        await work();
        failing = false;
      } catch (err) {
        if (!signal.aborted && !failing)
          this.#log.debug({ err, what }, "work beside the calls failed; trying again");
        failing = true;
      }
      await wait();
    }
  }

  async #pause(ms: number, soon = this.#closing): Promise<void> {
    const signal = AbortSignal.any([this.#closing.signal, soon.signal]);
    await pause(ms, signal, { ref: false });
  }

  #pauseUntilBeat(): Promise<void> {
    this.#beatSoon = new AbortController();
    return this.#pause(beatEveryMs, this.#beatSoon);
  }

  #lookMs(): number {
    return this.#listener.hears ? lookEveryMs : Math.min(lookEveryMs, this.#database.settings.pollMs);
  }

  async #look(): Promise<void> {
    const { topics, groups } = this.#receivers;
    type Row = { kind: string; id: number; value: number | null };
    const call = { signal: this.#closing.signal };
    const rows = await this.#database.query<Row>(this.#texts.look, [topics, groups], call);
    for (const { kind, id, value } of rows) {
      if (value === null) continue;
      if (kind === "topic") this.#receivers.found(id, value);
      else if (kind === "scheduled") this.enterAt(Date.now() + value);
      // Those whose time comes before the next look wait for it themselves, once they have looked.
      else if (value <= lookEveryMs) this.#receivers.wakeGroup(id);
    }
    this.#receivers.wakePatterns();
  }

  async #beat(): Promise<void> {
    const call = { signal: this.#closing.signal };
    const { freed, lost } = await this.#sidecars.beat(this.#listener.locked, call);
    for (const group of freed) this.#free(group);
    if (lost) {
      this.#log.warn("other sidecars have taken this one for dead; its subscriptions begin anew");
      // The lock is that of the old number.
      this.#listener.reconnect();
      this.#receivers.wakeAll();
    }
    for (const member of this.#gone) {
      type Row = { group_id: number | null };
      const [row] = await this.#database.query<Row>(this.#texts.leave, [member], call);
      this.#gone.delete(member);
      if (row?.group_id != null) this.#free(row.group_id);
    }
  }

  #free(group: number): void {
    this.#receivers.wakeGroup(group);
    this.#bell.ring(groupWord(group));
  }

  async #enter(): Promise<void> {
    const call = { signal: this.#closing.signal };
    try {
      for (;;) {
        type Row = { moved: number; topics: number[] };
        const [row] = await this.#database.query<Row>(this.#texts.enter, [perMove], call);
        for (const topic of row!.topics) {
          this.#receivers.wakeTopic(Number(topic));
          this.#bell.ring(topicWord(Number(topic)));
        }
        if (row!.moved < perMove) return;
      }
    } catch (err) {
      // The next look finds what is due.
      if (!this.#closing.signal.aborted)
        this.#log.debug({ err }, "moving delayed events failed; trying again");
    }
  }

  async #trim(): Promise<void> {
    const { ageMs, bytes } = this.#retention;
    const nowMs = performance.now();
    const everyMs = Math.min(trimEveryMs, Math.max(100, ageMs / 10));
    if (!this.#trimDue && nowMs - this.#lastTrimMs < everyMs) return;
    this.#trimDue = false;
    this.#lastTrimMs = nowMs;
    const call = { signal: this.#closing.signal };
    for (let more = true; more; ) {
      const [row] = await this.#database.query<{ more: boolean }>(
        this.#texts.trim,
        [ageMs, bytes, perTrim],
        call,
      );
      more = row!.more;
    }
  }
}
