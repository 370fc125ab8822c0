import { expect, it } from "vitest";
import { describeWith } from "../servers/require.ts";
import { chaos } from "./redis-chaos.ts";

describeWith(
  ["redis", "toxiproxy"],
  "pubsub.redis under load, while its server is killed, frozen and cut off",
  () => {
    it("loses nothing and keeps the order of each key", { timeout: 90_000 }, async () => {
      const seed = Math.floor(Math.random() * 1e9);
      const { acknowledged, disturbances, duplicates, missing, outOfOrder } = await chaos(seed, 10_000);
      const happened = `seed ${seed}: ${disturbances.join(", ")}; ${duplicates} duplicates`;
      expect({ missing, outOfOrder }, happened).toEqual({ missing: [], outOfOrder: [] });
      expect(acknowledged, happened).toBeGreaterThan(100);
      expect(disturbances.length, happened).toBeGreaterThan(0);
    });
  },
);
