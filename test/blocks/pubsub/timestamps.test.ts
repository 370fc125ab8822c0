import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { timeText } from "../../../src/blocks/pubsub/timestamps.ts";

describe("a time as text", () => {
  it.each([
    ["1970-01-01T00:00:00Z", 0],
    ["2024-02-29T09:05:03.007Z", Date.UTC(2024, 1, 29, 9, 5, 3, 7)],
    ["2026-11-22T04:34:11.120Z", Date.UTC(2026, 10, 22, 4, 34, 11, 120)],
    ["9999-12-31T23:59:59.999Z", Date.UTC(9999, 11, 31, 23, 59, 59, 999)],
    ["1969-12-31T23:59:59.999Z", -1],
  ])("is %s", (text, ms) => {
    expect(timeText(timestampFromMs(ms))).toBe(text);
  });

  it("has the nanoseconds that the time has", () => {
    const time = timestampFromMs(Date.UTC(2026, 0, 2, 3, 4, 5));
    expect(timeText({ ...time, nanos: 120_000_001 })).toBe("2026-01-02T03:04:05.120000001Z");
    expect(timeText({ ...time, nanos: 50_000_000 })).toBe("2026-01-02T03:04:05.050Z");
  });

  it("is refused after the year 9999", () => {
    expect(() => timeText(timestampFromMs(Date.UTC(10_000, 0, 1)))).toThrow();
  });
});
