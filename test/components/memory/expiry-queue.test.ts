import { expect, it } from "vitest";
import { ExpiryQueue } from "../../../src/components/memory/expiry-queue.ts";

const item = (expiresAtMs: number) => ({ expiresAtMs, queueIndex: -1 });

/** Takes everything, first by first. */
function drained(queue: ExpiryQueue<{ expiresAtMs: number; queueIndex: number }>): number[] {
  const times: number[] = [];
  for (let first = queue.first; first; first = queue.first) {
    times.push(first.expiresAtMs);
    queue.remove(first);
  }
  return times;
}

it("gives items in the order in which they end, whatever is added and removed between", () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed % below;
  };
  for (let round = 0; round < 200; round++) {
    const queue = new ExpiryQueue<ReturnType<typeof item>>();
    const held: ReturnType<typeof item>[] = [];
    for (let step = 0; step < 100; step++) {
      if (held.length > 0 && random(3) === 0) {
        queue.remove(held.splice(random(held.length), 1)[0]!);
      } else {
        const added = item(random(50));
        held.push(added);
        queue.add(added);
      }
    }
    expect(queue.size).toBe(held.length);
    expect(drained(queue)).toEqual(held.map(({ expiresAtMs }) => expiresAtMs).sort((a, b) => a - b));
  }
});

it("passes over an item that it does not have", () => {
  const queue = new ExpiryQueue<ReturnType<typeof item>>();
  const [a, b] = [item(1), item(2)];
  queue.add(a);
  queue.remove(b);
  queue.remove(a);
  queue.remove(a);
  expect(queue.size).toBe(0);
});
