import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

interface Metric {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
}

const root = join(import.meta.dirname, "../..");
const documented = metricsInDocs(readFileSync(join(root, "docs/telemetry.md"), "utf8"));
const made = globSync("src/**/*.ts", { cwd: root }).flatMap((file) =>
  metricsInSource(readFileSync(join(root, file), "utf8"), file),
);

describe("docs/telemetry.md", () => {
  it("has every metric that the sources make, with its type and labels", () => {
    expect(made.length).toBeGreaterThan(10);
    expect(made.filter((metric) => !documented.some((other) => isSame(metric, other)))).toEqual([]);
  });

  it("has no metric that nothing makes", () => {
    const names = new Set(made.map(({ name }) => name));
    expect(documented.map(({ name }) => name).filter((name) => !names.has(name))).toEqual([]);
  });

  it("has each metric once", () => {
    const names = documented.map(({ name }) => name);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });
});

function isSame(a: Metric, b: Metric): boolean {
  return a.name === b.name && a.type === b.type && a.labels.join() === b.labels.join();
}

/** Rows such as | `outrider_x_total` | counter | `a`, `b` | ... | */
function metricsInDocs(text: string): Metric[] {
  const row = /^\| `([a-z0-9_]+)` \| (counter|gauge|histogram) \| ([^|]*)\|/gm;
  return [...text.matchAll(row)].map(([, name, type, labels]) => ({
    name: name!,
    type: type!,
    labels: [...labels!.matchAll(/`([a-z_]+)`/g)].map((label) => label[1]!),
  }));
}

/** Calls of counter, gauge and histogram: a name and help as literals, labels as a list or a constant of the file. */
function metricsInSource(source: string, file: string): Metric[] {
  const start = /\.\s*(counter|gauge|histogram)\(\s*"([^"]+)"/g;
  const rest = /^,\s*(?:"(?:[^"\\]|\\.)*"|`[^`]*`|\s|\+)+,\s*(\[[^\]]*\]|[\w$]+)/;
  return [...source.matchAll(start)].map((match) => {
    const found = rest.exec(source.slice(match.index + match[0].length));
    if (!found)
      throw new Error(`${file}: help and labels of ${match[2]} must be literals, to be checked here`);
    return { name: match[2]!, type: match[1]!, labels: labelsOf(found[1]!, source, file) };
  });
}

function labelsOf(expression: string, source: string, file: string): string[] {
  if (!expression.startsWith("[")) {
    const constant = new RegExp(`const ${expression}\\b[^=]*=\\s*(\\[[^\\]]*\\])`).exec(source);
    if (!constant) throw new Error(`${file}: labels ${expression} are no list that stands in the same file`);
    return labelsOf(constant[1]!, source, file);
  }
  return [...expression.matchAll(/"([a-z_]+)"|\.\.\.([\w$]+)/g)].flatMap(([, label, spread]) =>
    label === undefined ? labelsOf(spread!, source, file) : [label],
  );
}
