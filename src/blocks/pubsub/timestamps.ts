/** Times as messages have them, and as text. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampFromMs } from "../../protobuf/times.ts";

/** Makes timestamps; those who ask one after the other mostly ask for the same, and share one. */
export class Timestamps {
  #ms = 0;
  #last = timestampFromMs(0);

  /** The timestamp of a time, in milliseconds since 1970. It is shared: not to be changed. */
  of(ms: number): Timestamp {
    if (this.#ms !== ms) {
      this.#ms = ms;
      this.#last = timestampFromMs(ms);
    }
    return this.#last;
  }
}

/** The beginning of the year 1 and the end of 9999, in seconds since 1970: what RFC 3339 can say. */
const minSeconds = -62_135_596_800;
const maxSeconds = 253_402_300_799;

/** Whether a timestamp can be written as text: it is one of the years 1 to 9999. */
export function hasText({ seconds, nanos }: Timestamp): boolean {
  return seconds >= minSeconds && seconds <= maxSeconds && nanos >= 0 && nanos <= 999_999_999;
}

/** A time as RFC 3339 has it, in UTC, with as many of 0, 3, 6 or 9 decimals as it needs. Throws for one that has no text. */
export function timeText(time: Timestamp): string {
  if (!hasText(time)) throw new RangeError("only times of the years 1 to 9999 can be written");
  const date = new Date(Number(time.seconds) * 1000);
  // A Date's own text costs twice as much.
  const year = String(date.getUTCFullYear()).padStart(4, "0");
  const day = `${year}-${twoDigits(date.getUTCMonth() + 1)}-${twoDigits(date.getUTCDate())}`;
  const clock = `${twoDigits(date.getUTCHours())}:${twoDigits(date.getUTCMinutes())}:${twoDigits(date.getUTCSeconds())}`;
  return `${day}T${clock}${fractionText(time.nanos)}Z`;
}

function twoDigits(number: number): string {
  return number < 10 ? `0${number}` : `${number}`;
}

function fractionText(nanos: number): string {
  if (nanos === 0) return "";
  const decimals = nanos % 1_000_000 === 0 ? 3 : nanos % 1000 === 0 ? 6 : 9;
  return `.${String(nanos).padStart(9, "0").slice(0, decimals)}`;
}

/** The calendar repeats itself after so many years, which are so many seconds. */
const cycleYears = 400;
const cycleSeconds = 12_622_780_800;

/**
 * Reads a time as in RFC 3339, of the years 1 to 9999; undefined when it is none. As lenient as protobuf-es: every month may
 * have 31 days, and a day an end at 24:00:00. By hand, as it is read for every event: an expression and a Date cost twice as much.
 */
export function readTime(text: string): Timestamp | undefined {
  const { length } = text;
  if (length < 20 || text[4] !== "-" || text[7] !== "-" || text[13] !== ":" || text[16] !== ":")
    return undefined;
  if (text[10] !== "T" && text[10] !== "t") return undefined;
  const [year, month, day] = [digits(text, 0, 4), digits(text, 5, 7), digits(text, 8, 10)];
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > 31) return undefined;
  const [hour, minute, second] = [digits(text, 11, 13), digits(text, 14, 16), digits(text, 17, 19)];
  if (hour < 0 || minute < 0 || minute > 59 || second < 0 || second > 59) return undefined;
  if (hour > 23 && (hour > 24 || minute > 0 || second > 0)) return undefined;
  const isUtc = text[length - 1] === "Z" || text[length - 1] === "z";
  const fractionEnd = isUtc ? length - 1 : length - 6;
  const nanos = fractionNanos(text, fractionEnd);
  const offsetMinutes = isUtc ? 0 : readOffset(text, fractionEnd);
  if (nanos === undefined || offsetMinutes === undefined) return undefined;
  // A Date takes the years up to 99 for others.
  const cycleLater = Date.UTC(year + cycleYears, month - 1, day, hour, minute - offsetMinutes, second) / 1000;
  const seconds = cycleLater - cycleSeconds;
  if (seconds < minSeconds || seconds > maxSeconds) return undefined;
  return { $typeName: "google.protobuf.Timestamp", seconds: BigInt(seconds), nanos };
}

/** The nanoseconds of what is between the seconds and the offset: nothing, or a dot and 1 to 9 digits. */
function fractionNanos(text: string, end: number): number | undefined {
  if (end === 19) return 0;
  if (text[19] !== "." || end < 21 || end > 29) return undefined;
  const fraction = digits(text, 20, end);
  return fraction < 0 ? undefined : fraction * 10 ** (29 - end);
}

/** The minutes of an offset such as `+05:30`, which the text ends with. */
function readOffset(text: string, begin: number): number | undefined {
  const sign = text[begin] === "+" ? 1 : text[begin] === "-" ? -1 : 0;
  const [hours, minutes] = [digits(text, begin + 1, begin + 3), digits(text, begin + 4, begin + 6)];
  if (sign === 0 || text[begin + 3] !== ":" || hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
    return undefined;
  return sign * (hours * 60 + minutes);
}

/** The number that some digits are; less than 0 when there is anything else. */
function digits(text: string, begin: number, end: number): number {
  let value = 0;
  for (let at = begin; at < end; at += 1) {
    const digit = text.charCodeAt(at) - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}
