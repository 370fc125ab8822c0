import { describe, expect, it } from "vitest";
import type { Received } from "../../../src/blocks/pubsub/driver.ts";
import { outgoing, type PubSubFixture, seeded, textOf } from "./fixture.ts";

/** Many events, settled in any order. */
export function volumeConformance(pubsub: PubSubFixture): void {
  describe("volume", () => {
    const [total, perPublish, perReceive] = [10_000, 100, 64];

    it.each([
      ["", false],
      [", ordered by key", true],
    ])(
      "carries 10,000 events once each when they are settled out of order%s",
      async (_name, ordered) => {
        const useOrder = ordered && pubsub.driver.supports.ordering;
        const topic = pubsub.topic();
        const subscription = await pubsub.open(topic, { ordered: useOrder });
        const publishing = publishAll(topic);
        const random = seeded(4);
        const call = { signal: AbortSignal.timeout(60_000) };
        const seen = new Set<string>();
        let held: Received[] = [];
        while (seen.size < total) {
          const received = await subscription.receive(perReceive, call);
          if (received.length === 0) throw new Error(`only ${seen.size} of ${total} came`);
          for (const one of received) {
            if (seen.has(textOf(one))) throw new Error(`${textOf(one)} came twice`);
            seen.add(textOf(one));
          }
          held = [...held, ...received].toSorted(() => random() - 0.5);
          // Some stay unsettled for a while; in the end nothing may be held, or ordered keys would wait for ever.
          const settled = held.splice(
            0,
            seen.size > total - 500 ? held.length : Math.ceil(held.length * 0.7),
          );
          await pubsub.done(subscription, settled);
        }
        await publishing;
        expect(await pubsub.rest(subscription)).toEqual([]);
      },
      60_000,
    );

    async function publishAll(topic: string): Promise<void> {
      for (let first = 0; first < total; first += perPublish) {
        const batch = Array.from({ length: perPublish }, (_, index) =>
          outgoing(`${first + index}`, { key: `${(first + index) % 300}` }),
        );
        await pubsub.publish(topic, batch);
      }
    }
  });
}
