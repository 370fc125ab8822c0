/** A server that cannot be had: its tests are skipped and it is said why, or they fail where it must be there. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

/** Runs a test file that needs Toxiproxy where .ci/servers.sh has not installed it. */
function runWithoutToxiproxy(required: string): { readonly status: number | null; readonly output: string } {
  const folder = mkdtempSync(join(import.meta.dirname, "absent-"));
  try {
    const body = `
      import { expect, it } from "vitest";
      import { describeWith } from "../require.ts";
      describeWith("toxiproxy", "a component", () => { it("does something", () => { expect(1).toBe(1); }); });`;
    writeFileSync(join(folder, "absent.test.ts"), body);
    const env = {
      ...process.env,
      OUTRIDER_TEST_TOOLS: "/nowhere",
      OUTRIDER_TEST_REQUIRE: required,
    };
    const vitest = join("node_modules", "vitest", "vitest.mjs");
    // It makes a run folder of its own, with a shell, but starts nothing.
    const { status, stdout, stderr } = spawnSync(process.execPath, [vitest, "run", folder], {
      env,
      encoding: "utf8",
      timeout: 60_000,
    });
    return { status, output: stdout + stderr };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("tests of a server that cannot be had", () => {
  it("are skipped, with the reason at the end", () => {
    const { status, output } = runWithoutToxiproxy("");
    expect(output).toContain("skipped (1): toxiproxy cannot be had: toxiproxy-server");
    expect(output).toContain("0 passed, 0 failed, 1 skipped");
    expect(status).toBe(0);
  });

  it("fail where it is required", () => {
    const { status, output } = runWithoutToxiproxy("kafka,toxiproxy");
    expect(output).toContain("toxiproxy cannot be had: toxiproxy-server");
    expect(output).toContain("0 passed, 1 failed");
    expect(status).toBe(1);
  });
});
