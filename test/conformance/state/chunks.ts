import { describe, expect } from "vitest";
import type { ChunkedWrite } from "../../../src/blocks/state/driver.ts";
import { EtagMismatch, maxValueBytes, ValueChanged } from "../../../src/blocks/state/driver.ts";
import type { StateFixture } from "./fixture.ts";
import { expectSameBytes, pattern } from "./fixture.ts";

const maxPieceBytes = 256 * 1024;

/** `read` and `writeChunks`. */
export function chunkConformance(state: StateFixture): void {
  const test = (title: string, body: () => Promise<void>) => state.test(["chunks"], title, body);

  const writeChunks = (
    key: string,
    chunks: AsyncIterable<Uint8Array>,
    options: Partial<ChunkedWrite> = {},
    signal = state.call.signal,
  ) => {
    const write = {
      key,
      contentType: "",
      metadata: {},
      expiresAtMs: undefined,
      precondition: undefined,
      ...options,
    };
    return state.driver.writeChunks!(write, chunks, { signal });
  };

  /** The whole value by way of `read`; undefined when there is no item. */
  const readAll = async (key: string): Promise<Uint8Array | undefined> => {
    const found = await state.driver.read!(key, state.call);
    if (found === undefined) return undefined;
    const pieces: Uint8Array[] = [];
    for await (const piece of found.chunks) {
      expect(piece.byteLength).toBeLessThanOrEqual(maxPieceBytes);
      pieces.push(piece);
    }
    const value = Buffer.concat(pieces);
    expect(found.item.valueBytes).toBe(value.byteLength);
    return value;
  };

  /** Pieces of all sizes, also none and more than a piece may have when it is read. */
  async function* cut(value: Uint8Array): AsyncGenerator<Uint8Array> {
    const sizes = [1, 0, 65_536, 1_000_003, maxPieceBytes, 17];
    for (let at = 0, i = 0; at < value.byteLength; i++) {
      const end = Math.min(at + sizes[i % sizes.length]!, value.byteLength);
      yield value.slice(at, end);
      at = end;
    }
  }

  async function* failing(error: Error): AsyncGenerator<Uint8Array> {
    yield pattern(300_000);
    throw error;
  }

  describe("chunks", () => {
    test("read nothing where there is nothing", async () => {
      expect(await state.driver.read!(state.key(), state.call)).toBeUndefined();
    });

    test("written are read again as they were: 5 MB", async () => {
      const key = state.key();
      const value = pattern(5_000_000);
      const etag = await writeChunks(key, cut(value), { contentType: "video/mp4", metadata: { by: "jo" } });
      expectSameBytes(await readAll(key), value);
      const found = await state.driver.read!(key, state.call);
      expect(found?.item).toMatchObject({ key, etag, contentType: "video/mp4", valueBytes: 5_000_000 });
      expect({ ...found?.item.metadata }).toEqual({ by: "jo" });
      for await (const _ of found!.chunks) break;
    });

    test("may be none at all: the value is empty", async () => {
      const key = state.key();
      await writeChunks(key, cut(new Uint8Array(0)));
      expectSameBytes(await readAll(key), new Uint8Array(0));
      expect((await state.get(key))?.valueBytes).toBe(0);
    });

    test("make an item that get returns whole", async () => {
      const key = state.key();
      const value = pattern(700_000);
      const etag = await writeChunks(key, cut(value));
      const item = await state.get(key);
      expectSameBytes(item?.value, value);
      expect(item?.etag).toBe(etag);
    });

    test("make an item that get returns without its value when that is too long", async () => {
      const [exact, over] = [state.key(), state.key()];
      await writeChunks(exact, cut(pattern(maxValueBytes)));
      await writeChunks(over, cut(pattern(maxValueBytes + 1)));
      const items = await state.driver.get([exact, over], state.call);
      expect(items.map((item) => [item?.value?.byteLength, item?.valueBytes])).toEqual([
        [maxValueBytes, maxValueBytes],
        [undefined, maxValueBytes + 1],
      ]);
      expectSameBytes(await readAll(over), pattern(maxValueBytes + 1));
    });

    test("read an item that was written whole, empty ones too", async () => {
      const [large, empty] = [state.key(), state.key()];
      await state.set(large, pattern(600_000));
      await state.set(empty, "");
      expectSameBytes(await readAll(large), pattern(600_000));
      expectSameBytes(await readAll(empty), new Uint8Array(0));
    });

    test("replace a value written whole, and are replaced by one", async () => {
      const key = state.key();
      const first = await state.set(key, "whole", { metadata: { a: "1" } });
      const second = await writeChunks(key, cut(pattern(600_000, 2)));
      expectSameBytes(await readAll(key), pattern(600_000, 2));
      expect({ ...(await state.get(key))?.metadata }).toEqual({});
      const third = await state.set(key, "whole again");
      expect(await state.textOf(key)).toBe("whole again");
      expectSameBytes(await readAll(key), new TextEncoder().encode("whole again"));
      expect(new Set([first, second, third]).size).toBe(3);
    });

    test("are deleted like any other value", async () => {
      const key = state.key();
      await writeChunks(key, cut(pattern(600_000)));
      await state.delete(key);
      expect(await readAll(key)).toBeUndefined();
      expect(await state.get(key)).toBeUndefined();
    });

    test("change nothing until the last has come", async () => {
      const key = state.key();
      const before = await state.set(key, "before");
      async function* watched(): AsyncGenerator<Uint8Array> {
        yield pattern(300_000);
        expect((await state.get(key))?.etag).toBe(before);
        yield pattern(300_000);
        expect((await state.get(key))?.etag).toBe(before);
      }
      const etag = await writeChunks(key, watched());
      expect((await state.get(key))?.etag).toBe(etag);
    });

    test("change nothing when their source throws, and the error is thrown on", async () => {
      const [existing, fresh] = [state.key(), state.key()];
      await state.set(existing, "before");
      const error = new Error("the source broke");
      await expect(writeChunks(existing, failing(error))).rejects.toBe(error);
      await expect(writeChunks(fresh, failing(error))).rejects.toBe(error);
      expect(await state.textOf(existing)).toBe("before");
      expect(await state.get(fresh)).toBeUndefined();
      // What was written so far must not come back with the next value.
      await writeChunks(fresh, cut(pattern(10, 3)));
      expectSameBytes(await readAll(fresh), pattern(10, 3));
    });

    test("change nothing when the call ends half-way, although their source never goes on", async () => {
      const key = state.key();
      await state.set(key, "before");
      const abort = new AbortController();
      const reason = new Error("the client has left");
      async function* stalling(): AsyncGenerator<Uint8Array> {
        yield pattern(300_000);
        abort.abort(reason);
        await new Promise(() => {});
      }
      await expect(writeChunks(key, stalling(), {}, abort.signal)).rejects.toBe(reason);
      expect(await state.textOf(key)).toBe("before");
    });

    test("change nothing when the call has ended before the first", async () => {
      const key = state.key();
      const reason = new Error("too late");
      await expect(writeChunks(key, cut(pattern(10)), {}, AbortSignal.abort(reason))).rejects.toBe(reason);
      expect(await state.get(key)).toBeUndefined();
    });

    test("are refused with a stale etag, and written with the item's", async () => {
      const key = state.key();
      const stale = await state.set(key, "a");
      const fresh = await state.set(key, "b");
      const refused = writeChunks(key, cut(pattern(10)), { precondition: { kind: "etag", etag: stale } });
      await expect(refused).rejects.toMatchObject({ name: "EtagMismatch", key });
      await expect(refused).rejects.toBeInstanceOf(EtagMismatch);
      expect(await state.textOf(key)).toBe("b");
      await writeChunks(key, cut(pattern(10)), { precondition: { kind: "etag", etag: fresh } });
      expectSameBytes(await readAll(key), pattern(10));
    });

    test("are refused when absence is asked for and there is an item", async () => {
      const key = state.key();
      const precondition = { kind: "absent" } as const;
      await writeChunks(key, cut(pattern(10)), { precondition });
      await expect(writeChunks(key, cut(pattern(20)), { precondition })).rejects.toBeInstanceOf(EtagMismatch);
      expectSameBytes(await readAll(key), pattern(10));
    });

    test("are refused when the item changed while they came", async () => {
      const key = state.key();
      const etag = await state.set(key, "before");
      async function* overtaken(): AsyncGenerator<Uint8Array> {
        yield pattern(300_000);
        await state.set(key, "overtaken");
        yield pattern(300_000);
      }
      const written = writeChunks(key, overtaken(), { precondition: { kind: "etag", etag } });
      await expect(written).rejects.toBeInstanceOf(EtagMismatch);
      expect(await state.textOf(key)).toBe("overtaken");
    });

    test("of two writers are not mixed", async () => {
      const key = state.key();
      const values = [pattern(1_500_000, 1), pattern(1_500_000, 2), pattern(1_500_000, 3)];
      await Promise.all(values.map((value) => writeChunks(key, cut(value))));
      const read = await readAll(key);
      expect(values.some((value) => Buffer.compare(value, read!) === 0)).toBe(true);
    });

    test("are read to the end as they were, or say ValueChanged, when the item is overwritten meanwhile", async () => {
      const key = state.key();
      const value = pattern(1_000_000, 1);
      await writeChunks(key, cut(value));
      const found = (await state.driver.read!(key, state.call))!;
      const pieces: Uint8Array[] = [];
      let error: unknown;
      try {
        for await (const piece of found.chunks) {
          if (pieces.length === 0) await writeChunks(key, cut(pattern(1_000_000, 2)));
          pieces.push(piece);
        }
      } catch (reason) {
        error = reason;
      }
      if (error === undefined) expectSameBytes(Buffer.concat(pieces), value);
      else expect(error).toBeInstanceOf(ValueChanged);
    });

    test("can be left half-way while they are read", async () => {
      const key = state.key();
      await writeChunks(key, cut(pattern(1_000_000)));
      const found = (await state.driver.read!(key, state.call))!;
      for await (const _ of found.chunks) break;
      await state.set(key, "after");
      expect(await state.textOf(key)).toBe("after");
    });

    state.test(["chunks", "timeToLive"], "expire like any other value", async () => {
      const key = state.key();
      const expiresAtMs = Date.now() + 300;
      await writeChunks(key, cut(pattern(600_000)), { expiresAtMs });
      await expect.poll(() => state.driver.read!(key, state.call), { timeout: 5000 }).toBeUndefined();
    });

    state.test(["chunks", "list"], "are listed like any other value", async () => {
      const prefix = state.key();
      await writeChunks(`${prefix}a`, cut(pattern(600_000)));
      const range = { prefix, after: undefined, limit: 10, keysOnly: true };
      const { items } = await state.driver.list!(range, state.call);
      expect(items.map(({ key, valueBytes }) => [key, valueBytes])).toEqual([[`${prefix}a`, 600_000]]);
    });

    state.test(["chunks", "watch"], "are told to those who watch, once they are complete", async () => {
      const key = state.key();
      const abort = new AbortController();
      const sizes: (number | undefined)[] = [];
      const selector = { kind: "key", key, resumeAfter: undefined } as const;
      for await (const batch of state.driver.watch!(selector, { signal: abort.signal })) {
        if (batch.snapshotComplete) await writeChunks(key, cut(pattern(600_000)));
        sizes.push(...batch.changes.map(({ item }) => item?.valueBytes));
        if (sizes.length > 0) abort.abort();
      }
      expect(sizes).toEqual([600_000]);
    });
  });
}
