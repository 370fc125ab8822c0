import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { load } from "../../src/config/load.ts";
import { componentYaml, directory, loadText, mistakesOf, optionsFor } from "./fixture.ts";

const passwordFrom = (reference: string, store = "vault") =>
  componentYaml(
    "orders",
    "state.redis",
    `- name: redisHost\n  value: here\n- name: redisPassword\n  ${reference}`,
    store === "" ? "" : `auth:\n  secretStore: ${store}\n`,
  );
const environmentStore = componentYaml("vault", "secretstores.local.env", "- name: prefix\n  value: SHOP_");

/** Loads a component whose password is a reference into a file of secrets. */
async function loadWithFile(secrets: unknown, reference: string, items = "") {
  const path = await directory({
    "secrets.json": typeof secrets === "string" ? secrets : JSON.stringify(secrets),
  });
  const file = `- name: secretsFile\n  value: ${join(path, "secrets.json")}${items}`;
  return await loadText(
    `${componentYaml("vault", "secretstores.local.file", file)}---\n${passwordFrom(reference)}`,
  );
}

const passwordOf = (loaded: Awaited<ReturnType<typeof loadText>>) =>
  loaded.components
    .map(({ settings }) => settings)
    .find((each) => JSON.stringify(each).includes("redisPassword"));

describe("a secretKeyRef", () => {
  it("takes the value from secretstores.local.file, nested names joined with a colon", async () => {
    const loaded = await loadWithFile(
      { redis: { password: "hunter2" } },
      "secretKeyRef: {name: 'redis:password'}",
    );
    expect(passwordOf(loaded)).toMatchObject({ redisPassword: "hunter2" });
    expect([...loaded.secrets]).toEqual(["hunter2"]);
    expect(loaded.components.map(({ name }) => name)).toEqual(["orders", "pubsub"]);
  });

  it("may have another separator between nested names", async () => {
    const items = "\n- name: nestedSeparator\n  value: '.'";
    const reference = "secretKeyRef: {name: redis.password, key: redis.password}";
    const loaded = await loadWithFile({ redis: { password: 17 } }, reference, items);
    expect(passwordOf(loaded)).toMatchObject({ redisPassword: "17" });
  });

  it("takes a field of a secret when the file is multi-valued", async () => {
    const items = "\n- name: multiValued\n  value: 'true'";
    const secrets = { redis: { password: "hunter2", user: "me" }, plain: "text" };
    const field = await loadWithFile(secrets, "secretKeyRef: {name: redis, key: password}", items);
    expect(passwordOf(field)).toMatchObject({ redisPassword: "hunter2" });
    const whole = await loadWithFile(secrets, "secretKeyRef: {name: plain}", items);
    expect(passwordOf(whole)).toMatchObject({ redisPassword: "text" });
  });

  it("takes the value from secretstores.local.env, with its prefix before the name", async () => {
    const yaml = `${environmentStore}---\n${passwordFrom("secretKeyRef: {name: PASSWORD, key: PASSWORD}")}`;
    const loaded = await loadText(yaml, { environment: { SHOP_PASSWORD: "hunter2", PASSWORD: "wrong" } });
    expect(passwordOf(loaded)).toMatchObject({ redisPassword: "hunter2" });
  });

  it("may stand before the store that it refers to, and in another file", async () => {
    const path = await directory({
      "a.yaml": passwordFrom("secretKeyRef: {name: PASSWORD}"),
      "b.yaml": environmentStore,
    });
    const loaded = await load(optionsFor(path, { environment: { SHOP_PASSWORD: "hunter2" } }));
    expect(passwordOf(loaded)).toMatchObject({ redisPassword: "hunter2" });
  });

  it("is refused with the reference, and no value, when it leads nowhere", async () => {
    const environment = { SHOP_OTHER: "hunter2" };
    const of = async (reference: string, store?: string) =>
      (
        await mistakesOf(
          loadText(`${environmentStore}---\n${passwordFrom(reference, store)}`, { environment }),
        )
      ).map((line) => line.replace(/^.*Component "orders" spec.metadata/, ""));
    expect(await of("secretKeyRef: {name: PASSWORD}")).toEqual([
      '[1].secretKeyRef: no secret "PASSWORD" in the secret store "vault"',
    ]);
    expect(await of("secretKeyRef: {name: OTHER, key: part}")).toEqual([
      '[1].secretKeyRef: no key "part" in the secret "OTHER" of the secret store "vault"',
    ]);
    expect(await of("secretKeyRef: {name: PASSWORD}", "valut")).toEqual([
      '[1].secretKeyRef: no secret store "valut"; did you mean "vault"?',
    ]);
    expect(await of("secretKeyRef: {name: PASSWORD}", "kubernetes")).toEqual([
      '[1].secretKeyRef: no secret store "kubernetes"; there are: vault',
    ]);
    expect(await of("secretKeyRef: {name: PASSWORD}", "")).toEqual([
      "[1].secretKeyRef: refers to a secret, but auth.secretStore names no secret store",
    ]);
  });

  it("never has its value shown in a mistake about the value", async () => {
    const items = ["redisDB", "redisType"].map((name) => `- name: ${name}\n  secretKeyRef: {name: X}`);
    const yaml = componentYaml(
      "orders",
      "state.redis",
      `- name: redisHost\n  value: here\n${items.join("\n")}`,
      "auth: {secretStore: vault}\n",
    );
    const environment = { SHOP_X: "hunter2" };
    const mistakes = await mistakesOf(loadText(`${environmentStore}---\n${yaml}`, { environment }));
    expect(mistakes.map((line) => line.replace(/^.*Component "orders" /, ""))).toEqual([
      "spec.metadata[1].secretKeyRef: redisDB: expected a whole number from 0 to 15",
      "spec.metadata[2].secretKeyRef: redisType: what is referred to is not a value that it can have",
    ]);
    const shown = await mistakesOf(
      loadText(
        componentYaml(
          "orders",
          "state.redis",
          "- name: redisHost\n  value: h\n- name: redisType\n  value: nod",
        ),
      ),
    );
    expect(shown[0]).toContain('expected one of "node", "cluster", not "nod"; did you mean "node"?');
  });

  it("beside a value is a mistake, unless it is empty as Kubernetes writes it", async () => {
    const both = "value: x\n  secretKeyRef: {name: PASSWORD}";
    expect((await mistakesOf(loadText(passwordFrom(both))))[0]).toContain(
      "has more than one of value, secretKeyRef and envRef",
    );
    const loaded = await loadText(passwordFrom('value: x\n  secretKeyRef: {name: "", key: ""}'));
    expect(passwordOf(loaded)).toMatchObject({ redisPassword: "x" });
  });
});

