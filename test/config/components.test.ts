import { describe, expect, it } from "vitest";
import { componentYaml, loadText, mistakesOf } from "./fixture.ts";

describe("a Component", () => {
  it("is loaded with its settings and those of its block", async () => {
    const { components, notes } = await loadText(
      componentYaml(
        "orders",
        "state.redis",
        '- name: redisHost\n  value: "localhost:6379"\n- name: redisDB\n  value: 3\n- name: keyPrefix\n  value: none',
        "  version: v2\n  ignoreErrors: true\n  initTimeout: 1m\n",
      ),
    );
    const [orders] = components;
    expect(orders).toMatchObject({
      name: "orders",
      block: "state",
      version: "v2",
      settings: { redisHost: "localhost:6379", redisDB: 3, enableTLS: false, dialTimeout: 5000 },
      blockSettings: { keyPrefix: "none" },
      ignoreErrors: true,
      initTimeoutMs: 60_000,
      source: { line: 1 },
    });
    expect(orders?.component.type).toBe("state.redis");
    expect(notes).toEqual([]);
  });

  it("has all mistakes of all files told at once, each with its place", async () => {
    const first = componentYaml(
      "orders",
      "state.redis",
      "- name: redisHots\n  value: a\n- name: redisDB\n  value: 16",
    );
    const second = componentYaml("other", "state.redys");
    expect(await mistakesOf(loadText(`${first}\n---\n${second}`, {}, { "b.yml": "kind: [" }))).toEqual([
      'a.yaml:8:13  Component "orders" spec.metadata[0].name: unknown field "redisHots"; did you mean "redisHost"?',
      'a.yaml:11:14  Component "orders" spec.metadata[1].value: redisDB: expected a whole number from 0 to 15',
      'a.yaml:19:9  Component "other" spec.type: no component of type "state.redys" in this build; did you mean "state.redis"?',
      "b.yml:1:8  flow sequence in block collection must be sufficiently indented and end with a ]",
    ]);
  });
});
