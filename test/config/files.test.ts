import { execFileSync } from "node:child_process";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mostFileBytes } from "../../src/config/files.ts";
import { load } from "../../src/config/load.ts";
import { componentYaml, directory, loadText, mistakesOf, optionsFor } from "./fixture.ts";

const declaredNames = async (path: string, overrides = {}) =>
  (await load(optionsFor(path, overrides))).components.filter(({ source }) => source).map(({ name }) => name);

describe("a resources directory", () => {
  it("has its .yaml and .yml files read, by name, and nothing else", async () => {
    const path = await directory({
      "b.yml": componentYaml("b", "state.sqlite"),
      "a.yaml": componentYaml("a", "state.sqlite"),
      "c.YAML": componentYaml("c", "state.sqlite"),
      "secrets.json": '{"password": "x"}',
      "README.md": "kind: [",
      "deeper/d.yaml": componentYaml("d", "state.sqlite"),
      "e.yaml/f.yaml": componentYaml("f", "state.sqlite"),
    });
    expect(await declaredNames(path)).toEqual(["a", "b", "c"]);
  });

  it("may be a mounted ConfigMap, whose files are links", async () => {
    const path = await directory({ "..2026_11_21/a.yaml": componentYaml("a", "state.sqlite") });
    await symlink("..2026_11_21", join(path, "..data"));
    await symlink("..data/a.yaml", join(path, "a.yaml"));
    expect(await declaredNames(path)).toEqual(["a"]);
  });

  it("may be one of several, and a file may be given instead", async () => {
    const one = await directory({ "a.yaml": componentYaml("a", "state.sqlite") });
    const two = await directory({ "b.json": JSON.stringify(jsonComponent) });
    const resourcesPaths = [one, join(two, "b.json"), join(one, "a.yaml")];
    expect(await declaredNames(one, { resourcesPaths })).toEqual(["a", "b"]);
  });

  it("that is missing is a mistake", async () => {
    const path = await directory({});
    const options = optionsFor(join(path, "nowhere"), { configPaths: [join(path, "none.yaml")] });
    expect(await mistakesOf(load(options))).toEqual(["none.yaml  does not exist", "nowhere  does not exist"]);
  });
});

const jsonComponent = {
  apiVersion: "dapr.io/v1alpha1",
  kind: "Component",
  metadata: { name: "b" },
  spec: { type: "state.sqlite", metadata: [] },
};

describe("a file", () => {
  it("may be of the largest size and no larger", async () => {
    const path = await directory({});
    const yaml = `${componentYaml("a", "state.sqlite")}# `;
    await writeFile(join(path, "a.yaml"), yaml.padEnd(mostFileBytes, "x"));
    expect(await declaredNames(path)).toEqual(["a"]);
    await writeFile(join(path, "a.yaml"), yaml.padEnd(mostFileBytes + 1, "x"));
    expect(await mistakesOf(load(optionsFor(path)))).toEqual([
      `a.yaml  has more than ${mostFileBytes} bytes`,
    ]);
  });

  it("that is no text, no file or a broken link is a mistake, and is not waited for", async () => {
    const path = await directory({ "a.yaml": new Uint8Array([0x6b, 0xff, 0xfe]) });
    execFileSync("mkfifo", [join(path, "b.yaml")]);
    await symlink("nowhere", join(path, "c.yaml"));
    await mkdir(join(path, "d.yaml"));
    expect(await mistakesOf(load(optionsFor(path)))).toEqual([
      "a.yaml  is not UTF-8 text",
      "b.yaml  is not a file",
      "c.yaml  does not exist",
    ]);
  });

  it("may begin with a byte order mark and end lines as Windows does", async () => {
    const loaded = await loadText(`\uFEFF${componentYaml("a", "state.sqlite").replaceAll("\n", "\r\n")}`);
    expect(loaded.components[0]).toMatchObject({ name: "a", source: { line: 1 } });
  });
});
