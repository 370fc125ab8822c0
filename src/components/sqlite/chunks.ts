/** Values in pieces of the size that the store keeps. */

/** Bytes of every chunk but the last: what a reader gets at once. */
export const chunkBytes = 256 * 1024;

/** A piece of a value. */
export interface Chunk {
  /** Of `chunkBytes`; the last one may be shorter, or empty. */
  readonly chunk: Uint8Array;
  readonly last: boolean;
}

/**
 * Cuts a value anew. A piece is good until the next one is asked for. Throws the signal's reason when it aborts, also while the source does not go on.
 */
export async function* rechunk(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncIterable<Chunk> {
  const buffer = new Uint8Array(chunkBytes);
  let filled = 0;
  for await (const part of untilAborted(source, signal)) {
    for (let offset = 0; offset < part.length; ) {
      if (filled === chunkBytes) {
        yield { chunk: buffer, last: false };
        filled = 0;
      }
      const fits = part.subarray(offset, offset + chunkBytes - filled);
      buffer.set(fits, filled);
      filled += fits.length;
      offset += fits.length;
    }
  }
  yield { chunk: buffer.subarray(0, filled), last: true };
}

async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncIterable<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  // Nobody may be waiting for it.
  aborted.promise.catch(() => undefined);
  signal.addEventListener("abort", abort, { once: true });
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), aborted.promise]);
      ended = next.done === true;
      if (ended) return;
      yield next.value as T;
    }
  } catch (error) {
    ended ||= !signal.aborted;
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
    // Not waited for: a source that does not go on does not end either.
    if (!ended) iterator.return?.()?.catch(() => undefined);
  }
}
