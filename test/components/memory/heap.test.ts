import { expect, it } from "vitest";
import { Heap } from "../../../src/components/memory/broker/heap.ts";
import { seeded } from "../../conformance/pubsub/fixture.ts";

it("a heap gives the least of its items, whatever was removed from its middle", () => {
  const random = seeded(7);
  const heap = new Heap<{ heapIndex: number; readonly value: number }>(
    (one, other) => one.value < other.value,
  );
  let items: { heapIndex: number; readonly value: number }[] = [];
  for (let step = 0; step < 20_000; step += 1) {
    const what = random();
    if (what < 0.5 || items.length === 0) {
      const item = { heapIndex: -1, value: Math.floor(random() * 1000) };
      heap.push(item);
      items.push(item);
    } else if (what < 0.8) {
      const [item] = items.splice(Math.floor(random() * items.length), 1);
      heap.remove(item!);
      expect(item!.heapIndex).toBe(-1);
    } else {
      const least = heap.pop()!;
      expect(least.value).toBe(Math.min(...items.map(({ value }) => value)));
      items = items.filter((item) => item !== least);
    }
    expect(heap.size).toBe(items.length);
  }
});
