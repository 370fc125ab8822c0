/** Values in pieces of the size that they are kept in. */
import { untilAborted } from "../blocks/until-aborted.ts";

/** A piece of a value. */
export interface Chunk {
  /** Of the size asked for; the last one may be shorter, or empty. */
  readonly chunk: Uint8Array;
  readonly last: boolean;
}

/**
 * Cuts a value anew. A piece is good until the next one is asked for. Throws the signal's reason when it
 * aborts, also while the source does not go on.
 */
export async function* rechunk(
  source: AsyncIterable<Uint8Array>,
  bytes: number,
  signal: AbortSignal,
): AsyncIterable<Chunk> {
  const buffer = new Uint8Array(bytes);
  let filled = 0;
  for await (const part of untilAborted(source, signal)) {
    for (let offset = 0; offset < part.length; ) {
      if (filled === bytes) {
        yield { chunk: buffer, last: false };
        filled = 0;
      }
      const fits = part.subarray(offset, offset + bytes - filled);
      buffer.set(fits, filled);
      filled += fits.length;
      offset += fits.length;
    }
  }
  yield { chunk: buffer.subarray(0, filled), last: true };
}
