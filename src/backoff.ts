/** How long to wait before something that failed is tried again: longer after each failure in a row. */

/** In milliseconds. */
export interface Backoff {
  readonly firstMs: number;
  /** At least `firstMs`. */
  readonly lastMs: number;
}

/** The pause after so many failures in a row, at least 1, in milliseconds: doubled after each, up to the last. */
export function backoffMs(failures: number, { firstMs, lastMs }: Backoff): number {
  return Math.min(firstMs * 2 ** Math.min(failures - 1, 30), lastMs);
}

/** Between half and all of a pause, at random: so that those who failed together do not come back in step. */
export function scattered(ms: number): number {
  return ms * (0.5 + Math.random() / 2);
}
