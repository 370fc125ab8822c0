import { afterEach, describe, expect, it, vi } from "vitest";
import { WakeUp } from "../src/wake-up.ts";

const longMs = 600_000;

describe("who waits to be woken", () => {
  afterEach(() => void vi.useRealTimers());

  it("waits until somebody rings, again and again", async () => {
    const wake = new WakeUp();
    let rounds = 0;
    const looking = (async () => {
      for (; rounds < 3; rounds += 1) await wake.wait();
    })();
    for (const expected of [1, 2, 3]) {
      wake.ring();
      wake.ring();
      await expect.poll(() => rounds).toBe(expected);
    }
    await looking;
  });

  it("is not woken by a ring of before", async () => {
    const wake = new WakeUp();
    wake.ring();
    let woken = false;
    const waiting = wake.wait().then(() => {
      woken = true;
    });
    await new Promise(setImmediate);
    expect(woken).toBe(false);
    wake.ring();
    await waiting;
  });

  it("waits no longer than it wants to", async () => {
    const wake = new WakeUp();
    await wake.wait(undefined, 1);
    await wake.wait(new AbortController().signal, -1);
  });

  it("waits no longer when the signal aborts, or has aborted before", async () => {
    const wake = new WakeUp();
    const over = new AbortController();
    const waiting = wake.wait(over.signal, longMs);
    over.abort();
    await waiting;
    await wake.wait(over.signal, longMs);
  });

  it("can wait longer than a timer can", async () => {
    vi.useFakeTimers();
    const wake = new WakeUp();
    let woken = false;
    const waiting = wake.wait(undefined, 2 ** 40).then(() => {
      woken = true;
    });
    await vi.advanceTimersByTimeAsync(longMs);
    expect(woken).toBe(false);
    wake.ring();
    await waiting;
  });
});
