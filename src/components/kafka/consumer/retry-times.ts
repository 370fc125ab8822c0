/** Entries that wait for their time, the earliest first. Once it waits here, the clock may jump. */
import { timerMs } from "../../../timer.ts";
import type { Entry } from "./partition-log.ts";

/** See the head of this file. */
export class RetryTimes {
  readonly #due: (entries: readonly Entry[]) => void;
  #waiting: { readonly entry: Entry; readonly dueAt: number }[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** `due` is called with entries whose time has come, in the order of their times. */
  constructor(due: (entries: readonly Entry[]) => void) {
    this.#due = due;
  }

  add(entry: Entry): void {
    const dueAt = performance.now() + entry.notBeforeMs - Date.now();
    let low = 0;
    let high = this.#waiting.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#waiting[middle]!.dueAt <= dueAt) low = middle + 1;
      else high = middle;
    }
    this.#waiting.splice(low, 0, { entry, dueAt });
    if (low === 0) this.#arm();
  }

  /** Forgets entries. */
  remove(unwanted: (entry: Entry) => boolean): void {
    this.#waiting = this.#waiting.filter(({ entry }) => !unwanted(entry));
    this.#arm();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const first = this.#waiting[0];
    if (first === undefined) return;
    this.#timer = setTimeout(() => this.#ring(), timerMs(first.dueAt - performance.now()));
    this.#timer.unref();
  }

  #ring(): void {
    const now = performance.now();
    let count = 0;
    while (count < this.#waiting.length && this.#waiting[count]!.dueAt <= now) count += 1;
    const due = this.#waiting.splice(0, count);
    this.#arm();
    if (due.length > 0) this.#due(due.map(({ entry }) => entry));
  }
}
