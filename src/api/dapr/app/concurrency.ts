/** `--app-max-concurrency`: how many calls an application has at once. */

/** Places for calls. */
export class Concurrency {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** `max` of 0 or less: as many as there are. */
  constructor(max: number) {
    this.#free = max > 0 ? max : Number.POSITIVE_INFINITY;
  }

  /** Runs a call when there is a place. Who comes first goes first. Throws the signal's reason when it aborts before. */
  async run<T>(call: () => Promise<T>, signal: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    try {
      return await call();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(mine), 1);
        reject(signal.reason);
      };
      const mine = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      this.#waiting.push(mine);
      signal.addEventListener("abort", leave, { once: true });
    });
  }
}
