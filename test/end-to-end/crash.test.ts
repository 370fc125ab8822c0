/**
 * What was acknowledged survives the end of anything. Longer, and again as it was:
 *
 *   OUTRIDER_CRASH_SECONDS=600 OUTRIDER_TEST_SEED=42 npx vitest run test/end-to-end/crash.test.ts
 */
import { describe, expect, it } from "vitest";
import { crashTest, describeReport } from "./crash-test.ts";

const seconds = Number(process.env["OUTRIDER_CRASH_SECONDS"] ?? 20);
const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Date.now() % 2 ** 31);

describe("two sidecars on one embedded store, killed again and again with their applications", () => {
  it(
    "lose nothing that was acknowledged, and keep the order of each key",
    async () => {
      process.stdout.write(`crash test with OUTRIDER_TEST_SEED=${seed} OUTRIDER_CRASH_SECONDS=${seconds}\n`);
      const report = await crashTest({ seconds, seed });
      process.stdout.write(`${describeReport(report)}\n`);
      const { lost, disordered, overtaken, fallen, behind } = report;
      expect({ lost, disordered, overtaken, fallen, behind }).toEqual({
        lost: [],
        disordered: [],
        overtaken: [],
        fallen: [],
        behind: [],
      });
      expect(report.acknowledged).toBeGreaterThan(seconds * 50);
    },
    seconds * 5000 + 120_000,
  );
});
