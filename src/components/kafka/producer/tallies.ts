/** The calls of `produce` that wait for the results of their events, each until its time is over. */
import { cancelled, KafkaError } from "../errors.ts";

/** Where an event is, or why it is not. */
export type Produced = { readonly partition: number; readonly offset: number } | KafkaError;

/** One call. */
export interface Tally {
  /** Nobody waits for what is still missing. */
  readonly over: boolean;
}

interface Open extends Tally {
  over: boolean;
  readonly results: Produced[];
  left: number;
  readonly endsAt: number;
  readonly promise: Promise<readonly Produced[]>;
  resolve(results: readonly Produced[]): void;
  reject(error: unknown): void;
}

const expiryCheckMs = 100;

/** See the head of this file. */
export class Tallies {
  readonly #limitMs: number;
  readonly #trouble: () => KafkaError | undefined;
  /** In the order in which they came. */
  readonly #open = new Set<Open>();
  #expiry: NodeJS.Timeout | undefined;

  /** `trouble` is asked what is wrong with the broker when the time of a call is over. */
  constructor(limitMs: number, trouble: () => KafkaError | undefined) {
    this.#limitMs = limitMs;
    this.#trouble = trouble;
  }

  /** Begins a call with so many events, one at least. */
  begin(count: number): Tally {
    const tally: Open = {
      results: new Array<Produced>(count),
      left: count,
      over: false,
      endsAt: performance.now() + this.#limitMs,
      ...Promise.withResolvers<readonly Produced[]>(),
    };
    this.#open.add(tally);
    return tally;
  }

  /** The results of all events of a call. Throws a KafkaError when the signal aborts, the time is over or all is closed. */
  async results(tally: Tally, signal: AbortSignal): Promise<readonly Produced[]> {
    const open = tally as Open;
    if (open.over) return await open.promise;
    this.#expiry ??= setInterval(() => this.#expire(), expiryCheckMs);
    const abort = () => this.#giveUp(open, cancelled(signal));
    signal.addEventListener("abort", abort, { once: true });
    try {
      return await open.promise;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** What became of one event. */
  finish(tally: Tally, index: number, result: Produced): void {
    const open = tally as Open;
    if (open.over) return;
    open.results[index] = result;
    open.left -= 1;
    if (open.left > 0) return;
    this.#end(open);
    open.resolve(open.results);
  }

  close(): void {
    clearInterval(this.#expiry);
    for (const tally of this.#open)
      this.#giveUp(tally, new KafkaError("unavailable", "the component is closed"));
  }

  #end(tally: Open): void {
    tally.over = true;
    this.#open.delete(tally);
    if (this.#open.size > 0) return;
    clearInterval(this.#expiry);
    this.#expiry = undefined;
  }

  #giveUp(tally: Open, error: KafkaError): void {
    if (tally.over) return;
    this.#end(tally);
    tally.reject(error);
  }

  #expire(): void {
    const now = performance.now();
    for (const tally of this.#open) {
      if (tally.endsAt > now) break;
      const trouble = this.#trouble();
      const why = trouble ? `: ${trouble.message}` : "";
      const message = `the broker did not take the events within ${this.#limitMs} ms${why}`;
      this.#giveUp(tally, new KafkaError("unavailable", message, trouble?.code, trouble));
    }
  }
}
