/** App health checks: an application that is not well gets no events until it is. */
import { pause } from "../../../pause.ts";
import type { AppHealthOptions } from "./channel.ts";

/** Asks again and again, and tells when the answer changes. It begins as not well. */
export class AppHealth {
  readonly #options: AppHealthOptions;
  readonly #probe: (signal: AbortSignal) => Promise<boolean>;
  readonly #onChange: (healthy: boolean) => void;
  #healthy = false;

  /** `probe` does not throw. */
  constructor(
    options: AppHealthOptions,
    probe: (signal: AbortSignal) => Promise<boolean>,
    onChange: (healthy: boolean) => void,
  ) {
    this.#options = options;
    this.#probe = probe;
    this.#onChange = onChange;
  }

  get healthy(): boolean {
    return this.#healthy;
  }

  /** Asks until the signal aborts. Resolves then. */
  async run(signal: AbortSignal): Promise<void> {
    const { intervalMs, timeoutMs, threshold } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const startedAt = performance.now();
      const well = await this.#probe(AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]));
      if (signal.aborted) return;
      failures = well ? 0 : failures + 1;
      if (well !== this.#healthy && (well || failures >= threshold)) {
        this.#healthy = well;
        this.#onChange(well);
      }
      await pause(intervalMs - (performance.now() - startedAt), signal);
    }
  }
}
