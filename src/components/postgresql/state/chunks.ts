/** Values in pieces of the size that the store keeps. */
import { untilAborted } from "../../../blocks/until-aborted.ts";

/** Bytes of every chunk but the last: what a reader gets at once. */
export const chunkBytes = 256 * 1024;

/** A piece of a value. */
export interface Chunk {
  /** Of `chunkBytes`; the last one may be shorter, or empty. */
  readonly chunk: Uint8Array;
  readonly last: boolean;
}

/** Cuts a value anew. Throws the signal's reason when it aborts, also while the source does not go on. */
export async function* rechunk(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncIterable<Chunk> {
  let buffer = new Uint8Array(chunkBytes);
  let filled = 0;
  signal.throwIfAborted();
  for await (const part of untilAborted(source, signal)) {
    for (let offset = 0; offset < part.length; ) {
      if (filled === chunkBytes) {
        yield { chunk: buffer, last: false };
        buffer = new Uint8Array(chunkBytes);
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
