import { describe, expect } from "vitest";
import type { Change, StateDriver, WatchBatch, WatchSelector } from "../../../src/blocks/state/driver.ts";
import { maxValueBytes, PositionExpired } from "../../../src/blocks/state/driver.ts";
import type { StateFixture } from "./fixture.ts";
import { deleteOf, pattern, setOf, textOf } from "./fixture.ts";

type Selection = { readonly key: string } | { readonly prefix: string };

/** `watch`. */
export function watchConformance(state: StateFixture): void {
  const test = (title: string, body: () => Promise<void>) => state.test(["watch"], title, body);
  const resuming = (title: string, body: () => Promise<void>) =>
    state.test(["watch", "watchResume"], title, body);

  /** Runs a test with a watch that is ended after it, and that must end without an error. */
  const watching = async (
    selection: Selection,
    body: (watch: Watching) => Promise<void>,
    resumeAfter?: string,
  ): Promise<void> => {
    const watch = new Watching(state.driver, selection, resumeAfter);
    try {
      if (resumeAfter === undefined) await watch.snapshot();
      await body(watch);
    } finally {
      await watch.end();
    }
  };

  describe("watch", () => {
    test("of a key tells the item that is there, then each change", async () => {
      const key = state.key();
      await state.set(key, "first", { contentType: "text/plain", metadata: { by: "jo" } });
      await watching({ key }, async (watch) => {
        expect(watch.told()).toEqual([[key, "first"]]);
        expect(watch.changes[0]?.item).toMatchObject({ contentType: "text/plain", valueBytes: 5 });
        const etag = await state.set(key, "second");
        await watch.until(key, "second");
        expect(watch.changes.at(-1)?.item?.etag).toBe(etag);
      });
    });

    test("of a key that is not there says so by an empty snapshot", async () => {
      const key = state.key();
      await watching({ key }, async (watch) => {
        expect(watch.changes).toEqual([]);
        await state.set(key, "now");
        await watch.until(key, "now");
      });
    });

    test("of a key tells nothing of other keys, not even of those that begin with it", async () => {
      const key = state.key("a");
      await state.set(`${key}b`, "other");
      await watching({ key }, async (watch) => {
        await state.set(`${key}b`, "other again");
        await state.set(key, "mine");
        await watch.until(key, "mine");
        expect(watch.told()).toEqual([[key, "mine"]]);
      });
    });

    test("of a prefix tells the items that are there, then changes of old and new keys", async () => {
      const prefix = state.key();
      await state.set(`${prefix}a`, "a1");
      await state.set(`${prefix}b`, "b1");
      await watching({ prefix }, async (watch) => {
        expect(watch.told().toSorted()).toEqual([
          [`${prefix}a`, "a1"],
          [`${prefix}b`, "b1"],
        ]);
        await state.set(`${prefix}b`, "b2");
        await state.set(`${prefix}c`, "c1");
        await watch.until(`${prefix}b`, "b2");
        await watch.until(`${prefix}c`, "c1");
      });
    });

    test("of a prefix tells nothing of keys without it", async () => {
      const prefix = state.key("%_");
      const looksAlike = prefix.replace("%_", "xx");
      await state.set(`${looksAlike}/1`, "other");
      await watching({ prefix }, async (watch) => {
        await state.set(`${looksAlike}/1`, "other again");
        await state.set(prefix, "the prefix itself");
        await watch.until(prefix, "the prefix itself");
        expect(watch.told()).toEqual([[prefix, "the prefix itself"]]);
      });
    });

    test("tells of deletions", async () => {
      const prefix = state.key();
      await state.set(`${prefix}a`, "a");
      await watching({ prefix }, async (watch) => {
        await state.delete(`${prefix}a`);
        await watch.until(`${prefix}a`, undefined);
        await state.set(`${prefix}a`, "back");
        await watch.until(`${prefix}a`, "back");
      });
    });

    state.test(
      ["watch", "transactions"],
      "tells of a transaction, and not of one that was refused",
      async () => {
        const prefix = state.key();
        const write = (...writes: Parameters<StateDriver["write"]>[0]) =>
          state.driver.write(writes, state.call);
        await state.set(`${prefix}c`, "c");
        await watching({ prefix }, async (watch) => {
          const stale = { precondition: { kind: "etag", etag: "stale" } } as const;
          await write(setOf(`${prefix}a`, "refused"), setOf(`${prefix}b`, "x", stale)).catch(() => undefined);
          await write(setOf(`${prefix}a`, "a"), setOf(`${prefix}b`, "b"), deleteOf(`${prefix}c`));
          await watch.until(`${prefix}a`, "a");
          await watch.until(`${prefix}b`, "b");
          await watch.until(`${prefix}c`, undefined);
          expect(watch.told()).not.toContainEqual([`${prefix}a`, "refused"]);
        });
      },
    );

    state.test(["watch", "timeToLive"], "tells of expiry as of a deletion", async () => {
      const prefix = state.key();
      await state.set(`${prefix}a`, "a", { expiresAtMs: Date.now() + 1500 });
      await watching({ prefix }, async (watch) => {
        expect(watch.told()).toEqual([[`${prefix}a`, "a"]]);
        await state.set(`${prefix}b`, "b", { expiresAtMs: Date.now() + 200 });
        await watch.until(`${prefix}a`, undefined);
        await watch.until(`${prefix}b`, undefined);
      });
    });

    state.test(["watch", "timeToLive"], "has no expired item in its snapshot", async () => {
      const key = state.key();
      await state.set(key, "a", { expiresAtMs: Date.now() - 1 });
      await watching({ key }, async (watch) => {
        expect(watch.told().filter(([, value]) => value !== undefined)).toEqual([]);
      });
    });

    test("says once that the snapshot is complete, and after that changes only", async () => {
      const prefix = state.key();
      for (let i = 0; i < 3; i++) await state.set(`${prefix}${i}`);
      await watching({ prefix }, async (watch) => {
        await state.set(`${prefix}3`, "last");
        await watch.until(`${prefix}3`, "last");
        expect(watch.batches.filter((batch) => batch.snapshotComplete)).toHaveLength(1);
        expect(watch.snapshotKeys().toSorted()).toEqual([0, 1, 2].map((i) => `${prefix}${i}`));
      });
    });

    test("never tells an empty batch, except to say that the snapshot is complete", async () => {
      const prefix = state.key();
      await watching({ prefix }, async (watch) => {
        await state.set(`${prefix}a`, "a");
        await watch.until(`${prefix}a`, "a");
        await state.delete(`${prefix}a`);
        await watch.until(`${prefix}a`, undefined);
        expect(
          watch.batches.filter((batch) => batch.changes.length === 0 && !batch.snapshotComplete),
        ).toEqual([]);
      });
    });

    test("has every item of a snapshot of 2,500 keys, once", async () => {
      const prefix = state.key();
      const keys = Array.from({ length: 2500 }, (_, i) => `${prefix}${i}`);
      await Promise.all(keys.map((key) => state.set(key, "x")));
      await watching({ prefix }, async (watch) => {
        expect(watch.snapshotKeys().toSorted()).toEqual(keys.toSorted());
      });
    });

    test("tells the changes of one key in their order, and the last in any case", async () => {
      const key = state.key();
      await watching({ key }, async (watch) => {
        for (let i = 0; i < 100; i++) await state.set(key, String(i));
        await watch.until(key, "99");
        const numbers = watch.told().map(([, value]) => Number(value));
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
      });
    });

    test("misses nothing that is written while the snapshot is told", async () => {
      const prefix = state.key();
      const keys = Array.from({ length: 300 }, (_, i) => `${prefix}${i}`);
      await Promise.all(keys.map((key) => state.set(key, "old")));
      const watch = new Watching(state.driver, { prefix }, undefined);
      await Promise.all(keys.map((key, i) => (i % 3 ? state.set(key, "new") : state.delete(key))));
      for (const [i, key] of keys.entries()) await watch.untilNow(key, i % 3 ? "new" : undefined);
      await watch.end();
    });

    test("is told to everybody who watches", async () => {
      const key = state.key();
      const watches = Array.from({ length: 5 }, () => new Watching(state.driver, { key }, undefined));
      for (const watch of watches) await watch.snapshot();
      await state.set(key, "news");
      for (const watch of watches) await watch.until(key, "news");
      for (const watch of watches) await watch.end();
    });

    test("keeps for a watcher who does not read what changed in the end", async () => {
      const [key, end] = [state.key("a"), state.key("b")];
      const abort = new AbortController();
      const selector: WatchSelector = { kind: "prefix", prefix: key, resumeAfter: undefined };
      const batches = state.driver.watch!(selector, { signal: abort.signal })[Symbol.asyncIterator]();
      let complete = false;
      while (!complete) complete = (await batches.next()).value.snapshotComplete;
      for (let i = 0; i < 500; i++) await state.set(key, String(i));
      await state.set(end);
      let last: string | undefined;
      while (last !== "499") {
        for (const { item } of (await batches.next()).value.changes as Change[]) last = item && textOf(item);
      }
      abort.abort();
      expect((await batches.next()).done).toBe(true);
    });

    test("leaves out a value that is too long, and tells its size", async () => {
      const key = state.key();
      await watching({ key }, async (watch) => {
        await state.set(key, pattern(maxValueBytes + 1));
        await expect
          .poll(() => watch.changes.at(-1)?.item?.valueBytes, { timeout: 10_000 })
          .toBe(maxValueBytes + 1);
        expect(watch.changes.at(-1)?.item?.value).toBeUndefined();
      });
    });

    test("ends when the call ends, while it waits and before it began", async () => {
      const watch = new Watching(state.driver, { key: state.key() }, undefined);
      await watch.snapshot();
      await watch.end();
      const ended = { signal: AbortSignal.abort() };
      const selector: WatchSelector = { kind: "key", key: state.key(), resumeAfter: undefined };
      const batches: WatchBatch[] = [];
      for await (const batch of state.driver.watch!(selector, ended)) batches.push(batch);
      expect(batches.flatMap((batch) => batch.changes)).toEqual([]);
    });

    test("can be left half-way", async () => {
      const key = state.key();
      await state.set(key, "value");
      const selector: WatchSelector = { kind: "key", key, resumeAfter: undefined };
      for await (const batch of state.driver.watch!(selector, state.call)) {
        if (batch.changes.length > 0) break;
      }
      await state.set(key, "after");
      expect(await state.textOf(key)).toBe("after");
    });

    resuming(
      "goes on after a position without a snapshot: with what changed since, deletions too",
      async () => {
        const prefix = state.key();
        await state.set(`${prefix}untouched`, "u");
        await state.set(`${prefix}deleted`, "d");
        const position = await positionAfter(prefix);
        await state.set(`${prefix}new`, "n1");
        await state.set(`${prefix}new`, "n2");
        await state.delete(`${prefix}deleted`);
        await watching(
          { prefix },
          async (watch) => {
            await watch.until(`${prefix}deleted`, undefined);
            await watch.until(`${prefix}new`, "n2");
            await state.set(`${prefix}later`, "l");
            await watch.until(`${prefix}later`, "l");
            expect(watch.batches.some((batch) => batch.snapshotComplete)).toBe(false);
            expect(watch.changes.map(({ key }) => key)).not.toContain(`${prefix}untouched`);
            expect(watch.changes.map(({ key }) => key)).not.toContain(`${prefix}marker`);
          },
          position,
        );
      },
    );

    resuming("goes on for one key as for a prefix", async () => {
      const prefix = state.key();
      const position = await positionAfter(prefix);
      await state.set(`${prefix}a`, "a");
      await state.set(`${prefix}b`, "b");
      const body = async (watch: Watching) => {
        await watch.until(`${prefix}b`, "b");
        expect(watch.told()).toEqual([[`${prefix}b`, "b"]]);
      };
      await watching({ key: `${prefix}b` }, body, position);
    });

    resuming("gives positions that lose nothing, whichever one resumes after", async () => {
      const prefix = state.key();
      await watching({ prefix }, async (watch) => {
        for (let i = 0; i < 20; i++) await state.set(`${prefix}${i}`, String(i));
        await watch.until(`${prefix}19`, "19");
        const seen = new Set<string>();
        for (const { position, changes, snapshotComplete } of watch.batches) {
          for (const { key } of changes) seen.add(key);
          if (snapshotComplete || seen.size === 20) continue;
          expect(position).toBeDefined();
          const rest = Array.from({ length: 20 }, (_, i) => `${prefix}${i}`).filter((key) => !seen.has(key));
          const body = async (resumed: Watching) => {
            for (const key of rest) await resumed.until(key, key.slice(prefix.length));
          };
          await watching({ prefix }, body, position);
        }
      });
    });

    resuming("goes on after the same position as often as one likes", async () => {
      const prefix = state.key();
      const position = await positionAfter(prefix);
      await state.set(`${prefix}a`, "a");
      for (let i = 0; i < 3; i++) {
        await watching({ prefix }, (watch) => watch.until(`${prefix}a`, "a"), position);
      }
    });

    for (const position of ["", "nonsense", "-1", "\u{1F600}", "x".repeat(5000)]) {
      resuming(
        `refuses a position that it never gave: ${JSON.stringify(position.slice(0, 20))}`,
        async () => {
          const selector: WatchSelector = { kind: "key", key: state.key(), resumeAfter: position };
          const first = state.driver.watch!(selector, state.call)[Symbol.asyncIterator]().next();
          await expect(first).rejects.toBeInstanceOf(PositionExpired);
        },
      );
    }

    test("gives no position in stores that cannot resume, and none within a snapshot", async () => {
      const prefix = state.key();
      for (let i = 0; i < 3; i++) await state.set(`${prefix}${i}`);
      await watching({ prefix }, async (watch) => {
        await state.set(`${prefix}3`, "last");
        await watch.until(`${prefix}3`, "last");
        const complete = watch.batches.findIndex((batch) => batch.snapshotComplete);
        for (const batch of watch.batches.slice(0, complete)) expect(batch.position).toBeUndefined();
        for (const { position } of watch.batches.slice(complete + 1)) {
          expect(position !== undefined).toBe(state.driver.supports.watchResume);
        }
      });
    });
  });

  /** A position from which on nothing has changed yet. */
  async function positionAfter(prefix: string): Promise<string> {
    let position: string | undefined;
    await watching({ prefix }, async (watch) => {
      await state.set(`${prefix}marker`, "m");
      await watch.until(`${prefix}marker`, "m");
      position = watch.batches.at(-1)?.position;
    });
    expect(position).toBeDefined();
    return position!;
  }
}

