import { describe, expect, it } from "vitest";
import { reasonOf } from "../../src/faults.ts";
import { pubSubConformance } from "../conformance/pubsub.ts";
import { setOf } from "../conformance/state/fixture.ts";
import { stateConformance } from "../conformance/state.ts";
import { sharedRedisCluster } from "../servers/redis-cluster.ts";
import { describeWith } from "../servers/require.ts";
import { hostOf, openPubSub, openState } from "./redis-drivers.ts";
import { withPrefix } from "./redis-keys.ts";

const cluster = { redisType: "cluster" };
const hosts = async () => (await sharedRedisCluster()).nodes.map(hostOf).join(",");
const call = { signal: AbortSignal.timeout(60_000) };

describeWith("redis", "state.redis on a cluster", () => {
  // Its transactions need keys of one slot, which the suite does not know.
  stateConformance(async () => withPrefix(await openState(await hosts(), cluster), "{conformance}"));

  describe("keys in different slots", () => {
    it("are read, written and listed together all the same", async () => {
      await using store = disposable(await openState(await hosts(), cluster));
      const prefix = `slots-${process.pid}/`;
      const keys = Array.from({ length: 30 }, (_, index) => `${prefix}${String(index).padStart(2, "0")}`);
      await Promise.all(keys.map((key) => store.driver.write([setOf(key, key)], call)));
      const items = await store.driver.get(keys, call);
      expect(items.map((item) => item?.key)).toEqual(keys);
      const page = await store.driver.list!({ prefix, after: undefined, limit: 20, keysOnly: true }, call);
      expect(page.items.map(({ key }) => key)).toEqual(keys.slice(0, 20));
      expect(page.more).toBe(true);
    });

    it("in one transaction are refused with the reason, and nothing is written", async () => {
      await using store = disposable(await openState(await hosts(), cluster));
      const [one, other] = [`a-${process.pid}`, `b-${process.pid}`];
      const error: unknown = await store.driver
        .write([setOf(one), setOf(other)], call)
        .catch((thrown) => thrown);
      expect(reasonOf(error)).toBe("NOT_SUPPORTED");
      expect(String(error)).toContain("in one slot");
      expect(await store.driver.get([one, other], call)).toEqual([undefined, undefined]);
    });
  });
});

describeWith("redis", "pubsub.redis on a cluster", () => {
  const open = async () => openPubSub(await hosts(), cluster);
  pubSubConformance(open, { second: open });
});

function disposable<Driver extends { close(): Promise<void> }>(driver: Driver) {
  return { driver, [Symbol.asyncDispose]: () => driver.close() };
}
