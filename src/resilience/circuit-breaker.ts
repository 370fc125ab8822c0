/** A circuit breaker: calls that would fail are not made, until one shows that they go well again. */
import { type Counts, noCounts, type Trip } from "./trip.ts";

/** How a breaker behaves; the defaults are Dapr's. */
export interface BreakerSettings {
  /** Calls at once while it is tried whether they go well again, and so many in a row that must: 1 or more. */
  readonly maxRequests: number;
  /** When what was counted is forgotten while calls go well, in milliseconds; 0: never. */
  readonly intervalMs: number;
  /** How long no call is made, in milliseconds. */
  readonly timeoutMs: number;
  /** When calls are not made any more. */
  readonly trip: Trip;
}

/** What state a breaker is in. */
export type BreakerState = "closed" | "half-open" | "open";

/** A call was not made. */
export class CircuitOpen extends Error {
  override readonly name = "CircuitOpen";
}

/** See the head of this file. `now` is in milliseconds. */
export class CircuitBreaker {
  readonly #settings: BreakerSettings;
  readonly #now: () => number;
  #state: BreakerState = "closed";
  /** What ends in another one than it began in counts for neither. */
  #generation = 0;
  #counts: Counts = noCounts;
  /** When this generation ends by itself; undefined: never. */
  #endsAt: number | undefined;

  constructor(settings: BreakerSettings, now: () => number = () => performance.now()) {
    this.#settings = settings;
    this.#now = now;
    this.#enter("closed");
  }

  get state(): BreakerState {
    this.#age();
    return this.#state;
  }

  /** Makes a call, or throws CircuitOpen. `isFailure` says which errors count. */
  async run<T>(call: () => Promise<T>, isFailure: (error: unknown) => boolean): Promise<T> {
    const generation = this.#begin();
    try {
      const result = await call();
      this.#end(generation, true);
      return result;
    } catch (error) {
      this.#end(generation, !isFailure(error));
      throw error;
    }
  }

  #begin(): number {
    this.#age();
    if (this.#state === "open") throw new CircuitOpen("circuit breaker is open");
    if (this.#state === "half-open" && this.#counts.requests >= this.#settings.maxRequests)
      throw new CircuitOpen("too many requests");
    this.#counts = { ...this.#counts, requests: this.#counts.requests + 1 };
    return this.#generation;
  }

  #end(generation: number, wentWell: boolean): void {
    this.#age();
    if (generation !== this.#generation) return;
    const before = this.#counts;
    this.#counts = wentWell
      ? {
          ...before,
          totalSuccesses: before.totalSuccesses + 1,
          consecutiveSuccesses: before.consecutiveSuccesses + 1,
          consecutiveFailures: 0,
        }
      : {
          ...before,
          totalFailures: before.totalFailures + 1,
          consecutiveFailures: before.consecutiveFailures + 1,
          consecutiveSuccesses: 0,
        };
    if (this.#state === "closed" && !wentWell && this.#settings.trip(this.#counts)) this.#enter("open");
    if (this.#state !== "half-open") return;
    if (!wentWell) this.#enter("open");
    else if (this.#counts.consecutiveSuccesses >= this.#settings.maxRequests) this.#enter("closed");
  }

  /** Goes on to what is due by now. */
  #age(): void {
    if (this.#endsAt === undefined || this.#now() < this.#endsAt) return;
    this.#enter(this.#state === "open" ? "half-open" : this.#state);
  }

  #enter(state: BreakerState): void {
    const { intervalMs, timeoutMs } = this.#settings;
    this.#state = state;
    this.#generation++;
    this.#counts = noCounts;
    const lastsMs = { closed: intervalMs, "half-open": 0, open: timeoutMs }[state];
    this.#endsAt = lastsMs > 0 ? this.#now() + lastsMs : undefined;
  }
}
