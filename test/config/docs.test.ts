import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { componentYaml, loadText } from "./fixture.ts";

it("the examples of docs/configuration.md load, together", async () => {
  const text = await readFile(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  const examples = [...text.matchAll(/^```yaml\n(.*?)^```/gms)].map(([, yaml]) => yaml);
  const vault = componentYaml("vault", "secretstores.local.env", "- name: prefix\n  value: SHOP_");
  const environment = { SHOP_redis: "none" };
  const yaml = [...examples, vault].join("---\n").replace("key: prefix}", "key: redis}");
  const { components, subscriptions, notes } = await loadText(yaml, { environment });
  expect(components.map(({ name }) => name)).toEqual(["orders", "pubsub"]);
  expect(components[0]).toMatchObject({
    settings: { connectionString: "shop.db" },
    blockSettings: { keyPrefix: "none" },
  });
  expect(subscriptions).toMatchObject([{ name: "new-orders", defaultRoute: "other" }]);
  expect(notes).toEqual([]);
});
