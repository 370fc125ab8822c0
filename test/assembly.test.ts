import { expect, it } from "vitest";
import { makeAssembly, undeclared } from "../src/assembly.ts";
import { sqliteComponents } from "../src/components/sqlite/components.ts";
import { load } from "../src/config/load.ts";
import { componentYaml, directory, mistakesOf } from "./config/fixture.ts";

/** Loads a store whose outbox publishes to a component of that name, and announces to another, beside one called "bus". */
async function loadOutbox(name: string, announceTo = "bus") {
  const fields = Object.entries({
    outboxPublishPubsub: name,
    outboxPublishTopic: "changes",
    outboxPubsub: announceTo,
  })
    .map(([field, value]) => `- name: ${field}\n  value: ${value}`)
    .join("\n");
  const path = await directory({
    "state.yaml": componentYaml("orders", "state.in-memory", fields),
    "pubsub.yaml": componentYaml("bus", "pubsub.in-memory"),
  });
  return await load({
    ...makeAssembly(),
    resourcesPaths: [path],
    configPaths: [],
    appId: "shop",
    environment: {},
  });
}

it("a store whose outbox publishes to a component that is not there is a mistake, at its place", async () => {
  expect((await loadOutbox("bus")).components).toHaveLength(2);
  const [mistake] = await mistakesOf(loadOutbox("buss"));
  expect(mistake).toMatch(
    /state\.yaml:\d+.*"orders".*outboxPublishPubsub: no pub\/sub component "buss"; there are: bus/,
  );
  const [other] = await mistakesOf(loadOutbox("bus", "buss"));
  expect(other).toMatch(/state\.yaml:\d+.*"orders".*outboxPubsub: no pub\/sub component "buss"/);
});

it("components that nobody declares have the settings that their schemas make of nothing", async () => {
  const { blockSettings, defaults } = makeAssembly();
  const blocks = await blockSettings();
  expect(undeclared).toEqual({ state: blocks.state.parse({}), pubsub: blocks.pubsub.parse({}) });
  const components = Object.values(sqliteComponents());
  expect(defaults.map(({ component }) => component.type)).toEqual(components.map(({ type }) => type));
  for (const { schema } of components) expect(schema.parse({})).toEqual({});
  for (const { settings } of defaults) expect(settings).toEqual({});
});
