import { expect, it } from "vitest";
import { compareUtf8, SortedKeys } from "../../../src/components/memory/sorted-keys.ts";

const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));

it("compares as the bytes of UTF-8 do", () => {
  const texts = [
    "",
    "a",
    "ab",
    "b",
    "z",
    "~",
    "é",
    "\uD7FF",
    "\uE000",
    "\uFFFD",
    "\uFFFF",
    "\u{10000}",
    "\u{1F600}",
  ];
  texts.push("\u{1F600}a", "a\u{10FFFF}", "a\uFFFF", "a\uE000\u{10000}", "\u{10FFFF}");
  for (const a of texts) {
    for (const b of texts)
      expect([a, b, Math.sign(compareUtf8(a, b))]).toEqual([a, b, Math.sign(byBytes(a, b))]);
  }
});

it("has what was added and not removed, in order, whatever came between", () => {
  let seed = 3;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed % below;
  };
  const keys = new SortedKeys();
  const there = new Set<string>();
  for (let step = 0; step < 5000; step++) {
    const key =
      String.fromCodePoint(0xd000 + random(300)).replace(/[\uD800-\uDFFF]/, "\u{1F600}") + random(20);
    if (there.delete(key)) keys.remove(key);
    else {
      there.add(key);
      keys.add(key);
    }
    if (step % 50 > 0) continue;
    const found = [...keys.from("", undefined, (each) => there.has(each))].filter((each) => there.has(each));
    expect(found).toEqual([...there].sort(byBytes));
  }
});

it("forgets what was removed, so that it holds at most twice what is there", () => {
  const keys = new SortedKeys();
  const there = new Set<string>();
  const held = () => [...keys.from("", undefined, (each) => there.has(each))].length;
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 100; i++) {
      there.add(`${round}/${i}`);
      keys.add(`${round}/${i}`);
    }
    expect(held()).toBeLessThanOrEqual(2 * there.size);
    for (const key of [...there].slice(0, 100)) {
      there.delete(key);
      keys.remove(key);
    }
  }
  expect(held()).toBe(0);
});
