import { describe, expect, it } from "vitest";
import { z } from "zod";
import { component } from "../../src/component.ts";
import { build, componentYaml, loadText, mistakesOf } from "./fixture.ts";

const host = '- name: redisHost\n  value: "localhost:6379"';

describe("a Component", () => {
  it("is loaded with its settings and those of its block", async () => {
    const loaded = await loadText(
      componentYaml(
        "orders",
        "state.redis",
        `${host}\n- name: redisDB\n  value: 3\n- name: keyPrefix\n  value: none`,
        "  version: v2\n  ignoreErrors: true\n  initTimeout: 1m\n",
      ),
    );
    const [orders] = loaded.components;
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
    expect(loaded.notes).toEqual([]);
    expect(Object.isFrozen(loaded)).toBe(true);
    expect(Object.isFrozen(orders)).toBe(true);
  });

  it("has all mistakes of all files told at once, each with its place", async () => {
    const first = componentYaml(
      "orders",
      "state.redis",
      "- name: redisHots\n  value: a\n- name: redisDB\n  value: 16",
    );
    const second = componentYaml("other", "state.redys");
    const loading = loadText(`${first}\n---\n${second}`, {}, { "b.yml": "kind: [" });
    expect(await mistakesOf(loading)).toEqual([
      'a.yaml:8:13  Component "orders" spec.metadata[0].name: unknown field "redisHots"; did you mean "redisHost"?',
      'a.yaml:11:14  Component "orders" spec.metadata[1].value: redisDB: expected a whole number from 0 to 15',
      'a.yaml:19:9  Component "other" spec.type: no component of type "state.redys" in this build; did you mean "state.redis"?',
      "b.yml:1:8  flow sequence in block collection must be sufficiently indented and end with a ]",
    ]);
  });

  it("may spell every field name in any case, as Go's JSON does", async () => {
    const yaml = `APIVersion: dapr.io/v1alpha1
Kind: Component
Metadata: {Name: orders}
SPEC:
  Type: state.redis
  MetaData:
  - NAME: REDISHOST
    Value: here
  - name: keyprefix
    value: none`;
    const loaded = await loadText(yaml);
    expect(loaded.components[0]).toMatchObject({
      settings: { redisHost: "here" },
      blockSettings: { keyPrefix: "none" },
    });
  });

  it("has its values read as text, whatever YAML made of them", async () => {
    const schema = z.record(z.string(), z.string());
    const open = component({ type: "state.open", versions: ["v1"], schema, open: () => Promise.reject() });
    const values = [
      "1.10",
      "007",
      '"007"',
      "yes",
      "2001-01-01",
      "12345678901234567890",
      '{"a": [1]}',
      "1:30",
      "",
      "~",
    ];
    const items = values.map((value, index) => `- name: v${index}\n  value: ${value}`).join("\n");
    const loaded = await loadText(componentYaml("s", "state.open", items), { components: [open] });
    expect(Object.values(loaded.components[0]?.settings as object)).toEqual([
      "1.10",
      "7",
      "007",
      "true",
      "2001-01-01",
      "12345678901234567890",
      '{"a":[1]}',
      "1:30",
      "",
      "",
    ]);
  });

  it("is refused for an unknown field anywhere in it, with a suggestion", async () => {
    const yaml = `apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: orders, lables: {a: b}}
spec:
  typ: state.redis
  type: state.redis
  metadata:
  - name: redisHost
    val: x
scope: [shop]
auths: {}`;
    expect(await mistakesOf(loadText(yaml))).toEqual([
      'a.yaml:3:26  Component "orders" metadata.lables: unknown field; did you mean "labels"?',
      'a.yaml:5:3  Component "orders" spec.typ: unknown field; did you mean "type"?',
      'a.yaml:9:5  Component "orders" spec.metadata[0].val: unknown field; did you mean "value"?',
      'a.yaml:10:1  Component "orders" scope: unknown field; did you mean "scopes"?',
      'a.yaml:11:1  Component "orders" auths: unknown field; did you mean "auth"?',
    ]);
  });

  it("is refused without its required fields", async () => {
    const yaml = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: orders\n";
    expect(await mistakesOf(loadText(yaml))).toEqual(['a.yaml:1:1  Component "orders" spec: is required']);
    expect(await mistakesOf(loadText(componentYaml("orders", "state.redis")))).toEqual([
      'a.yaml:5:1  Component "orders" spec.metadata: redisHost is required',
    ]);
    const nameless = "apiVersion: dapr.io/v1alpha1\nkind: Component\nspec: {type: state.sqlite}";
    expect(await mistakesOf(loadText(nameless))).toEqual([
      "a.yaml:1:1  Component metadata.name: is required",
    ]);
  });

  it("has the mistakes of its metadata told beside those of its other fields", async () => {
    const yaml = componentYaml("orders", "state.redis", "- name: redisDB\n  value: x", "  initTimeout: 5\n");
    expect(await mistakesOf(loadText(yaml))).toHaveLength(3);
  });

  it("with more mistakes than anybody reads has the first hundred told, and how many there are", async () => {
    const items = Array.from({ length: 150 }, (_, index) => `- name: zz${index}\n  value: a`).join("\n");
    const mistakes = await mistakesOf(loadText(componentYaml("orders", "state.sqlite", items)));
    expect(mistakes).toHaveLength(101);
    expect(mistakes.at(-1)).toBe("a.yaml  50 more mistakes are not shown");
  });

  it("is refused when it has a name that no path can have", async () => {
    expect(await mistakesOf(loadText(componentYaml("a/b", "state.sqlite")))).toEqual([
      'a.yaml:4:9  Component "a/b" metadata.name: must not be "." or "..", or have "/" or "%" in it',
    ]);
  });

  it("is refused when it has a field twice, in whatever case", async () => {
    const yaml = componentYaml("orders", "state.redis", `${host}\n- name: RedisHost\n  value: b`);
    expect(await mistakesOf(loadText(yaml))).toEqual([
      'a.yaml:10:13  Component "orders" spec.metadata[1].name: "redisHost" is there twice',
    ]);
  });

  it("tells which types and versions there are when it has an unknown one", async () => {
    const kafka = componentYaml("bus", "pubsub.kafka");
    const vault = componentYaml("vault", "secretstores.hashicorp.vault");
    const cron = componentYaml("cron", "bindings.cron");
    const old = componentYaml("orders", "state.redis", host, "  version: v3\n");
    expect(await mistakesOf(loadText([kafka, vault, cron, old].join("\n---\n")))).toEqual([
      'a.yaml:6:9  Component "bus" spec.type: no component of type "pubsub.kafka" in this build; there are: pubsub.sqlite, pubsub.in-memory',
      'a.yaml:14:9  Component "vault" spec.type: no component of type "secretstores.hashicorp.vault" in this build; there are: secretstores.local.file, secretstores.local.env',
      'a.yaml:22:9  Component "cron" spec.type: no component of type "bindings.cron" in this build; there are: state.redis, state.sqlite, pubsub.sqlite, pubsub.in-memory, secretstores.local.file, secretstores.local.env',
      'a.yaml:34:12  Component "orders" spec.version: unknown version "v3" of state.redis; there are: v1, v2',
    ]);
  });

  it("of a type that the build does not have is passed over with a note when it ignores errors", async () => {
    const loaded = await loadText(componentYaml("bus", "pubsub.kafka", "", "  ignoreErrors: true\n"));
    expect(loaded.components.map(({ name }) => name)).toEqual(["state"]);
    expect(loaded.notes[0]?.message).toContain(
      'not loaded, ignoreErrors is set: no component of type "pubsub.kafka"',
    );
  });

  it("shares a name with no other, and the mistake names both places", async () => {
    const one = componentYaml("orders", "state.sqlite");
    const mistakes = await mistakesOf(loadText(one, {}, { "b.yaml": `# another\n${one}` }));
    expect(mistakes).toHaveLength(1);
    expect(mistakes[0]).toMatch(
      /^b\.yaml:5:9 {2}Component "orders" metadata\.name: another Component has this name, at .*a\.yaml:1$/,
    );
  });

  it("is loaded only for the applications in its scopes", async () => {
    const yaml = componentYaml("orders", "state.redis", "", "scopes: [stock, shipping]\n");
    const { components: loaded, notes } = await loadText(yaml);
    expect(loaded.map(({ name, block }) => [name, block])).toEqual([["pubsub", "pubsub"]]);
    expect(notes.map(({ message }) => message)).toEqual([
      'not loaded: it is for other applications than "shop"',
    ]);
    const mine = componentYaml("orders", "state.sqlite", "", "scopes: [stock, shop]\n");
    expect((await loadText(mine)).components.map(({ name }) => name)).toEqual(["orders", "pubsub"]);
  });

  it("of another namespace is not loaded when the sidecar has one", async () => {
    const yaml = componentYaml("orders", "state.sqlite").replace(
      "  name: orders",
      "  name: orders\n  namespace: prod",
    );
    const names = async (environment: Record<string, string>) =>
      (await loadText(yaml, { environment })).components.map(({ name }) => name);
    expect(await names({ NAMESPACE: "prod" })).toContain("orders");
    expect(await names({})).toContain("orders");
    expect(await names({ NAMESPACE: "test" })).not.toContain("orders");
  });

  it("has templates in its values filled in", async () => {
    const value = "{appID}/{namespace}/{podName}/{uuid}/{other}";
    const yaml = componentYaml("orders", "state.sqlite", `- name: connectionString\n  value: "${value}"`);
    const loaded = await loadText(yaml, { environment: { NAMESPACE: "prod", POD_NAME: "shop-0" } });
    const settings = {
      connectionString: expect.stringMatching(/^shop\/prod\.shop\/shop-0\/[0-9a-f-]{36}\/\{other\}$/),
    };
    expect(loaded.components[0]).toMatchObject({ settings });
    expect(await mistakesOf(loadText(yaml))).toEqual([
      'a.yaml:9:14  Component "orders" spec.metadata[0].value: {podName} needs the environment variable POD_NAME, which is not set',
    ]);
  });

  it("needs a unit in its initTimeout, and more than nothing", async () => {
    const withTimeout = (value: string) =>
      loadText(componentYaml("orders", "state.sqlite", "", `  initTimeout: ${value}\n`));
    expect((await withTimeout("1m30s")).components[0]?.initTimeoutMs).toBe(90_000);
    for (const value of ["5", "-5s", "soon"]) {
      expect(await mistakesOf(withTimeout(value))).toEqual([
        'a.yaml:7:16  Component "orders" spec.initTimeout: expected a duration with a unit, such as "5s" or "1h30m"',
      ]);
    }
    expect((await mistakesOf(withTimeout("0s")))[0]).toContain("must be more than 0");
  });
});

