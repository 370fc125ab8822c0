/** Work of a component that has not ended, so that it is not closed under whoever does it. */
export class InFlight {
  #count = 0;
  #whenIdle: (() => void)[] = [];

  /** Some work begins. Each call is followed by one of `end`. */
  begin(): void {
    this.#count += 1;
  }

  /** It has ended, in whichever way. */
  end(): void {
    this.#count -= 1;
    if (this.#count > 0) return;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /** Resolves when there is none. */
  idle(): Promise<void> {
    if (this.#count === 0) return Promise.resolve();
    return new Promise((resolve) => void this.#whenIdle.push(resolve));
  }
}
