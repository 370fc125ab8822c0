/** Ranges of keys in the order of their UTF-8 bytes, which is that of code points. */

const last = 0x10ffff;

/** The least text after every text that begins with the prefix; null when there is none. */
export function afterPrefix(prefix: string): string | null {
  const points = Array.from(prefix, (character) => character.codePointAt(0)!);
  while (points.length > 0) {
    const point = points.pop()!;
    if (point === last) continue;
    // The surrogates are no characters.
    points.push(point === 0xd7ff ? 0xe000 : point + 1);
    return String.fromCodePoint(...points);
  }
  return null;
}

/** Whether one text is before another, by UTF-8 bytes. */
export function isBefore(one: string, other: string): boolean {
  return Buffer.compare(Buffer.from(one), Buffer.from(other)) < 0;
}
