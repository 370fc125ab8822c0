/** Lets a loop sleep until somebody has something for it. */
import { timerMs } from "./timer.ts";

/** One sleeps, others ring. Who rings says only that it is worth looking again. */
export class WakeUp {
  #end: (() => void) | undefined;

  /** Ends the wait. When nobody waits it does nothing: who is about to looks first whether there is something. */
  ring(): void {
    this.#end?.();
  }

  /** Waits for a ring: not when the signal has aborted, and at most so long, in milliseconds. One waits at a time. Never rejects. */
  wait(signal?: AbortSignal, withinMs = Number.POSITIVE_INFINITY): Promise<void> {
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const end = (): void => {
        this.#end = undefined;
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      this.#end = end;
      if (signal?.aborted) return end();
      if (withinMs < Number.POSITIVE_INFINITY) timer = setTimeout(end, timerMs(withinMs));
      signal?.addEventListener("abort", end, { once: true });
    });
  }
}
