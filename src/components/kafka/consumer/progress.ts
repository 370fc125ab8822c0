/**
 * What is kept beside a committed offset, in the text that Kafka has room for there: which events above it are settled,
 * how often others were tried, and how many were removed unsettled.
 */

/** An event that was tried before. */
export interface Retry {
  readonly offset: number;
  /** How often it was tried and counted. */
  readonly attempts: number;
  /** Milliseconds since 1970. */
  readonly notBeforeMs: number;
}

/** What is known above a position. */
export interface Progress {
  readonly trimmed: number;
  readonly settled: Iterable<number>;
  readonly retries: readonly Retry[];
}

/** As Kafka allows by default (offset.metadata.max.bytes). */
const maxCharacters = 4096;
const version = "outrider1";

/**
 * Writes it for a position. What does not fit is left out, the highest offsets first: it is then delivered once more, or
 * counted anew.
 */
export function encodeProgress({ trimmed, settled, retries }: Progress, position: number): string {
  const offsets = [...settled].filter((offset) => offset > position);
  if (trimmed === 0 && offsets.length === 0 && retries.length === 0) return "";
  const room = maxCharacters - `${version};${trimmed};;`.length;
  const highest = offsets.reduce((most, offset) => Math.max(most, offset), position);
  const bytes = Math.min(Math.ceil((highest - position) / 8), Math.floor((room * 3) / 4) - 3);
  const bits = Buffer.alloc(Math.max(0, bytes));
  for (const offset of offsets) {
    const bit = offset - position - 1;
    if (bit < bits.length * 8) bits[bit >> 3]! |= 1 << (bit & 7);
  }
  const text = bits.toString("base64").replace(/=+$/, "");
  let list = "";
  for (const { offset, attempts, notBeforeMs } of retries) {
    const item = `${list === "" ? "" : ","}${offset - position}:${attempts}:${notBeforeMs.toString(36)}`;
    if (text.length + list.length + item.length > room) break;
    list += item;
  }
  return `${version};${trimmed};${text};${list}`;
}

/** Reads it. What somebody else wrote there means nothing. */
export function decodeProgress(
  metadata: string,
  position: number,
): { trimmed: number; settled: Set<number>; retries: Map<number, Retry> } {
  const progress = { trimmed: 0, settled: new Set<number>(), retries: new Map<number, Retry>() };
  const [first, trimmed, text, list] = metadata.split(";");
  if (first !== version || text === undefined || list === undefined) return progress;
  progress.trimmed = Number(trimmed) || 0;
  const bits = Buffer.from(text, "base64");
  for (let bit = 0; bit < bits.length * 8; bit += 1) {
    if ((bits[bit >> 3]! & (1 << (bit & 7))) !== 0) progress.settled.add(position + 1 + bit);
  }
  for (const item of list === "" ? [] : list.split(",")) {
    const [delta, attempts, notBefore] = item.split(":");
    const offset = position + Number(delta);
    progress.retries.set(offset, {
      offset,
      attempts: Number(attempts),
      notBeforeMs: Number.parseInt(notBefore ?? "", 36) || 0,
    });
  }
  return progress;
}
