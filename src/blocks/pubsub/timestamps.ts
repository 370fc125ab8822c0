/** Times as messages have them. */
import { fromJson, toJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";

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

/** A time as RFC 3339 has it. Whole milliseconds, which most have, cost a tenth of the rest. Throws beyond the years 1 to 9999. */
export function timeText(time: Timestamp): string {
  const ms = time.nanos / 1_000_000;
  if (!Number.isInteger(ms) || time.seconds < 0n || time.seconds > maxPlainSeconds)
    return toJson(TimestampSchema, time);
  const date = new Date(timestampMs(time));
  // A Date's own text costs three times as much.
  const day = `${date.getUTCFullYear()}-${twoDigits(date.getUTCMonth() + 1)}-${twoDigits(date.getUTCDate())}`;
  const clock = `${twoDigits(date.getUTCHours())}:${twoDigits(date.getUTCMinutes())}:${twoDigits(date.getUTCSeconds())}`;
  return ms === 0 ? `${day}T${clock}Z` : `${day}T${clock}.${ms < 100 ? "0" : ""}${twoDigits(ms)}Z`;
}

function twoDigits(number: number): string {
  return number < 10 ? `0${number}` : `${number}`;
}

/** Until the end of the year 9999 a Date writes years with four digits. */
const maxPlainSeconds = 253_402_300_799n;

/** Reads a time as in RFC 3339; undefined when it is none. The usual form, in UTC, is read without the cost of the exact reader. */
export function readTime(text: string): Timestamp | undefined {
  const time = quickTime(text);
  if (time) return time;
  try {
    return fromJson(TimestampSchema, text.toUpperCase());
  } catch {
    return undefined;
  }
}

/** `2026-01-31T23:59:59Z`, with or without a fraction of up to nine digits; undefined for any other text. */
function quickTime(text: string): Timestamp | undefined {
  const { length } = text;
  if (length < 20 || length === 21 || length > 30) return undefined;
  if (text[10] !== "T" || text[length - 1] !== "Z") return undefined;
  const [year, month, day] = [digits(text, 0, 4), digits(text, 5, 7), digits(text, 8, 10)];
  const [hour, minute, second] = [digits(text, 11, 13), digits(text, 14, 16), digits(text, 17, 19)];
  const fraction = length === 20 ? 0 : text[19] === "." ? digits(text, 20, length - 1) : -1;
  if (text[4] !== "-" || text[7] !== "-" || text[13] !== ":" || text[16] !== ":") return undefined;
  // What is not sure to be right is for the exact reader.
  const isDay = year >= 100 && month >= 1 && month <= 12 && day >= 1 && day <= 28;
  const isTime = hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59 && second >= 0 && second <= 59;
  if (!isDay || !isTime || fraction < 0) return undefined;
  const seconds = BigInt(Date.UTC(year, month - 1, day, hour, minute, second) / 1000);
  const nanos = fraction * 10 ** Math.max(0, 30 - length);
  return { $typeName: "google.protobuf.Timestamp", seconds, nanos };
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
