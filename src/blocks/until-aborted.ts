/** Ends the wait for a source that may never go on. */

/**
 * The same items, until the signal aborts: then whoever waits for the next one
 * gets the signal's reason, even when the source itself never answers. The source is told to stop.
 */
export function untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncIterable<T> {
  return { [Symbol.asyncIterator]: () => new AbortableIterator(source[Symbol.asyncIterator](), signal) };
}

class AbortableIterator<T> implements AsyncIterator<T, void> {
  readonly #source: AsyncIterator<T>;
  readonly #signal: AbortSignal;
  /** Of the wait that is going on. */
  #reject: ((reason: unknown) => void) | undefined;

  constructor(source: AsyncIterator<T>, signal: AbortSignal) {
    this.#source = source;
    this.#signal = signal;
    signal.addEventListener("abort", this.#abort, { once: true });
  }

  next(): Promise<IteratorResult<T, void>> {
    if (this.#signal.aborted) {
      this.#stop();
      return Promise.reject(this.#signal.reason);
    }
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      this.#source.next().then((result) => {
        this.#reject = undefined;
        if (result.done) this.#signal.removeEventListener("abort", this.#abort);
        resolve(result);
      }, reject);
    });
  }

  async return(): Promise<IteratorResult<T, void>> {
    this.#signal.removeEventListener("abort", this.#abort);
    await this.#source.return?.();
    return { done: true, value: undefined };
  }

  readonly #abort = (): void => {
    this.#stop();
    this.#reject?.(this.#signal.reason);
  };

  /** Not awaited: a generator that is waiting answers `return` only when its wait is over. */
  #stop(): void {
    this.#source.return?.().catch(() => undefined);
  }
}
