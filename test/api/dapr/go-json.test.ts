/** JSON that Go refuses, in its words. The table is what Go 1.26 said of each text: of all of it, and as a stream's first value. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readAsGo, readFirst } from "../../../src/api/dapr/go-json.ts";
import { goBodies, goMismatch } from "../../../src/api/dapr/go-types.ts";

/** A text, a character for each byte; what json.Unmarshal said; what a Decoder said, or `=` and where its value ended. */
type Row = readonly [text: string, whole: string, first: string];

const table = JSON.parse(await readFile(join(import.meta.dirname, "go-json-table.json"), "utf8")) as Row[];

it("every text gets what Go says of it", () => {
  expect(table.length).toBeGreaterThan(500);
  for (const row of table) {
    const bytes = Buffer.from(row[0], "latin1");
    const whole = readAsGo(bytes, "whole");
    const first = readAsGo(bytes, "first");
    const said = ["error" in whole ? whole.error : "", "error" in first ? first.error : `=${first.end}`];
    expect([row[0], ...said]).toEqual(row);
  }
});

it("ten thousand levels are read, and not one more", () => {
  const nested = (levels: number) => Buffer.from("[".repeat(levels));
  expect(readAsGo(nested(10_000), "whole")).toEqual({ error: "unexpected end of JSON input" });
  expect(readAsGo(nested(10_001), "whole")).toEqual({ error: "invalid character '[' exceeded max depth" });
});

it("what is read is the first value, bytes that are no UTF-8 included", () => {
  const read = (bytes: Uint8Array) => readFirst(bytes, (why) => new Error(why));
  expect(read(Buffer.from('{"a":1} x'))).toEqual({ text: '{"a":1}', value: { a: 1 } });
  expect(read(Buffer.from([0x22, 0xff, 0x22])).value).toBe("\ufffd");
  expect(() => read(Buffer.from("\ufeff{}"))).toThrow("invalid character 'ï' looking for beginning of value");
});

it("a value that is of another type than Go's is told of with Go's names", () => {
  for (const [type, text, why] of [
    ["save", "[1]", "number into Go value of type state.SetRequest"],
    ["save", '[{"KEY":{},"etag":1}]', "object into Go struct field SetRequest.key of type string"],
    ["save", '[{"metadata":[]}]', "array into Go struct field SetRequest.metadata of type map[string]string"],
    [
      "save",
      '[{"options":"x"}]',
      "string into Go struct field SetRequest.options of type state.SetStateOption",
    ],
    ["bulkGet", '{"keys":["a",true]}', "bool into Go struct field BulkGetRequest.keys of type string"],
    [
      "bulkGet",
      '{"parallelism":1.5}',
      "number 1.5 into Go struct field BulkGetRequest.parallelism of type int",
    ],
  ] as const)
    expect([text, goMismatch(JSON.parse(text), goBodies[type])]).toEqual([
      text,
      `json: cannot unmarshal ${why}`,
    ]);
  expect(goMismatch([{ key: null, value: [1], other: 1 }], goBodies.save)).toBeUndefined();
});
