/**
 * Timestamps and durations, with the names and results of the functions in `@bufbuild/protobuf/wkt`.
 * Those need descriptors, and making them takes 20 ms of the start of a sidecar that may never need one.
 */
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** The timestamp of a time, in milliseconds since 1970, which may have a fraction. */
export function timestampFromMs(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  const nanos = (ms - seconds * 1000) * 1_000_000;
  return { $typeName: "google.protobuf.Timestamp", seconds: BigInt(seconds), nanos };
}

/** The time now, as a timestamp. */
export function timestampNow(): Timestamp {
  return timestampFromMs(Date.now());
}

/** Milliseconds since 1970, rounded. */
export function timestampMs({ seconds, nanos }: Timestamp): number {
  return Number(seconds) * 1000 + Math.round(nanos / 1_000_000);
}

/** A duration of so many milliseconds, which may be negative or have a fraction. */
export function durationFromMs(ms: number): Duration {
  const seconds = Math.trunc(ms / 1000);
  const nanos = (ms - seconds * 1000) * 1_000_000;
  // A message has no place for -0.
  return { $typeName: "google.protobuf.Duration", seconds: BigInt(seconds), nanos: nanos === 0 ? 0 : nanos };
}

/** Milliseconds, rounded. */
export function durationMs({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1000 + Math.round(nanos / 1_000_000);
}