describe("without any Component of a block", () => {
  it("the block has one of its own name on SQLite", async () => {
    const loaded = await loadText("");
    expect(loaded.components).toMatchObject([
      {
        name: "state",
        block: "state",
        component: { type: "state.sqlite" },
        blockSettings: { keyPrefix: "appid" },
      },
      { name: "pubsub", block: "pubsub", component: { type: "pubsub.sqlite" }, source: undefined },
    ]);
  });

  it("the other block keeps its default", async () => {
    const loaded = await loadText(componentYaml("bus", "pubsub.in-memory"));
    expect(loaded.components.map(({ name }) => name)).toEqual(["bus", "state"]);
  });

  it("a declared component may have the default's name", async () => {
    const loaded = await loadText(componentYaml("state", "state.redis", host));
    expect(loaded.components.map(({ component: { type } }) => type)).toEqual([
      "state.redis",
      "pubsub.sqlite",
    ]);
  });

  it("a block has none of which the build has no default", async () => {
    const defaults = build.defaults.filter(({ component: { block } }) => block !== "state");
    expect((await loadText("", { defaults })).components.map(({ name }) => name)).toEqual(["pubsub"]);
  });
});

it("a component's settings and its block's are of the types of their schemas", async () => {
  const { components: loaded } = await loadText("");
  for (const each of loaded)
    if (each.block === "state") expect(each.blockSettings.keyPrefix.length).toBeGreaterThan(0);
});
