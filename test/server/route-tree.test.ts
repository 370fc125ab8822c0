import { expect, it } from "vitest";
import { RouteTree } from "../../src/server/route-tree.ts";

function treeOf(...paths: readonly string[]): RouteTree<string> {
  const tree = new RouteTree<string>();
  for (const path of paths) tree.add("GET", path, path);
  return tree;
}

it("gives parameters by their names, decoded once, with slashes that were encoded", () => {
  const tree = treeOf("/state/:store/:key", "/state/:other/bulk/:id");
  expect(tree.find("GET", "/state/redis/a%2Fb%20%252F")).toEqual({
    value: "/state/:store/:key",
    params: { store: "redis", key: "a/b %2F" },
  });
  expect(tree.find("GET", "/state/redis/bulk/1")?.params).toEqual({ other: "redis", id: "1" });
});

it("takes what is written before a parameter, and both before the rest of a path", () => {
  const tree = treeOf("/a/b", "/a/:x", "/a/*");
  expect(tree.find("GET", "/a/b")?.value).toBe("/a/b");
  expect(tree.find("GET", "/a/c")?.value).toBe("/a/:x");
  expect(tree.find("GET", "/a/b/c")).toEqual({ value: "/a/*", params: { "*": "b/c" } });
});

it("turns back where what is written leads nowhere", () => {
  const tree = treeOf("/a/b/c", "/a/:x/d", "/*");
  expect(tree.find("GET", "/a/b/d")).toEqual({ value: "/a/:x/d", params: { x: "b" } });
  expect(tree.find("GET", "/a/b/e")).toEqual({ value: "/*", params: { "*": "a/b/e" } });
});

it("has the rest of a path empty, and parameters never", () => {
  const tree = treeOf("/a/*", "/b/:x");
  expect(tree.find("GET", "/a/")?.params).toEqual({ "*": "" });
  expect(tree.find("GET", "/a")).toBeUndefined();
  expect(tree.find("GET", "/b/")).toBeUndefined();
});

it("finds nothing for other methods, cases and ends, and for what cannot be decoded", () => {
  const tree = treeOf("/a/:x");
  expect(tree.find("POST", "/a/b")).toBeUndefined();
  for (const path of ["/A/b", "/a", "/a/b/c", "/a/%GG", "*", ""])
    expect(tree.find("GET", path)).toBeUndefined();
});

it("knows nothing of the names that every object has", () => {
  const tree = treeOf("/a/:x");
  for (const path of ["/__proto__/b", "/constructor/b"]) expect(tree.find("GET", path)).toBeUndefined();
});

it("refuses a second route at one path", () => {
  expect(() => treeOf("/a/:x", "/a/:y")).toThrow("there are two routes GET /a/:y");
  expect(() => treeOf("/a/*", "/a/*")).toThrow("there are two routes GET /a/*");
});
