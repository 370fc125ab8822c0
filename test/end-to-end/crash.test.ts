/**
 * What was acknowledged survives the end of anything. Longer, and again as it was:
 *
 *   OUTRIDER_CRASH_SECONDS=600 OUTRIDER_TEST_SEED=42 npx vitest run test/end-to-end/crash.test.ts
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { serverFolder } from "../servers/run-folder.ts";
import { expectNothingLost, stateYaml, yamlOf } from "./chaos.ts";
import { crashTest, describeReport } from "./crash-test.ts";

const seconds = Number(process.env["OUTRIDER_CRASH_SECONDS"] ?? 20);
const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Date.now() % 2 ** 31);

describe("two sidecars on one embedded store, killed again and again with their applications", () => {
  it(
    "lose nothing that was acknowledged, and keep the order of each key",
    async () => {
      process.stdout.write(`crash test with OUTRIDER_TEST_SEED=${seed} OUTRIDER_CRASH_SECONDS=${seconds}\n`);
      const path = join(serverFolder("crash"), "state.yaml");
      await writeFile(path, yamlOf("pubsub", "pubsub.sqlite", "v1", {}) + stateYaml(undefined, 0));
      const report = await crashTest({ seconds, seed, resources: () => path });
      process.stdout.write(`${describeReport(report)}\n`);
      expectNothingLost(report, { rewinds: false });
      expect(report.acknowledged).toBeGreaterThan(seconds * 20);
    },
    seconds * 10_000 + 120_000,
  );
});
