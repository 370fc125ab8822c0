/**
 * The kinds of values that a field may have, of `spec.metadata` and elsewhere.
 * YAML gives any scalar, mostly strings; these read them as Dapr's Go code does.
 */
import * as z from "zod";
import { isTruthy } from "./booleans.ts";
import { didYouMean } from "./suggest.ts";

const scalar = z.union([z.string(), z.number(), z.boolean()]).transform((value) => String(value));

/** Text, possibly empty. */
export function text() {
  return scalar;
}

/** "true", "1", "yes", "on" and their opposites, in any case. */
export function flag() {
  return scalar.transform((value, context) => {
    if (isTruthy(value)) return true;
    if (/^(false|f|0|n|no|off|)$/i.test(value)) return false;
    context.addIssue({ code: "custom", message: 'expected "true" or "false"' });
    return z.NEVER;
  });
}

/** A whole number in a range, both ends included. */
export function integer(minimum: number, maximum: number) {
  return scalar.transform((value, context) => {
    const number = /^[+-]?\d+$/.test(value.trim()) ? Number(value) : Number.NaN;
    if (number >= minimum && number <= maximum) return number;
    context.addIssue({ code: "custom", message: `expected a whole number from ${minimum} to ${maximum}` });
    return z.NEVER;
  });
}

/** A duration in milliseconds: Go's form ("1h30m", "500ms", "1.5s"), or a bare number of `unitMs`. */
export function durationMs(unitMs = 1) {
  return scalar.transform((value, context) => {
    const parsed = parseDurationMs(value.trim(), unitMs);
    if (parsed !== undefined) return parsed;
    context.addIssue({ code: "custom", message: 'expected a duration such as "30s" or "1h30m"' });
    return z.NEVER;
  });
}

/** A duration in milliseconds, 0 or more. A bare number is refused, as Go does: nobody knows its unit. */
export function goDurationMs() {
  return scalar.transform((value, context) => {
    const bare = /^[+-]?[\d.]+$/.test(value) && value !== "0";
    const parsed = bare ? undefined : parseDurationMs(value.trim());
    if (parsed !== undefined && parsed >= 0) return parsed;
    context.addIssue({ code: "custom", message: 'expected a duration with a unit, such as "5s" or "1h30m"' });
    return z.NEVER;
  });
}

/** One of a few words, in any case. Empty text is as if it were not there. */
export function choice<const Word extends string>(...words: readonly Word[]) {
  return scalar
    .transform((value, context) => {
      const word = words.find((each) => each.toLowerCase() === value.toLowerCase());
      if (word !== undefined || value === "") return word;
      const list = words.map((each) => `"${each}"`).join(", ");
      context.addIssue({
        code: "custom",
        message: `expected one of ${list}, not "${value}"${didYouMean(value, words)}`,
      });
      return z.NEVER;
    })
    .optional();
}

/** A number of bytes: bare, or with a unit ("4Mi", "512Ki", "10M"). */
export function byteSize() {
  return scalar.transform((value, context) => {
    const parsed = parseByteSize(value.trim());
    if (parsed !== undefined) return parsed;
    context.addIssue({ code: "custom", message: 'expected a number of bytes such as "4Mi"' });
    return z.NEVER;
  });
}

const durationUnitsMs: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  // The micro sign and the Greek letter, both of which Go takes.
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds of a duration in Go's form, or of a bare number of `unitMs`; undefined when it is neither. */
export function parseDurationMs(value: string, unitMs = 1): number | undefined {
  if (/^[+-]?\d+(\.\d+)?$/.test(value)) return Number(value) * unitMs;
  if (!/^[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h|d))+$/.test(value)) return undefined;
  let total = 0;
  for (const [, number, unit] of value.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h|d)/g)) {
    total += Number(number) * durationUnitsMs[unit!]!;
  }
  return value.startsWith("-") ? -total : total;
}

const byteUnits: Record<string, number> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  ki: 1024,
  mi: 1024 ** 2,
  gi: 1024 ** 3,
};

/** Bytes of a size such as "4Mi", "512Ki", "10MB" or "4096"; undefined when it is none. */
export function parseByteSize(value: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmg]i?)?b?$/i.exec(value);
  if (!match) return undefined;
  return Math.round(Number(match[1]) * byteUnits[(match[2] ?? "").toLowerCase()]!);
}
