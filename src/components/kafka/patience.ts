/** Waiting for a cluster that is away. */
import { backoffMs, scattered } from "../../backoff.ts";
import { pause } from "../../pause.ts";
import { cancelled, KafkaError } from "./errors.ts";

const pauses = { firstMs: 20, lastMs: 1000 };

/** How long to go on trying. */
export interface Patience {
  readonly signal: AbortSignal;
  readonly limitMs: number;
}

/**
 * Does something again and again until it is done, as long as what it throws is that the cluster is away.
 * Throws what was thrown last, and `cancelled` when the signal aborts.
 */
export async function persist<T>(work: () => Promise<T>, { signal, limitMs }: Patience): Promise<T> {
  const endsAt = performance.now() + limitMs;
  for (let attempt = 0; ; attempt += 1) {
    if (signal.aborted) throw cancelled(signal);
    try {
      return await abortable(work(), signal);
    } catch (error) {
      if (!(error instanceof KafkaError) || error.kind !== "unavailable") throw error;
      const pauseMs = retryMs(attempt);
      if (performance.now() + pauseMs > endsAt) throw error;
      await pause(pauseMs, signal, { ref: false });
    }
  }
}

/** Between half and all of a time that doubles, in milliseconds; `attempt` counts from 0. */
export function retryMs(attempt: number): number {
  return scattered(backoffMs(attempt + 1, pauses));
}

/** The same promise, which throws `cancelled` when the signal aborts first. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    work.catch(() => {});
    throw cancelled(signal);
  }
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(cancelled(signal));
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
    work.catch(() => {});
  }
}
