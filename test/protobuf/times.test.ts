import * as wkt from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import * as own from "../../src/protobuf/times.ts";
import { Random } from "../end-to-end/random.ts";

const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Date.now() % 1_000_000);
const random = new Random(seed);

/** Milliseconds of every kind: whole and not, negative, small and very large. */
const samplesMs = [0, -0, 1, -1, 0.1, -0.1, 0.5, 999.999, -999.999, 1000, -1000, 1500.25, -1500.25, 2 ** 53];
for (let round = 0; round < 5000; round++) {
  const wholeMs = random.below(2 ** 31) * random.between(1, 1_000_000) * (random.below(2) === 0 ? 1 : -1);
  samplesMs.push(wholeMs, wholeMs / 1000, wholeMs / 1_000_003, wholeMs % 3000);
}

it(`times and durations of milliseconds are those that protobuf-es makes (OUTRIDER_TEST_SEED=${seed})`, () => {
  for (const ms of samplesMs) {
    expect(own.timestampFromMs(ms), `${ms}`).toEqual(wkt.timestampFromMs(ms));
    expect(own.durationFromMs(ms), `${ms}`).toEqual(wkt.durationFromMs(ms));
  }
});

it(`milliseconds of times and durations are those that protobuf-es counts (OUTRIDER_TEST_SEED=${seed})`, () => {
  for (const ms of samplesMs) {
    const nanos = random.between(-999_999_999, 999_999_999);
    const timestamp = { ...wkt.timestampFromMs(ms), nanos };
    expect(own.timestampMs(timestamp), `${ms}, ${nanos}`).toBe(wkt.timestampMs(timestamp));
    const duration = { ...wkt.durationFromMs(ms), nanos };
    expect(own.durationMs(duration), `${ms}, ${nanos}`).toBe(wkt.durationMs(duration));
  }
});

it("what is no number of milliseconds is no time, as protobuf-es has it", () => {
  for (const ms of [Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => wkt.timestampFromMs(ms)).toThrow();
    expect(() => own.timestampFromMs(ms)).toThrow();
    expect(() => own.durationFromMs(ms)).toThrow();
  }
});

it("the time now is between before and after", () => {
  const before = Date.now();
  const now = own.timestampMs(own.timestampNow());
  expect(now).toBeGreaterThanOrEqual(before);
  expect(now).toBeLessThanOrEqual(Date.now());
});
