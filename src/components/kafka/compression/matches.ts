/** Finds what is repeated in bytes, quickly rather than thoroughly: the part that LZ4 and Snappy have in common. */

const minMatch = 4;
const hashBits = 14;
/** How far back a repetition may lie. */
const maxDistance = 65_535;

/**
 * Calls `emit` for each piece: bytes from `literalBegin` to `literalEnd` as they are, and then `length` bytes as they
 * were `distance` bytes before. The last `tail` bytes of the input are never part of a repetition. What comes after the
 * last piece begins where the result says.
 */
export function findMatches(
  bytes: Buffer,
  begin: number,
  end: number,
  tail: number,
  emit: (literalBegin: number, literalEnd: number, distance: number, length: number) => void,
): number {
  const table = new Int32Array(1 << hashBits).fill(-1);
  const last = end - Math.max(tail, minMatch);
  let literal = begin;
  let at = begin;
  while (at < last) {
    const word = bytes.readInt32LE(at);
    const slot = Math.imul(word, 0x9e3779b1) >>> (32 - hashBits);
    const candidate = table[slot]!;
    table[slot] = at;
    if (candidate < begin || at - candidate > maxDistance || bytes.readInt32LE(candidate) !== word) {
      // Through what does not repeat, in longer and longer steps.
      at += 1 + ((at - literal) >> 6);
      continue;
    }
    let length = minMatch;
    while (at + length < end - tail && bytes[candidate + length] === bytes[at + length]) length += 1;
    emit(literal, at, at - candidate, length);
    at += length;
    literal = at;
  }
  return literal;
}
