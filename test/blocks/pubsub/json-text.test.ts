import { describe, expect, it } from "vitest";
import { compactJson, jsonElements, jsonMembers } from "../../../src/blocks/pubsub/json-text.ts";

/** Every text of these characters up to five long: quotes and backslashes are where a string's end is mistaken. */
function texts(): string[] {
  const all = [""];
  for (let from = 0, length = 1; length <= 5; length++) {
    const to = all.length;
    for (; from < to; from++) for (const character of ['"', "\\", ",", "}"]) all.push(all[from] + character);
  }
  return all;
}

describe("JSON as text", () => {
  it("finds the members of an object and the elements of an array, whatever its strings have in them", () => {
    for (const text of texts()) {
      const string = JSON.stringify(text);
      const object = `{ "a" : ${string} , "b" : { "c" : [ ${string} ] } , "d" : 1 }`;
      expect(jsonMembers(object)).toEqual(
        new Map([
          ["a", string],
          ["b", `{"c":[${string}]}`],
          ["d", "1"],
        ]),
      );
      expect(jsonMembers(`{${string}:2,"z":3}`)?.get("z")).toBe("3");
      expect(jsonElements(`[ ${string} , [ ${string} ] , null ]`)).toEqual([string, `[${string}]`, "null"]);
      expect(compactJson(` [ ${string} , 1.50 ] `)).toBe(`[${string},1.50]`);
    }
  });

  it("says what is no object and no array, and throws for what is no JSON", () => {
    expect(jsonMembers("[1]")).toBeUndefined();
    expect(jsonElements('{"a":1}')).toBeUndefined();
    for (const text of ["", '"', '"\\"', "{", '{"a":"\\"}', "[1,]"]) {
      expect(() => jsonMembers(text)).toThrow(SyntaxError);
      expect(() => jsonElements(text)).toThrow(SyntaxError);
    }
  });
});
