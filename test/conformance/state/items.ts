import { describe, expect, it } from "vitest";
import type { StateFixture } from "./fixture.ts";
import { bytesOf, expectSameBytes, pattern, textOf } from "./fixture.ts";

/** Keys that stores like to take for something else, and pairs that they like to take for the same. */
const awkwardKeys = [
  "%",
  "_",
  "\\",
  "'; --",
  '"',
  "*",
  "?",
  "[a]",
  "{a}",
  ":",
  " ",
  " a",
  "a ",
  "a",
  "A",
  "ä",
  "a\u0308",
  "ß",
  "ss",
  "日本語",
  "\u{1F600}",
  "\uFFFD",
  "../a",
  "a//b",
  "null",
  "0",
  "00",
];

/** What `get` returns of what `write` was given. */
export function itemConformance(state: StateFixture): void {
  describe("items", () => {
    it("has no item until one is set", async () => {
      expect(await state.get(state.key())).toBeUndefined();
    });

    it.each([
      ["no bytes", new Uint8Array(0)],
      ["text", bytesOf("hello")],
      ["every byte", Uint8Array.from({ length: 256 }, (_, byte) => byte)],
      ["bytes that are no UTF-8", Uint8Array.of(0xff, 0xfe, 0x80, 0x00)],
      ["1 MiB", pattern(1024 * 1024)],
    ])("returns the bytes it was given: %s", async (_name, value) => {
      const key = state.key();
      await state.set(key, value);
      const item = await state.get(key);
      expectSameBytes(item?.value, value);
      expect(item?.valueBytes).toBe(value.byteLength);
    });

    it("returns every value of those that are within the bytes asked for", async () => {
      const keys = [state.key(), state.key(), state.key()];
      for (const key of keys) await state.set(key, "12345");
      const items = await state.driver.get([...keys, state.key()], state.call, 15);
      expect(items.map((item) => item && textOf(item))).toEqual(["12345", "12345", "12345", undefined]);
    });

    it("returns key, content type and etag with the value", async () => {
      const key = state.key();
      const etag = await state.set(key, "{}", { contentType: "application/json; charset=utf-8" });
      const item = await state.get(key);
      expect(item?.key).toBe(key);
      expect(item?.contentType).toBe("application/json; charset=utf-8");
      expect(item?.etag).toBe(etag);
      expect(item?.expiresAtMs).toBeUndefined();
    });

    state.test(["metadata"], "returns metadata with the value", async () => {
      const key = state.key();
      const metadata = { author: "jo", "x-empty": "", ключ: "значение \u{1F600}", "with\nbreak": "a\tb" };
      await state.set(key, "{}", { metadata });
      expect({ ...(await state.get(key))?.metadata }).toEqual(metadata);
    });

    it("returns no content type and no metadata where none was given", async () => {
      const key = state.key();
      await state.set(key);
      const item = await state.get(key);
      expect(item?.contentType).toBe("");
      expect({ ...item?.metadata }).toEqual({});
    });

    it("replaces the whole item on every set", async () => {
      const key = state.key();
      await state.set(key, "first", { contentType: "text/plain", metadata: { a: "1" } });
      await state.set(key, "2");
      const item = await state.get(key);
      expectSameBytes(item?.value, bytesOf("2"));
      expect(item?.contentType).toBe("");
      expect({ ...item?.metadata }).toEqual({});
    });

    state.test(["metadata"], "replaces the metadata on every set", async () => {
      const key = state.key();
      await state.set(key, "", { metadata: { a: "1" } });
      await state.set(key, "", { metadata: { b: "2" } });
      expect({ ...(await state.get(key))?.metadata }).toEqual({ b: "2" });
    });

    state.test(["metadata"], "keeps 64 entries of metadata, 8 KiB in all", async () => {
      const key = state.key();
      const entries = Array.from({ length: 64 }, (_, i) => [
        `name-${String(i).padStart(3, "0")}`,
        "v".repeat(120),
      ]);
      await state.set(key, "", { metadata: Object.fromEntries(entries) });
      expect({ ...(await state.get(key))?.metadata }).toEqual(Object.fromEntries(entries));
    });

    it("does not care what becomes of the caller's buffer once a write is answered", async () => {
      const key = state.key();
      const value = bytesOf("before");
      await state.set(key, value);
      value.fill(0);
      expect(await state.textOf(key)).toBe("before");
    });

    it("keeps keys apart that look alike, and takes any character in them", async () => {
      const prefix = state.key();
      for (const key of awkwardKeys) await state.set(prefix + key, `value of ${key}`);
      for (const key of awkwardKeys) expect(await state.textOf(prefix + key)).toBe(`value of ${key}`);
    });

    it("takes keys of 1,200 bytes, which is what is left of 1,024 after a prefix is put before them", async () => {
      const prefix = state.key();
      const long = prefix + "k".repeat(1200 - prefix.length);
      await state.set(long, "one");
      await state.set(`${long.slice(0, -1)}l`, "other");
      expect(await state.textOf(long)).toBe("one");
    });

    it("reads several keys at once, in the order asked for, missing and repeated ones too", async () => {
      const [a, b, none] = [state.key(), state.key(), state.key()];
      await state.set(a, "a");
      await state.set(b, "b");
      const items = await state.driver.get([b, none, a, b], state.call);
      expect(items.map((item) => item?.key)).toEqual([b, undefined, a, b]);
    });

    it("reads a thousand keys at once", async () => {
      const prefix = state.key();
      await state.set(`${prefix}7`, "seven");
      const keys = Array.from({ length: 1000 }, (_, i) => `${prefix}${i}`);
      const items = await state.driver.get(keys, state.call);
      expect(items).toHaveLength(1000);
      expect(items.flatMap((item) => (item ? [item.key] : []))).toEqual([`${prefix}7`]);
    });

    it("sees every write that was answered", async () => {
      const key = state.key();
      for (let i = 0; i < 50; i++) {
        await state.set(key, String(i));
        expect(await state.textOf(key)).toBe(String(i));
      }
      await state.delete(key);
      expect(await state.get(key)).toBeUndefined();
    });
  });
}
