import { expect, it } from "vitest";
import { untilAborted } from "../../src/blocks/until-aborted.ts";

const collect = async <T>(source: AsyncIterable<T>) => {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
};

it("gives the source's items when nobody aborts", async () => {
  async function* source() {
    yield 1;
    yield 2;
  }
  expect(await collect(untilAborted(source(), new AbortController().signal))).toEqual([1, 2]);
});

it("throws the source's own error", async () => {
  const error = new Error("broken");
  // biome-ignore lint/correctness/useYield: a source that fails before it gives anything.
  async function* source(): AsyncGenerator<number> {
    throw error;
  }
  await expect(collect(untilAborted(source(), new AbortController().signal))).rejects.toBe(error);
});

it("throws the signal's reason while the source never goes on", async () => {
  const abort = new AbortController();
  const reason = new Error("enough");
  async function* source() {
    yield 1;
    abort.abort(reason);
    await new Promise(() => {});
  }
  await expect(collect(untilAborted(source(), abort.signal))).rejects.toBe(reason);
});

it("throws at once, and stops the source, when the signal has aborted before", async () => {
  let started = false;
  async function* source() {
    started = true;
    yield 1;
  }
  const reason = new Error("too late");
  await expect(collect(untilAborted(source(), AbortSignal.abort(reason)))).rejects.toBe(reason);
  expect(started).toBe(false);
});

it("stops the source when its reader leaves", async () => {
  let stopped = false;
  async function* source() {
    try {
      yield 1;
      yield 2;
    } finally {
      stopped = true;
    }
  }
  for await (const _ of untilAborted(source(), new AbortController().signal)) break;
  expect(stopped).toBe(true);
});
