import { describe, expect, it } from "vitest";
import { backoffMs, scattered } from "../src/backoff.ts";

const pauses = { firstMs: 100, lastMs: 5000 };

describe("the pause before another attempt", () => {
  it("doubles after each failure, up to the last", () => {
    const failures = [1, 2, 3, 6, 7, 8, 5000];
    expect(failures.map((count) => backoffMs(count, pauses))).toEqual([
      100, 200, 400, 3200, 5000, 5000, 5000,
    ]);
  });

  it("can be none at all, however often something fails", () => {
    expect(backoffMs(5000, { firstMs: 0, lastMs: 5000 })).toBe(0);
  });

  it("is between half and all of it when it is scattered, and not always the same", () => {
    const waits = Array.from({ length: 100 }, () => scattered(1000));
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(500);
    expect(Math.max(...waits)).toBeLessThanOrEqual(1000);
    expect(new Set(waits).size).toBeGreaterThan(1);
  });
});
