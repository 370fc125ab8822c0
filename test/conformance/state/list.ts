import { describe, expect } from "vitest";
import type { Item, ListRange } from "../../../src/blocks/state/driver.ts";
import { maxValueBytes } from "../../../src/blocks/state/driver.ts";
import type { StateFixture } from "./fixture.ts";
import { setOf, textOf } from "./fixture.ts";

/** `list`. */
export function listConformance(state: StateFixture): void {
  const test = (title: string, body: () => Promise<void>) => state.test(["list"], title, body);

  const list = (range: Partial<ListRange> & { prefix: string }) =>
    state.driver.list!({ after: undefined, limit: 1000, keysOnly: false, ...range }, state.call);

  /** Every key with the prefix, without it, in the order of the pages. */
  const endings = async (prefix: string, limit = 1000): Promise<string[]> => {
    const found: string[] = [];
    for (let after: string | undefined; ; ) {
      const { items, more } = await list({ prefix, after, limit, keysOnly: true });
      expect(items.length).toBeLessThanOrEqual(limit);
      found.push(...items.map(({ key }) => key.slice(prefix.length)));
      if (!more) return found;
      expect(items.length).toBeGreaterThan(0);
      after = items.at(-1)!.key;
    }
  };
  const setAll = async (prefix: string, keys: readonly string[]) => {
    for (const key of keys) await state.set(prefix + key, `value of ${key}`);
  };

  describe("list", () => {
    test("returns nothing where there is nothing", async () => {
      expect(await list({ prefix: state.key() })).toEqual({ items: [], more: false });
    });

    test("returns the items that get returns", async () => {
      const prefix = state.key();
      await state.set(`${prefix}a`, "1", { contentType: "text/plain", metadata: { by: "jo" } });
      await state.set(`${prefix}b`, "");
      const items = await state.driver.get([`${prefix}a`, `${prefix}b`], state.call);
      const page = await list({ prefix });
      const comparable = (item: Item | undefined) => ({
        ...item!,
        value: textOf(item!),
        metadata: { ...item!.metadata },
      });
      expect(page.items.map(comparable)).toEqual(items.map(comparable));
      expect(page.more).toBe(false);
    });

    test("orders keys by their UTF-8 bytes, also beyond the Basic Multilingual Plane", async () => {
      const prefix = state.key();
      // U+FFFD comes before U+1F600 in UTF-8, and after its surrogates in JavaScript's own order.
      const keys = ["\u{1F600}", "\uFFFD", "\uE000", "\uD7FF", "\u{10FFFF}", "\u{10000}"];
      keys.push("z", "a", "Z", "~", "é", "e\u0301", "aa", "a b", "a/b", "a-b", "10", "9", "_", "\u{1F600}a");
      await setAll(prefix, keys);
      const expected = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(await endings(prefix)).toEqual(expected);
      expect(await endings(prefix, 3)).toEqual(expected);
    });

    test("returns no key that merely looks like the prefix", async () => {
      const prefix = state.key();
      await setAll(prefix, ["a", "ab", "A", "Ab", "b", "ä", "a\u0308"]);
      expect(await endings(`${prefix}a`)).toEqual(["", "b", "\u0308"]);
      expect(await endings(`${prefix}A`)).toEqual(["", "b"]);
    });

    test("returns a key that is the prefix itself, first", async () => {
      const prefix = state.key();
      await setAll(prefix, ["order/1", "order", "order0", "orde"]);
      expect(await endings(`${prefix}order`)).toEqual(["", "/1", "0"]);
    });

    test("takes characters in a prefix literally that other languages use as wildcards", async () => {
      const prefix = state.key();
      await setAll(prefix, ["%x", "_x", "*x", "?x", "[a]x", "\\x", "\\%x", "ax", "'x"]);
      for (const wildcard of ["%", "_", "*", "?", "[a]", "'", "\\%"]) {
        expect(await endings(prefix + wildcard)).toEqual(["x"]);
      }
      expect(await endings(`${prefix}\\`)).toEqual(["%x", "x"]);
    });

    test("finds what begins with the last character of all, and nothing after it", async () => {
      const prefix = state.key();
      const last = "\u{10FFFF}";
      await setAll(prefix, [
        last,
        `${last}${last}`,
        `${last}a`,
        "\u{10FFFE}",
        "\uFFFF",
        "\uFFFFa",
        "\u007F",
        "\u0080",
      ]);
      expect(await endings(prefix + last)).toEqual(["", "a", last]);
      expect(await endings(`${prefix}\uFFFF`)).toEqual(["", "a"]);
      expect(await endings(`${prefix}\u007F`)).toEqual([""]);
    });

    test("pages without losing or repeating a key, and knows the last page", async () => {
      const prefix = state.key();
      const keys = Array.from({ length: 25 }, (_, i) => String(i).padStart(3, "0"));
      await setAll(prefix, keys.toReversed());
      for (const limit of [1, 7, 24, 25, 26]) expect(await endings(prefix, limit)).toEqual(keys);
      const full = await list({ prefix, limit: 25 });
      expect(full.more).toBe(false);
      expect((await list({ prefix, limit: 24 })).more).toBe(true);
    });

    test("begins after a key that does not exist, as if it did", async () => {
      const prefix = state.key();
      await setAll(prefix, ["a", "c"]);
      const page = await list({ prefix, after: `${prefix}b` });
      expect(page.items.map(({ key }) => key)).toEqual([`${prefix}c`]);
    });

    test("returns nothing after the last key, or after a key behind the prefix", async () => {
      const prefix = state.key();
      await setAll(prefix, ["a/1", "b/1"]);
      expect(await list({ prefix, after: `${prefix}b/1` })).toEqual({ items: [], more: false });
      expect(await list({ prefix: `${prefix}a/`, after: `${prefix}b` })).toEqual({ items: [], more: false });
    });

    test("begins at the prefix when told to begin after an earlier key", async () => {
      const prefix = state.key();
      await setAll(prefix, ["a", "b/1", "b/2"]);
      const page = await list({ prefix: `${prefix}b/`, after: `${prefix}a` });
      expect(page.items.map(({ key }) => key)).toEqual([`${prefix}b/1`, `${prefix}b/2`]);
    });

    test("leaves values out when asked for keys only, and nothing else", async () => {
      const prefix = state.key();
      const etag = await state.set(`${prefix}a`, "12345", {
        contentType: "text/plain",
        metadata: { by: "jo" },
      });
      const { items } = await list({ prefix, keysOnly: true });
      expect(items[0]).toMatchObject({ value: undefined, valueBytes: 5, etag, contentType: "text/plain" });
      expect({ ...items[0]?.metadata }).toEqual({ by: "jo" });
    });

    test("leaves out a value that is too long, and tells its size", async () => {
      const prefix = state.key();
      await state.driver.write([setOf(`${prefix}long`, new Uint8Array(maxValueBytes + 1))], state.call);
      await state.set(`${prefix}short`);
      const { items } = await list({ prefix });
      expect(items.map(({ value, valueBytes }) => [value?.byteLength, valueBytes])).toEqual([
        [undefined, maxValueBytes + 1],
        [5, 5],
      ]);
    });

    test("sees every write that was answered", async () => {
      const prefix = state.key();
      const expected: string[] = [];
      for (const key of ["m", "a", "z", "b"]) {
        await state.set(prefix + key);
        expected.push(key);
        expect(await endings(prefix)).toEqual(expected.toSorted());
      }
      await state.delete(`${prefix}a`);
      expect(await endings(prefix)).toEqual(["b", "m", "z"]);
      await state.set(`${prefix}a`);
      expect(await endings(prefix)).toEqual(["a", "b", "m", "z"]);
    });

    test("goes on after keys were added and deleted between two pages", async () => {
      const prefix = state.key();
      await setAll(prefix, ["b", "d", "f", "h"]);
      const first = await list({ prefix, limit: 2 });
      expect(first.items.map(({ key }) => key)).toEqual([`${prefix}b`, `${prefix}d`]);
      await setAll(prefix, ["a", "e", "i"]);
      await state.delete(`${prefix}d`);
      await state.delete(`${prefix}f`);
      const second = await list({ prefix, after: `${prefix}d` });
      expect(second.items.map(({ key }) => key)).toEqual([`${prefix}e`, `${prefix}h`, `${prefix}i`]);
    });

    state.test(
      ["list", "timeToLive"],
      "passes over items that have expired, without shortening a page",
      async () => {
        const prefix = state.key();
        await setAll(prefix, ["a", "c"]);
        await state.set(`${prefix}b`, "b", { expiresAtMs: Date.now() - 1 });
        await state.set(`${prefix}d`, "d", { expiresAtMs: Date.now() - 1 });
        const page = await list({ prefix, limit: 2 });
        expect(page.items.map(({ key }) => key)).toEqual([`${prefix}a`, `${prefix}c`]);
        expect(page.more).toBe(false);
      },
    );

    test("of the empty prefix returns keys of all kinds", async () => {
      const key = state.key();
      await state.set(key);
      const { items } = await list({ prefix: "", limit: 1 });
      expect(items).toHaveLength(1);
    });
  });
}
