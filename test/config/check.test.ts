import { join } from "node:path";
import { expect, it } from "vitest";
import { check, describe as described } from "../../src/config/check.ts";
import { build, componentYaml, directory, mistakesOf } from "./fixture.ts";

const options = { environment: {}, ...build };

it("a check says what would be loaded, from where, and what would not", async () => {
  const path = await directory({
    "components/orders.yaml": componentYaml("orders", "state.redis", "- name: redisHost\n  value: here:6379"),
    "config.yaml":
      "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec: {features: []}",
    "sub.yaml":
      "apiVersion: dapr.io/v1alpha1\nkind: Subscription\nmetadata: {name: s}\nspec: {pubsubname: pubsub, topic: t, route: /r}",
    "resiliency.yaml": "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: r}\nspec: {}",
  });
  const configuration = await check([path, join(path, "components")], options);
  expect(described(configuration).replaceAll(`${path}/`, "").split("\n")).toEqual([
    "component     orders  state.redis v1    components/orders.yaml:1",
    "component     pubsub  pubsub.sqlite v1  built in, nothing of its kind is declared",
    "subscription  s       pubsub/t          sub.yaml:1",
    "Resiliency    r       policies          resiliency.yaml:1",
    'note: config.yaml:4:8  Configuration "c" spec.features: checked, not used yet',
  ]);
});

it("a check looks at resources of every application, unless it is told which", async () => {
  const path = await directory({ "a.yaml": componentYaml("orders", "state.redis", "", "scopes: [stock]\n") });
  expect(await mistakesOf(check([path], options))).toEqual([
    'a.yaml:5:1  Component "orders" spec.metadata: redisHost is required',
  ]);
  const { notes } = await check([path], { ...options, appId: "shop" });
  expect(notes.map(({ message }) => message)).toEqual([
    'not loaded: it is for other applications than "shop"',
  ]);
});
