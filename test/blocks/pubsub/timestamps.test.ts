import { fromJson, toJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { readTime, timeText } from "../../../src/blocks/pubsub/timestamps.ts";
import { Random } from "../../end-to-end/random.ts";

const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Date.now() % 1_000_000);
const rounds = 30_000;

function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random.below(choices.length)]!;
}

/** What a function gives; undefined when it throws. */
function orNothing<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** A time in protobuf's JSON: what it reads is what counts. */
const exactly = (text: string) => orNothing(() => fromJson(TimestampSchema, text.toUpperCase()));

describe("a time as text", () => {
  it.each([
    ["1970-01-01T00:00:00Z", 0],
    ["2024-02-29T09:05:03.007Z", Date.UTC(2024, 1, 29, 9, 5, 3, 7)],
    ["2026-11-22T04:34:11.120Z", Date.UTC(2026, 10, 22, 4, 34, 11, 120)],
    ["9999-12-31T23:59:59.999Z", Date.UTC(9999, 11, 31, 23, 59, 59, 999)],
    ["1969-12-31T23:59:59.999Z", -1],
    ["0001-01-01T00:00:00Z", -62_135_596_800_000],
  ])("is %s", (text, ms) => {
    expect(timeText(timestampFromMs(ms))).toBe(text);
  });

  it("has the nanoseconds that the time has", () => {
    const time = timestampFromMs(Date.UTC(2026, 0, 2, 3, 4, 5));
    expect(timeText({ ...time, nanos: 120_000_001 })).toBe("2026-01-02T03:04:05.120000001Z");
    expect(timeText({ ...time, nanos: 1000 })).toBe("2026-01-02T03:04:05.000001Z");
    expect(timeText({ ...time, nanos: 50_000_000 })).toBe("2026-01-02T03:04:05.050Z");
  });

  it("is refused beyond the years 1 to 9999, and with other nanoseconds than a second has", () => {
    const time = timestampFromMs(0);
    expect(() => timeText(timestampFromMs(Date.UTC(10_000, 0, 1)))).toThrow("years 1 to 9999");
    expect(() => timeText(timestampFromMs(-62_135_596_800_001))).toThrow();
    expect(() => timeText({ ...time, nanos: -1 })).toThrow();
    expect(() => timeText({ ...time, nanos: 1_000_000_000 })).toThrow();
    expect(() => timeText({ ...time, seconds: 2n ** 63n - 1n })).toThrow();
  });

  it(`is what protobuf-es writes, for any time (OUTRIDER_TEST_SEED=${seed})`, () => {
    const random = new Random(seed);
    for (let round = 0; round < rounds; round++) {
      // A little more than what has a text.
      const seconds =
        BigInt(random.below(2 ** 32)) * BigInt(random.between(-15, 60)) + BigInt(random.below(9));
      const nanos = random.between(-9, 1009) * pick(random, [0, 1, 1000, 1_000_000, 999_999]);
      const time: Timestamp = { $typeName: "google.protobuf.Timestamp", seconds, nanos };
      expect(
        orNothing(() => timeText(time)),
        `${seconds}, ${nanos}`,
      ).toBe(orNothing(() => toJson(TimestampSchema, time)));
    }
  });
});

describe("a time is read", () => {
  it.each([
    "1970-01-01T00:00:00Z",
    "2026-01-31T23:59:59.123456789Z",
    "2026-01-31t23:59:59.5z",
    "2026-01-31T23:59:59+05:30",
    "2026-01-31T23:59:59.25-23:59",
    "0001-01-01T00:00:00Z",
    "0099-12-31T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2024-02-29T12:00:00Z",
    // Not in any calendar, but protobuf-es and JavaScript take them.
    "2026-02-31T12:00:00Z",
    "2026-12-31T24:00:00.5Z",
    "0000-12-31T24:00:00Z",
  ])("from %s", (text) => {
    expect(readTime(text)).toEqual(exactly(text));
    expect(readTime(text)).toBeDefined();
  });

  it.each([
    "",
    "2026-01-31",
    "2026-01-31T23:59:59",
    "2026-01-31 23:59:59Z",
    "2026-01-31T23:59:60Z",
    "2026-01-31T24:00:01Z",
    "2026-01-32T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-01-31T23:59:59.Z",
    "2026-01-31T23:59:59.1234567890Z",
    "2026-01-31T23:59:59+24:00",
    "2026-01-31T23:59:59+0530",
    "2026-01-31T23:59:59Z\n",
    "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-00:01",
    "0000-12-31T23:59:59Z",
    "+02026-01-31T23:59:59Z",
    "２０２６-01-31T23:59:59Z",
  ])("not from %j", (text) => {
    expect(readTime(text)).toBeUndefined();
    expect(exactly(text)).toBeUndefined();
  });

  it(`as protobuf-es reads it, whatever the text (OUTRIDER_TEST_SEED=${seed})`, () => {
    const random = new Random(seed);
    const two = (least: number, most: number) => String(random.between(least, most)).padStart(2, "0");
    let read = 0;
    for (let round = 0; round < rounds; round++) {
      const year = pick(random, ["0000", "0001", "0099", "0100", "1969", "2024", "2026", "9999"]);
      const fraction = pick(random, ["", ".", "."]) && `.${"012345678909".slice(0, random.below(12))}`;
      const zone = pick(random, ["Z", "z", `+${two(0, 25)}:${two(0, 61)}`, `-${two(0, 25)}:${two(0, 61)}`]);
      const date = `${year}-${two(0, 13)}-${two(0, 32)}${pick(random, ["T", "T", "t"])}`;
      let text = `${date}${two(0, 25)}:${two(0, 60)}:${two(0, 60)}${fraction}${zone}`;
      if (random.below(4) === 0) {
        const at = random.below(text.length + 1);
        const odd = pick(random, ["", "0", "9", ":", "-", "+", ".", "T", "Z", " ", "\n", "é", "٣"]);
        text = text.slice(0, at) + odd + text.slice(at + random.below(2));
      }
      const time = readTime(text);
      if (time) read += 1;
      expect(time, JSON.stringify(text)).toEqual(exactly(text));
    }
    // Else it would have compared nothing.
    expect(read).toBeGreaterThan(rounds / 10);
  });
});
