/** A Redis whose memory is full, and that may forget nothing: only those who settle give it room again. */
import { expect, it } from "vitest";
import type { DriverSubscription, PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { outgoing, PubSubFixture } from "../conformance/pubsub/fixture.ts";
import { startRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import { openPubSub } from "./redis-drivers.ts";

const ballast = "x".repeat(20_000);
const call = () => ({ signal: AbortSignal.timeout(30_000) });

/** Publishes two events; says how many were taken. */
async function published(driver: PubSubDriver, topic: string, delayMs = 0): Promise<number> {
  const later = delayMs === 0 ? {} : { deliverAtMs: Date.now() + delayMs };
  const events = ["one", "two"].map((key) => ({ ...outgoing(ballast, { key }), ...later }));
  const results = await driver.publish(topic, events, call()).catch((error: unknown) => [error]);
  return results.filter((result) => !(result instanceof Error)).length;
}

async function fill(driver: PubSubDriver, topic: string, delayMs = 0): Promise<number> {
  let taken = 0;
  for (;;) {
    const more = await published(driver, topic, delayMs);
    taken += more;
    if (more < 2) return taken;
  }
}

async function settleAll(subscription: DriverSubscription, events: number): Promise<void> {
  for (let settled = 0; settled < events; ) {
    const received = await subscription.receive(50, call());
    expect(received, `nothing comes any more after ${settled} of ${events}`).not.toEqual([]);
    const settlements = received.map(({ receipt }) => ({ receipt, kind: "done" }) as const);
    await subscription.settle(settlements, call());
    settled += received.length;
  }
}

describeWith("redis", "pubsub.redis on a server without memory", () => {
  it.each([false, true])(
    "gives events out, again too, and makes room by what is settled (ordered: %s)",
    { timeout: 60_000 },
    async (ordered) => {
      await using server = await startRedis({ maxmemory: "8mb", "maxmemory-policy": "noeviction" });
      const pubsub = new PubSubFixture();
      pubsub.use(await openPubSub(server), undefined);
      try {
        const [topic, group] = [pubsub.topic(), pubsub.group()];
        const before = await pubsub.open(topic, { group, ordered });
        const events = await fill(pubsub.driver, topic);
        expect(events).toBeGreaterThan(100);
        const settlements = (await pubsub.take(before, 2)).map(({ receipt }) => ({
          receipt,
          kind: "again" as const,
          delayMs: 50,
        }));
        await before.settle(settlements, call());
        // A sidecar that starts anew joins all the same.
        const driver = await openPubSub(server);
        const after = await pubsub.open(topic, { group, ordered }, driver);
        await pubsub.closeSubscription(before);
        await settleAll(after, events);
        await expect.poll(() => published(pubsub.driver, topic), { timeout: 10_000 }).toBe(2);
        await driver.close();
      } finally {
        await pubsub.close();
      }
    },
  );

  it("lets delayed events enter their topic when they are due", { timeout: 60_000 }, async () => {
    await using server = await startRedis({ maxmemory: "8mb", "maxmemory-policy": "noeviction" });
    const pubsub = new PubSubFixture();
    pubsub.use(await openPubSub(server), undefined);
    try {
      const topic = pubsub.topic();
      const subscription = await pubsub.open(topic);
      const events = await fill(pubsub.driver, topic, 3000);
      expect(events).toBeGreaterThan(100);
      await settleAll(subscription, events);
      await expect.poll(() => published(pubsub.driver, topic), { timeout: 10_000 }).toBe(2);
    } finally {
      await pubsub.close();
    }
  });
});
