import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { broadcastConformance } from "./pubsub/broadcast.ts";
import { delayConformance } from "./pubsub/delay.ts";
import { PubSubFixture } from "./pubsub/fixture.ts";
import { groupConformance } from "./pubsub/groups.ts";
import { lagConformance } from "./pubsub/lag.ts";
import { orderingConformance } from "./pubsub/ordering.ts";
import { publishConformance } from "./pubsub/publish.ts";
import { receiveConformance } from "./pubsub/receive.ts";
import { settleConformance } from "./pubsub/settle.ts";
import { startConformance } from "./pubsub/start.ts";
import { volumeConformance } from "./pubsub/volume.ts";
import { wildcardConformance } from "./pubsub/wildcards.ts";

/** What a driver's tests can add to the suite. */
export interface PubSubConformanceOptions {
  /** Opens another driver on the same broker, as another sidecar has it. Without it, those tests are skipped. */
  readonly second?: () => Promise<PubSubDriver>;
  /** How far apart the times of delayed events must be to be told apart, in milliseconds. Default: 80. */
  readonly delayStepMs?: number;
}

/**
 * Every pub/sub driver passes this suite before it is listed: each sentence of
 * the contract in src/blocks/pubsub/driver.ts is one test. Topics and groups have fresh
 * names, so the suite can run twice, in parallel, and against a shared broker.
 */
export function pubSubConformance(
  open: () => Promise<PubSubDriver>,
  options: PubSubConformanceOptions = {},
): void {
  describe("pub/sub conformance", () => {
    const pubsub = new PubSubFixture();
    beforeAll(async () => pubsub.use(await open(), await options.second?.()));
    afterEach(() => pubsub.closeSubscriptions());
    afterAll(() => pubsub.close());

    publishConformance(pubsub);
    receiveConformance(pubsub);
    settleConformance(pubsub);
    groupConformance(pubsub);
    broadcastConformance(pubsub);
    startConformance(pubsub);
    orderingConformance(pubsub);
    delayConformance(pubsub, options.delayStepMs ?? 80);
    wildcardConformance(pubsub);
    lagConformance(pubsub);
    volumeConformance(pubsub);

    describe("the driver itself", () => {
      it("answers a ping", async () => {
        await expect(pubsub.driver.ping(pubsub.call())).resolves.toBeUndefined();
      });

      it("does not claim to know an error that it never threw", () => {
        expect(pubsub.driver.classify(new Error("of somebody else"))).toBeUndefined();
        expect(pubsub.driver.classify(undefined)).toBeUndefined();
      });

      it("closes every subscription when it closes, so that a receive that waits returns none", async () => {
        const driver = await open();
        const subscription = await driver.open(pubsub.spec(pubsub.topic()), pubsub.call());
        const waiting = subscription.receive(1, pubsub.call());
        await driver.close();
        expect(await waiting).toEqual([]);
      });

      it("lets another driver on the broker go on when it closes, and gives back what it held", async (context) => {
        if (!options.second) context.skip("no second driver on the same broker");
        const [topic, group] = [pubsub.topic(), pubsub.group()];
        const leaving = await options.second!();
        const held = await leaving.open(pubsub.spec(topic, { group }), pubsub.call());
        await pubsub.publish(topic, ["held"]);
        await pubsub.take(held, 1);
        const staying = await pubsub.open(topic, { group });
        await leaving.close();
        expect(await pubsub.takeTexts(staying, 1)).toEqual(["held"]);
      });
    });
  });
}
