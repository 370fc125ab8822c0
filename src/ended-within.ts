/** Waiting for work that may take too long. */
import { setTimeout as delay } from "node:timers/promises";

/** Waits for work to end, however it ends: at most so many milliseconds, and not when the signal aborts. Never rejects. */
export async function endedWithin(
  work: Promise<unknown>,
  limitMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const over = new AbortController();
  const until = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
  await Promise.race([work, delay(Math.max(0, limitMs), undefined, { signal: until })]).catch(() => {});
  over.abort();
}