/** A watch that is read in the background, and what it has told. */
class Watching {
  readonly batches: WatchBatch[] = [];
  readonly #abort = new AbortController();
  readonly #ended: Promise<void>;

  constructor(driver: StateDriver, selection: Selection, resumeAfter: string | undefined) {
    const selector: WatchSelector =
      "key" in selection
        ? { kind: "key", key: selection.key, resumeAfter }
        : { kind: "prefix", prefix: selection.prefix, resumeAfter };
    const read = async () => {
      for await (const batch of driver.watch!(selector, { signal: this.#abort.signal }))
        this.batches.push(batch);
    };
    this.#ended = read();
    // Seen by `end`; an error before that must not end the process.
    this.#ended.catch(() => undefined);
  }

  get changes(): readonly Change[] {
    return this.batches.flatMap((batch) => batch.changes);
  }

  /** Key and value of each change; undefined for a deletion. */
  told(): [string, string | undefined][] {
    return this.changes.map(({ key, item }) => [key, item && textOf(item)]);
  }

  snapshotKeys(): string[] {
    const complete = this.batches.findIndex((batch) => batch.snapshotComplete);
    return this.batches.slice(0, complete + 1).flatMap((batch) => batch.changes.map(({ key }) => key));
  }

  async snapshot(): Promise<void> {
    await expect
      .poll(() => this.batches.some((batch) => batch.snapshotComplete), { timeout: 10_000 })
      .toBe(true);
  }

  /** Waits until the last that was told of a key is this value; undefined: that it is gone. */
  async until(key: string, value: string | undefined): Promise<void> {
    await expect
      .poll(() => this.told().findLast(([told]) => told === key) ?? "nothing", { timeout: 10_000 })
      .toEqual([key, value]);
  }

  /** As `until`; of a key that is gone it need not have been told at all. */
  async untilNow(key: string, value: string | undefined): Promise<void> {
    await expect
      .poll(() => this.told().findLast(([told]) => told === key)?.[1], { timeout: 10_000 })
      .toBe(value);
  }

  async end(): Promise<void> {
    this.#abort.abort();
    await this.#ended;
  }
}
