/** `outrider check`, as a process. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeProject, outrider, removeProject } from "../outrider.ts";

let cwd: string;
beforeAll(async () => {
  cwd = await makeProject();
});
afterAll(() => removeProject(cwd));

const run = (...words: readonly string[]) => outrider(words, { cwd });
const json = (text: string) =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("outrider check", () => {
  const resource = (type: string, name = "mine") =>
    `apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: { name: ${name} }\nspec: { type: ${type} }\n`;

  it("says what would be loaded, and starts nothing", async () => {
    await writeFile(join(cwd, "good.yaml"), resource("state.in-memory"));
    const { code, stdout } = await run("check", "good.yaml");
    expect(code).toBe(0);
    expect(stdout).toMatch(/mine +state\.in-memory v1 +good\.yaml:1/);
  });

  it("tells every mistake with its place, and ends with 2", async () => {
    await writeFile(
      join(cwd, "bad.yaml"),
      `${resource("state.nosuch")}---\n${resource("pubsub.inmemory", "other")}`,
    );
    const { code, stderr } = await run("check", "bad.yaml");
    expect(code).toBe(2);
    expect(stderr).toMatch(/bad\.yaml:4:\d+ .*state\.nosuch/);
    expect(stderr).toContain("pubsub.in-memory");
    const machine = await run("check", "bad.yaml", "--json");
    expect(machine.code).toBe(2);
    for (const line of json(machine.stdout))
      expect(line).toMatchObject({ severity: "mistake", file: "bad.yaml" });
  });
});
