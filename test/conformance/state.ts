import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import { chunkConformance } from "./state/chunks.ts";
import { expiryConformance } from "./state/expiry.ts";
import { StateFixture } from "./state/fixture.ts";
import { itemConformance } from "./state/items.ts";
import { listConformance } from "./state/list.ts";
import { watchConformance } from "./state/watch.ts";
import { writeConformance } from "./state/writes.ts";

/** What a driver's tests can add to the suite. */
export interface StateConformanceOptions {
  /** How exactly the store keeps the times at which items expire, in milliseconds. Default: 0, to the millisecond. */
  readonly expiryStepMs?: number;
}

/**
 * Every state driver passes this suite before it is listed: each sentence of
 * the contract in src/blocks/state/driver.ts is one test. Tests use fresh keys,
 * so the suite can run twice, in parallel, and against a shared server.
 */
export function stateConformance(
  open: () => Promise<StateDriver>,
  options: StateConformanceOptions = {},
): void {
  describe("state conformance", () => {
    const state = new StateFixture();
    beforeAll(async () => state.use(await open()));
    afterAll(() => state.driver.close());

    itemConformance(state);
    writeConformance(state);
    expiryConformance(state, options.expiryStepMs ?? 0);
    listConformance(state);
    watchConformance(state);
    chunkConformance(state);

    describe("the driver itself", () => {
      it("answers a ping", async () => {
        await expect(state.driver.ping(state.call)).resolves.toBeUndefined();
      });

      it("does not claim to know an error that it never threw", () => {
        expect(state.driver.classify(new Error("of somebody else"))).toBeUndefined();
        expect(state.driver.classify(undefined)).toBeUndefined();
      });

      it("offers a method if and only if it says that it supports it", () => {
        const { supports, list, watch, read, writeChunks } = state.driver;
        expect(list !== undefined).toBe(supports.list);
        expect(watch !== undefined).toBe(supports.watch);
        expect(read !== undefined).toBe(supports.chunks);
        expect(writeChunks !== undefined).toBe(supports.chunks);
        if (supports.watchResume) expect(supports.watch).toBe(true);
      });

      it("can be opened again beside itself and closed, and goes on", async () => {
        const key = state.key();
        const other = await open();
        await other.ping(state.call);
        await other.close();
        await state.set(key, "still here");
        expect(await state.textOf(key)).toBe("still here");
      });
    });
  });
}
