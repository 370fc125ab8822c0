/** What timers of Node can take. */

/** In milliseconds: 24.8 days. Longer timers fire at once. */
export const longestTimerMs = 2 ** 31 - 1;

/** A time as a timer takes it, in milliseconds: none that has passed, and none that is too long. */
export function timerMs(ms: number): number {
  return Math.min(Math.max(ms, 0), longestTimerMs);
}
