import { describe, expect, it } from "vitest";
import type { Precondition, Write } from "../../../src/blocks/state/driver.ts";
import { EtagMismatch } from "../../../src/blocks/state/driver.ts";
import type { StateFixture } from "./fixture.ts";
import { deleteOf, setOf } from "./fixture.ts";

const absent: Precondition = { kind: "absent" };
const match = (etag: string): Precondition => ({ kind: "etag", etag });

/** Preconditions, etags, transactions and writers beside each other. */
export function writeConformance(state: StateFixture): void {
  const write = (...writes: Write[]) => state.driver.write(writes, state.call);
  const expectMismatch = async (answer: Promise<unknown>, key: string) => {
    const error = await answer.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(EtagMismatch);
    expect((error as EtagMismatch).key).toBe(key);
  };

  describe("deleting", () => {
    it("removes the item", async () => {
      const key = state.key();
      await state.set(key);
      await state.delete(key);
      expect(await state.get(key)).toBeUndefined();
    });

    it("is no error when there is nothing to delete", async () => {
      await state.delete(state.key());
    });

    it("removes the item when it has the etag asked for, and not when it has another", async () => {
      const key = state.key();
      const stale = await state.set(key, "a");
      const fresh = await state.set(key, "b");
      await expectMismatch(write(deleteOf(key, match(stale))), key);
      expect(await state.textOf(key)).toBe("b");
      await state.delete(key, match(fresh));
      expect(await state.get(key)).toBeUndefined();
    });

    it("is refused when an etag is asked for and there is no item", async () => {
      const key = state.key();
      const etag = await state.set(key);
      await state.delete(key);
      await expectMismatch(write(deleteOf(key, match(etag))), key);
    });
  });

  describe("etags", () => {
    it("are what get returns after the write that was answered with them", async () => {
      const key = state.key();
      const etag = await state.set(key);
      expect(etag).not.toBe("");
      expect((await state.get(key))?.etag).toBe(etag);
    });

    it("are never given twice: not for the same value, not after a deletion, not to another key", async () => {
      const [a, b] = [state.key(), state.key()];
      const etags: string[] = [];
      for (let i = 0; i < 5; i++) {
        etags.push(await state.set(a, "same"));
        etags.push(await state.set(a, "same"));
        etags.push(await state.set(b, "same"));
        await state.delete(a);
      }
      expect(new Set(etags).size).toBe(etags.length);
    });

    it("are never given twice to writers at the same time", async () => {
      const etags = await Promise.all(Array.from({ length: 100 }, () => state.set(state.key())));
      expect(new Set(etags).size).toBe(100);
    });

    it("let a write through when they are the item's", async () => {
      const key = state.key();
      const etag = await state.set(key, "a");
      await state.set(key, "b", { precondition: match(etag) });
      expect(await state.textOf(key)).toBe("b");
    });

    it("refuse a write when they are stale, and nothing changes", async () => {
      const key = state.key();
      const stale = await state.set(key, "a");
      const fresh = await state.set(key, "b");
      await expectMismatch(write(setOf(key, "c", { precondition: match(stale) })), key);
      const item = await state.get(key);
      expect(item?.etag).toBe(fresh);
      expect(await state.textOf(key)).toBe("b");
    });

    it("refuse a write when there is no item", async () => {
      const [key, other] = [state.key(), state.key()];
      const etag = await state.set(other);
      await expectMismatch(write(setOf(key, "a", { precondition: match(etag) })), key);
      expect(await state.get(key)).toBeUndefined();
    });

    it("of another item refuse a write", async () => {
      const [key, other] = [state.key(), state.key()];
      await state.set(key, "a");
      const etag = await state.set(other);
      await expectMismatch(write(setOf(key, "b", { precondition: match(etag) })), key);
    });

    it.each(["", "0", "-1", "nonsense", "1e999", "ünï", "'", "x".repeat(5000)])(
      "that this store never gave refuse a write like any other: %j",
      async (etag) => {
        const key = state.key();
        await state.set(key, "a");
        await expectMismatch(write(setOf(key, "b", { precondition: match(etag) })), key);
        expect(await state.textOf(key)).toBe("a");
      },
    );
  });

  describe("the precondition that there is no item", () => {
    it("lets the first write through and refuses the second", async () => {
      const key = state.key();
      await state.set(key, "first", { precondition: absent });
      await expectMismatch(write(setOf(key, "second", { precondition: absent })), key);
      expect(await state.textOf(key)).toBe("first");
    });

    it("lets a write through after a deletion", async () => {
      const key = state.key();
      await state.set(key, "first");
      await state.delete(key);
      await state.set(key, "second", { precondition: absent });
      expect(await state.textOf(key)).toBe("second");
    });

    it("lets exactly one of many writers through", async () => {
      const key = state.key();
      const results = await Promise.allSettled(
        Array.from({ length: 20 }, (_, i) => state.set(key, String(i), { precondition: absent })),
      );
      const winners = results.flatMap((result, i) => (result.status === "fulfilled" ? [String(i)] : []));
      expect(winners).toHaveLength(1);
      expect(await state.textOf(key)).toBe(winners[0]);
    });
  });

  describe("writers beside each other", () => {
    it("lose no update when they use etags: twenty add one to a number, three times each", async () => {
      const key = state.key();
      await state.set(key, "0");
      const addOne = async () => {
        for (;;) {
          const item = (await state.get(key))!;
          const next = String(Number(new TextDecoder().decode(item.value)) + 1);
          try {
            await state.set(key, next, { precondition: match(item.etag) });
            return;
          } catch (error) {
            if (!(error instanceof EtagMismatch)) throw error;
          }
        }
      };
      const writer = async () => {
        for (let i = 0; i < 3; i++) await addOne();
      };
      await Promise.all(Array.from({ length: 20 }, writer));
      expect(await state.textOf(key)).toBe("60");
    });

    it("do not disturb each other when one is refused", async () => {
      const keys = Array.from({ length: 50 }, () => state.key());
      const results = await Promise.allSettled(
        keys.map((key, i) => state.set(key, String(i), i % 2 ? { precondition: match("stale") } : {})),
      );
      expect(results.map(({ status }) => status === "fulfilled")).toEqual(keys.map((_, i) => i % 2 === 0));
      for (const [i, key] of keys.entries())
        expect(await state.textOf(key)).toBe(i % 2 ? undefined : String(i));
    });
  });

  describe("transactions", () => {
    const transactional = (title: string, test: () => Promise<void>) =>
      state.test(["transactions"], title, test);

    transactional("apply every write and answer in their order, empty for a deletion", async () => {
      const [a, b, c] = [state.key(), state.key(), state.key()];
      await state.set(b);
      const etags = await write(setOf(a, "a"), deleteOf(b), setOf(c, "c"));
      expect(etags).toEqual([(await state.get(a))?.etag, "", (await state.get(c))?.etag]);
      expect(etags[0]).not.toBe(etags[2]);
      expect(await state.get(b)).toBeUndefined();
    });

    transactional("change nothing when a precondition in the middle fails, and name its key", async () => {
      const [a, b, c, d] = [state.key(), state.key(), state.key(), state.key()];
      const before = await state.set(a, "before");
      await state.set(b, "before");
      await state.set(d, "before");
      const writes = [
        setOf(a, "x"),
        setOf(b, "x", { precondition: match("stale") }),
        setOf(c, "x"),
        deleteOf(d),
      ];
      await expectMismatch(write(...writes), b);
      expect((await state.get(a))?.etag).toBe(before);
      expect(await state.textOf(b)).toBe("before");
      expect(await state.get(c)).toBeUndefined();
      expect(await state.textOf(d)).toBe("before");
    });

    transactional("name the first of several keys at fault", async () => {
      const [a, b, c] = [state.key(), state.key(), state.key()];
      await state.set(c);
      const stale = { precondition: match("stale") };
      await expectMismatch(write(setOf(a), setOf(b, "x", stale), setOf(c, "x", { precondition: absent })), b);
    });

    transactional("change nothing when the last write is a deletion that is refused", async () => {
      const [a, b] = [state.key(), state.key()];
      await expectMismatch(write(setOf(a), deleteOf(b, match("stale"))), b);
      expect(await state.get(a)).toBeUndefined();
    });

    transactional("take a thousand writes", async () => {
      const keys = Array.from({ length: 1000 }, () => state.key());
      const etags = await write(...keys.map((key, i) => setOf(key, String(i))));
      expect(new Set(etags).size).toBe(1000);
      const items = await state.driver.get(keys, state.call);
      expect(items.map((item) => item?.etag)).toEqual(etags);
    });

    transactional("beside each other leave the writes of one of them, not a mixture", async () => {
      const [a, b] = [state.key(), state.key()];
      await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          // In both orders, which is what stores with locks deadlock on.
          i % 2
            ? write(setOf(a, String(i)), setOf(b, String(i)))
            : write(setOf(b, String(i)), setOf(a, String(i))),
        ),
      );
      expect(await state.textOf(a)).toBe(await state.textOf(b));
    });
  });
}
