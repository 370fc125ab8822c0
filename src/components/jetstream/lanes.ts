/** Messages by key, of which one is out at a time: what may be given out, and what waits for it. */
import { timerMs } from "../../timer.ts";
import { keyOfMessage } from "./events.ts";
import type { Held } from "./held.ts";

interface Lane {
  readonly key: string;
  /** In the order of the stream. */
  readonly waiting: Held[];
  /** The one that is ready or out, or that was given back to be counted and is on its way here again. */
  current: number | undefined;
  /** A repeated one is not given out before, on `performance.now()`. */
  notBeforeMs: number;
}

/** See the head of this file. */
export class Lanes {
  readonly #onReady: () => void;
  readonly #onTurn: (held: Held) => void;
  readonly #lanes = new Map<string, Lane>();
  /** By the sequence of each message that is not done. */
  readonly #laneOf = new Map<number, Lane>();
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Messages that are on their way here again, and since when on `performance.now()`; the oldest first. */
  readonly #coming = new Map<number, number>();
  #ready: Held[] = [];
  #open = false;

  /** `onTurn`: a message has waited for others of its key, and nobody can have had it before. */
  constructor(onReady: () => void, onTurn: (held: Held) => void) {
    this.#onReady = onReady;
    this.#onTurn = onTurn;
  }

  /** Messages that can be given out. */
  get ready(): number {
    return this.#open ? this.#ready.length : 0;
  }

  /** Messages that were given back to be counted, and come again at once when there is a request. */
  get coming(): number {
    return this.#coming.size;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Whether a message should have come again, and has not for so long. */
  isOverdue(afterMs: number): boolean {
    const [since] = this.#coming.values();
    return since !== undefined && performance.now() - since > afterMs;
  }

  /**
   * Everything that was stored earlier is here: from now on the first of each key may go. What was to come again and is not here
   * does not come any more.
   */
  open(here: ReadonlyMap<number, Held>): void {
    for (const sequence of [...this.#coming.keys()]) if (!here.has(sequence)) this.gone(sequence);
    this.#open = true;
    for (const lane of this.#lanes.values()) this.#advance(lane);
    if (this.#ready.length > 0) this.#onReady();
  }

  /** Something that was stored earlier may be missing: nothing is given out until `open`. */
  shut(): void {
    this.#open = false;
  }

  add(held: Held): void {
    const { sequence } = held;
    const known = this.#coming.delete(sequence) ? this.#laneOf.get(sequence) : undefined;
    if (known) {
      this.#whenDue(known, held);
      return;
    }
    const key = keyOfMessage(held.message);
    // Without a key a message is alone in its lane.
    const name = key === "" ? String(sequence) : `${held.message.subject}\n${key}`;
    let lane = this.#lanes.get(name);
    if (!lane) {
      lane = { key: name, waiting: [], current: undefined, notBeforeMs: 0 };
      this.#lanes.set(name, lane);
    }
    this.#laneOf.set(sequence, lane);
    const at = lane.waiting.findLastIndex((other) => other.sequence < sequence);
    lane.waiting.splice(at + 1, 0, held);
    if (this.#open) this.#advance(lane);
    if (this.ready > 0) this.#onReady();
  }

  /** Gives out up to `max` messages. */
  take(max: number): Held[] {
    return this.#open ? this.#ready.splice(0, max) : [];
  }

  /** A message that was to come again does not: it was given up, settled elsewhere, or removed from the stream. */
  gone(sequence: number): void {
    if (this.#coming.has(sequence)) this.done({ sequence });
  }

  /** The next of its key may go. */
  done({ sequence }: Pick<Held, "sequence">): void {
    const lane = this.#laneOf.get(sequence);
    this.#coming.delete(sequence);
    this.#laneOf.delete(sequence);
    if (!lane) return;
    lane.current = undefined;
    const [next] = lane.waiting;
    if (next) this.#onTurn(next);
    if (this.#open) this.#advance(lane);
    if (lane.current === undefined && lane.waiting.length === 0) this.#lanes.delete(lane.key);
    if (this.ready > 0) this.#onReady();
  }

  /** The message is given back to be counted; when it comes again it waits until its delay has passed. */
  again({ sequence }: Held, delayMs: number): void {
    const lane = this.#laneOf.get(sequence);
    if (!lane) return;
    const now = performance.now();
    lane.notBeforeMs = now + delayMs;
    this.#coming.set(sequence, now);
  }

  /** It is not certain that the message was given back: it is out as before. */
  notAgain({ sequence }: Held): void {
    this.#coming.delete(sequence);
  }

  /** The message is the first of its key as before. */
  returned(held: Held): void {
    this.#ready.unshift(held);
    this.#onReady();
  }

  /** Forgets everything. */
  clear(): void {
    this.#open = false;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#lanes.clear();
    this.#laneOf.clear();
    this.#coming.clear();
    this.#ready = [];
  }

  #advance(lane: Lane): void {
    if (lane.current !== undefined) return;
    const next = lane.waiting.shift();
    if (!next) return;
    lane.current = next.sequence;
    this.#ready.push(next);
  }

  #whenDue(lane: Lane, held: Held): void {
    const leftMs = lane.notBeforeMs - performance.now();
    if (leftMs <= 0) {
      this.#ready.push(held);
      this.#onReady();
      return;
    }
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer);
        this.#whenDue(lane, held);
      },
      timerMs(Math.ceil(leftMs)),
    );
    timer.unref();
    this.#timers.add(timer);
  }
}
