import { expect, it } from "vitest";
import { makeAssembly } from "../src/assembly.ts";
import { load } from "../src/config/load.ts";
import { componentYaml, directory, mistakesOf } from "./config/fixture.ts";

/** Loads a store whose outbox publishes to a component of that name, beside one called "bus". */
async function loadOutbox(name: string) {
  const fields = `- name: outboxPublishPubsub\n  value: ${name}\n- name: outboxPublishTopic\n  value: changes`;
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
});
