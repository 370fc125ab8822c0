import { expect, it } from "vitest";
import { resolver } from "../../src/blocks/resolve.ts";
import { reasonOf } from "../../src/faults.ts";

const errorOf = (call: () => unknown): Error => {
  try {
    call();
  } catch (error) {
    expect(reasonOf(error)).toBe("COMPONENT_NOT_FOUND");
    return error as Error;
  }
  throw new Error("nothing was thrown");
};

it("finds a component by its name", () => {
  const find = resolver(
    "state store",
    new Map([
      ["a", 1],
      ["b", 2],
    ]),
    "state",
  );
  expect(find("b")).toBe(2);
});

it("takes the one with the default name when the request names none", () => {
  const find = resolver(
    "state store",
    new Map([
      ["a", 1],
      ["state", 2],
    ]),
    "state",
  );
  expect(find("")).toBe(2);
});

it("takes the only one when the request names none and none has the default name", () => {
  expect(resolver("state store", new Map([["orders", 7]]), "state")("")).toBe(7);
});

it("does not guess between several, and names them", () => {
  const find = resolver(
    "state store",
    new Map([
      ["a", 1],
      ["b", 2],
    ]),
    "state",
  );
  expect(errorOf(() => find("")).message).toContain('there are "a", "b"');
});

it("says which name is unknown, and which there are", () => {
  const find = resolver("state store", new Map([["a", 1]]), "state");
  const { message } = errorOf(() => find("x"));
  expect(message).toContain('no state store "x"');
  expect(message).toContain('"a"');
  expect(errorOf(() => resolver("state store", new Map(), "state")("")).message).toContain("none at all");
});

it("repeats no more than the beginning of a name of megabytes", () => {
  const find = resolver("state store", new Map([["a", 1]]), "state");
  expect(errorOf(() => find("x".repeat(1_000_000))).message.length).toBeLessThan(300);
});

it("sees components that come later", () => {
  const components = new Map<string, number>();
  const find = resolver("state store", components, "state");
  components.set("state", 1);
  expect(find("")).toBe(1);
});
