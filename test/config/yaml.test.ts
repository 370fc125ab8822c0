import { describe, expect, it } from "vitest";
import { plain } from "../../src/config/tree.ts";
import { readText } from "../../src/config/yaml.ts";

const documents = (text: string) => readText(text).documents.map(plain);
const mistakes = (text: string) => {
  const read = readText(text);
  return read.mistakes.map(({ at, message }) => {
    const { line, column } = read.position(at);
    return `${line}:${column} ${message}`;
  });
};

describe("YAML", () => {
  it("is read as Go reads it: yes is true, 012 is ten, dates and times are text", () => {
    expect(documents("[yes, No, on, 012, 0x1f, 1_000, 2001-01-01, 1:30, 1:30.5, ~, 'yes']")).toEqual([
      [true, false, true, 10, 31, 1000, "2001-01-01", "1:30", "1:30.5", null, "yes"],
    ]);
  });

  it("may have aliases and merge keys, of which a field's own value wins", () => {
    const text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, x: 3}\nd: {y: 4, <<: [*a, {z: 5}]}";
    expect(documents(text)).toEqual([
      { a: { x: 1, y: 2 }, b: { x: 1, y: 2 }, c: { x: 3, y: 2 }, d: { x: 1, y: 4, z: 5 } },
    ]);
  });

  it("has several documents, of which empty ones do not count", () => {
    expect(documents("a: 1\n---\n---\n# none\n---\nb: 2\n...\n")).toEqual([{ a: 1 }, { b: 2 }]);
  });

  it("has its mistakes told with their lines, and its sound documents read", () => {
    expect(mistakes("a: 1\na: 2")).toEqual(['2:1 the key "a" is there twice']);
    expect(mistakes("a: *b")).toEqual(["1:4 no anchor &b before it"]);
    expect(mistakes("a: &a [*a]")).toEqual(["1:8 the alias *a is within what it stands for"]);
    expect(mistakes("{[a]: 1}")).toEqual(["1:2 a key must be text"]);
    expect(mistakes("<<: 1")).toEqual(["1:5 << takes a map or a list of maps"]);
    expect(documents("a: [\n---\nb: 1")).toEqual([{ b: 1 }]);
  });

  it("whose aliases stand for billions of values is refused at once", () => {
    const names = "abcdefghij".split("");
    const bomb = names.map((name, index) => {
      const items = Array.from({ length: 9 }, () => (index === 0 ? "x" : `*${names[index - 1]}`));
      return `${name}: &${name} [${items.join(",")}]`;
    });
    expect(mistakes(bomb.join("\n"))).toEqual([expect.stringContaining("more than 100000 values")]);
  });

  it.each([
    ["lists in lists", "[".repeat(50_000)],
    ["maps in maps", "{a: ".repeat(20_000)],
    ["lists on one line", "- ".repeat(20_000)],
    ["indentation", Array.from({ length: 500 }, (_, depth) => `${" ".repeat(depth)}a:`).join("\n")],
    ["one level too many", `${"[".repeat(101)}${"]".repeat(101)}`],
  ])("that nests too deeply is refused: %s", (_, text) => {
    expect(mistakes(text)).toContainEqual(
      expect.stringContaining("values are nested more than 100 levels deep"),
    );
  });

  it("may nest a hundred levels", () => {
    expect(mistakes(`${"[".repeat(100)}${"]".repeat(100)}`)).toEqual([]);
  });

  it("with a mistake on every line has ten of them told", () => {
    expect(mistakes("]\n".repeat(1000)).length).toBeLessThanOrEqual(11);
  });
});
