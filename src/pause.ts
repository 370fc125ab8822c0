/** A wait that can be cut short. */
import { timerMs } from "./timer.ts";

/** Waits, at most until the signal aborts. Never rejects. `ref` false: the process may end meanwhile. */
export function pause(ms: number, signal: AbortSignal, { ref = true } = {}): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, timerMs(ms));
    if (!ref) timer.unref();
    if (signal.aborted) end();
    else signal.addEventListener("abort", end, { once: true });
  });
}
