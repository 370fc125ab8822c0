import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { faultCodes } from "../src/faults.ts";

const directory = mkdtempSync(join(tmpdir(), "outrider-generated-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Every file of a directory by its path in it. */
function contents(root: string): Map<string, string> {
  const paths = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    paths
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [path.slice(root.length + 1), readFileSync(path, "utf8")] as const)
      .sort(([one], [other]) => (one < other ? -1 : 1)),
  );
}

describe("gen/", () => {
  it("is what the contracts in proto/ generate", () => {
    execFileSync("buf", ["generate", "--output", directory], { stdio: "pipe" });
    const made = contents(join(directory, "gen"));
    expect(made.size).toBeGreaterThan(5);
    expect(contents("gen")).toEqual(made);
  });
});

describe("the contracts", () => {
  it("name every reason that a client can get", () => {
    const words = [...contents("proto/outrider").values()].join("\n");
    const unnamed = Object.keys(faultCodes).filter((reason) => !new RegExp(`\\b${reason}\\b`).test(words));
    expect(unnamed).toEqual([]);
  });
});
