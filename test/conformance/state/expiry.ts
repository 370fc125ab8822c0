import { describe, expect, it } from "vitest";
import { EtagMismatch } from "../../../src/blocks/state/driver.ts";
import type { StateFixture } from "./fixture.ts";
import { setOf } from "./fixture.ts";

/** `expiresAtMs`. */
export function expiryConformance(state: StateFixture, stepMs: number): void {
  const gone = (key: string) => expect.poll(() => state.get(key), { timeout: 5000 }).toBeUndefined();

  const expectTime = (actual: number | undefined, expected: number) => {
    expect(actual).toBeGreaterThanOrEqual(expected - stepMs);
    expect(actual).toBeLessThanOrEqual(expected + stepMs);
  };

  describe("expiry", () => {
    const expiring = (title: string, test: () => Promise<void>) => state.test(["timeToLive"], title, test);

    expiring("leaves an item there until its time, and tells the time", async () => {
      const key = state.key();
      const expiresAtMs = Date.now() + 3_600_000;
      await state.set(key, "value", { expiresAtMs });
      expectTime((await state.get(key))?.expiresAtMs, expiresAtMs);
    });

    expiring("takes times ten years ahead", async () => {
      const key = state.key();
      const expiresAtMs = Date.now() + 3650 * 86_400_000;
      await state.set(key, "value", { expiresAtMs });
      expectTime((await state.get(key))?.expiresAtMs, expiresAtMs);
    });

    expiring("makes get return nothing", async () => {
      const key = state.key();
      await state.set(key, "value", { expiresAtMs: Date.now() + 200 });
      await gone(key);
    });

    expiring("takes a time that has passed already", async () => {
      const key = state.key();
      await state.set(key, "before");
      expect(await state.set(key, "after", { expiresAtMs: Date.now() - 1000 })).not.toBe("");
      expect(await state.get(key)).toBeUndefined();
    });

    expiring("is taken away by a set without a time", async () => {
      const [key, other] = [state.key(), state.key()];
      const soon = Date.now() + 200;
      await state.set(key, "first", { expiresAtMs: soon });
      await state.set(other, "first", { expiresAtMs: soon });
      await state.set(key, "second");
      expect((await state.get(key))?.expiresAtMs).toBeUndefined();
      await gone(other);
      expect(await state.textOf(key)).toBe("second");
    });

    expiring("can be moved by another set, to later and to earlier", async () => {
      const [later, earlier] = [state.key(), state.key()];
      const farMs = Date.now() + 3_600_000;
      await state.set(later, "first", { expiresAtMs: Date.now() + 100 });
      await state.set(earlier, "first", { expiresAtMs: farMs });
      await state.set(later, "second", { expiresAtMs: farMs });
      await state.set(earlier, "second", { expiresAtMs: Date.now() + 300 });
      await gone(earlier);
      expect(await state.textOf(later)).toBe("second");
    });

    expiring("makes an item's etag stale", async () => {
      const key = state.key();
      const etag = await state.set(key, "value", { expiresAtMs: Date.now() + 100 });
      await gone(key);
      const precondition = { kind: "etag", etag } as const;
      await expect(state.set(key, "again", { precondition })).rejects.toBeInstanceOf(EtagMismatch);
      await expect(
        state.driver.write([{ kind: "delete", key, precondition }], state.call),
      ).rejects.toBeInstanceOf(EtagMismatch);
    });

    expiring("lets a write through that asks for absence, with a new etag", async () => {
      const key = state.key();
      const etag = await state.set(key, "value", { expiresAtMs: Date.now() - 1 });
      expect(await state.set(key, "again", { precondition: { kind: "absent" } })).not.toBe(etag);
      expect(await state.textOf(key)).toBe("again");
    });

    it("is not told of items in stores without it", async ({ skip }) => {
      if (state.driver.supports.timeToLive) skip("the driver's supports.timeToLive is true");
      const key = state.key();
      await state.driver.write([setOf(key)], state.call);
      expect((await state.get(key))?.expiresAtMs).toBeUndefined();
    });
  });
}