describe("a secrets file", () => {
  it("that is missing, no JSON or no object is a mistake that quotes nothing of it", async () => {
    for (const [content, problem] of [
      ["hunter2", "is not JSON"],
      ["[]".slice(0, 1), "is not JSON"],
      ['"hunter2"', "must be a JSON object"],
    ] as const) {
      const mistakes = await mistakesOf(loadWithFile(content, "secretKeyRef: {name: a}"));
      expect(mistakes).toHaveLength(1);
      expect(mistakes[0]).toContain(problem);
      expect(mistakes[0]).not.toContain("hunter2");
    }
    const missing = componentYaml(
      "vault",
      "secretstores.local.file",
      "- name: secretsFile\n  value: nowhere.json",
    );
    expect(await mistakesOf(loadText(missing))).toEqual([
      'a.yaml:7:3  Component "vault" spec.metadata: secretsFile: "nowhere.json" does not exist',
    ]);
  });
});

describe("an envRef", () => {
  it("takes the value from the environment, and marks it as a secret", async () => {
    const loaded = await loadText(passwordFrom("envRef: PASSWORD", ""), {
      environment: { PASSWORD: "hunter2" },
    });
    expect(passwordOf(loaded)).toMatchObject({ redisPassword: "hunter2" });
    expect(loaded.secrets.has("hunter2")).toBe(true);
  });

  it("to a variable that is not set, or is the runtime's own, is refused", async () => {
    const environment = { DAPR_API_TOKEN: "a", APP_API_TOKEN: "b", OUTRIDER_API_TOKEN: "c" };
    for (const name of Object.keys(environment)) {
      const mistakes = await mistakesOf(loadText(passwordFrom(`envRef: ${name}`), { environment }));
      expect(mistakes[0]).toContain(`the environment variable "${name}" is not for components`);
      const stored = `${componentYaml("vault", "secretstores.local.env")}---\n${passwordFrom(`secretKeyRef: {name: ${name}}`)}`;
      expect((await mistakesOf(loadText(stored, { environment })))[0]).toContain(`no secret "${name}"`);
    }
    expect((await mistakesOf(loadText(passwordFrom("envRef: PASSWORD"))))[0]).toContain(
      'spec.metadata[1].envRef: the environment variable "PASSWORD" is not set',
    );
  });
});
