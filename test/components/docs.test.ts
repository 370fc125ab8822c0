import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { loaded } from "../../src/component.ts";
import { makeComponents } from "../../src/components/index.ts";
import { fieldsOf } from "../../src/config/shape.ts";

const root = resolve(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const readme = read("README.md");

describe.each(makeComponents().all.map((each) => [each.type, each] as const))(
  "the page of %s",
  (type, component) => {
    const page = `docs/components/${type.slice(type.indexOf(".") + 1)}.md`;
    const text = read(page);

    it("is about it", () => {
      expect(text.split("\n", 1)[0]).toContain(type);
    });

    it("has every field of its metadata", async () => {
      const { schema } = await loaded(component);
      const fields = Object.keys(fieldsOf(schema) ?? {});
      expect(fields.filter((field) => !text.includes(`\`${field}\``))).toEqual([]);
    });

    it("is linked from the README's table, which names the type", () => {
      expect(readme).toContain(`](${page})`);
      expect(readme).toContain(`\`${type}\``);
    });
  },
);
