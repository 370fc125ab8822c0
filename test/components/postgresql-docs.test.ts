import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { makeComponents } from "../../src/components/index.ts";
import { pubSubSchema, stateSchema } from "../../src/components/postgresql/settings.ts";
import { loadText } from "../config/fixture.ts";

const page = await readFile(new URL("../../docs/components/postgresql.md", import.meta.url), "utf8");

it("docs/components/postgresql.md has every field of the schemas, and no other", () => {
  const fields = [...new Set([...Object.keys(stateSchema.shape), ...Object.keys(pubSubSchema.shape)])];
  expect(fields.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  const rows = [...page.matchAll(/^\| (`\w+`(?:, `\w+`)*)(?: \(ours\))? \|/gm)].flatMap(([, names]) =>
    [...names!.matchAll(/`(\w+)`/g)].map(([, name]) => name!),
  );
  expect(rows.filter((name) => !fields.includes(name))).toEqual([]);
});

it("the example of docs/components/postgresql.md loads", async () => {
  const [, yaml = ""] = /^```yaml\n(.*?)^```/ms.exec(page) ?? [];
  const { components, notes } = await loadText(yaml, { components: makeComponents().all });
  expect(components.map(({ name, version }) => [name, version])).toEqual([
    ["orders", "v1"],
    ["state", "v2"],
  ]);
  expect(notes).toEqual([]);
});

it("says which field is missing when none tells where the server is", () => {
  for (const schema of [stateSchema, pubSubSchema]) {
    const { error } = schema.safeParse({});
    expect(error?.issues.map(({ path }) => path)).toEqual([["connectionString"]]);
    expect(schema.safeParse({ host: "localhost" }).success).toBe(true);
  }
});
