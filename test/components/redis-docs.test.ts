import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { redisPubSub, redisState } from "../../src/components/redis/components.ts";
import { fieldsOf } from "../../src/config/shape.ts";

const page = readFileSync(new URL("../../docs/components/redis.md", import.meta.url), "utf8");

describe("docs/components/redis.md", () => {
  it.each([redisState, redisPubSub])("names every field of $type", ({ schema }) => {
    const fields = Object.keys(fieldsOf(schema) ?? {});
    expect(fields.length).toBeGreaterThan(30);
    expect(fields.filter((field) => !page.includes(`\`${field}\``))).toEqual([]);
  });

  it.each([redisState, redisPubSub])("and of $type no field is required but redisHost", ({ schema }) => {
    expect(schema.safeParse({ redisHost: "localhost:6379" }).success).toBe(true);
    const { error } = schema.safeParse({});
    expect(error?.issues.map(({ path }) => path)).toEqual([["redisHost"]]);
  });

  it.each([
    ["an unknown field", { redisHst: "x" }],
    ["failover without a name", { failover: "true" }],
    ["failover in a cluster", { failover: "true", sentinelMasterName: "main", redisType: "cluster" }],
    ["waiting for replicas in a cluster", { waitReplicas: "1", redisType: "cluster" }],
    ["what is not supported yet", { useEntraID: "true" }],
    ["a type that there is not", { redisType: "single" }],
    ["no time to answer in", { readTimeout: "0" }],
  ])("refuses %s", (_name, fields) => {
    expect(redisState.schema.safeParse({ redisHost: "localhost", ...fields }).success).toBe(false);
  });
});
