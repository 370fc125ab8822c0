import { expect, it } from "vitest";
import { didYouMean, nearest } from "../../src/config/suggest.ts";

it.each([
  ["Componnet", ["Component", "Configuration"], "Component"],
  ["brokres", ["brokers", "version"], "brokers"],
  ["val", ["name", "value"], "value"],
  ["REDISHOTS", ["redisHost", "redisPort"], "redisHost"],
  ["consumerGroup", ["brokers", "version"], undefined],
  ["", ["a"], undefined],
  ["x".repeat(100_000), ["x"], undefined],
])("whoever writes %.20s means one of %j: %s", (name, candidates, expected) => {
  expect(nearest(name, candidates)).toBe(expected);
});

it("says nothing when nothing is near", () => {
  expect(didYouMean("kafka", ["redis"])).toBe("");
  expect(didYouMean("rediss", ["redis"])).toBe('; did you mean "redis"?');
});
