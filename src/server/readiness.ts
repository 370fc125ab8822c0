/** Whether a sidecar can do its work now, and who wants to know. */

/** What a server may ask about readiness. */
export interface ReadinessSource {
  readonly ready: boolean;
  /** Calls `changed` after each change, until the signal aborts. */
  onChange(changed: () => void, signal: AbortSignal): void;
}

/** Readiness that somebody sets. */
export class Readiness implements ReadinessSource {
  readonly #listeners = new Set<() => void>();
  #ready = false;

  /** False at first. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Tells those who listen, when it is a change. */
  set(ready: boolean): void {
    if (this.#ready === ready) return;
    this.#ready = ready;
    for (const changed of this.#listeners) changed();
  }

  onChange(changed: () => void, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#listeners.add(changed);
    signal.addEventListener("abort", () => this.#listeners.delete(changed), { once: true });
  }
}
