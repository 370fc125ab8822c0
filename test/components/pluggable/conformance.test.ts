/** Both drivers over a component in another language. */
import { afterAll, beforeAll } from "vitest";
import { PluggablePubSub } from "../../../src/components/pluggable/pubsub.ts";
import { PluggableState } from "../../../src/components/pluggable/state.ts";
import { pubSubConformance } from "../../conformance/pubsub.ts";
import { stateConformance } from "../../conformance/state.ts";
import { openContext } from "../open-context.ts";
import { describeWithPython, PythonComponent } from "./python-component.ts";

await describeWithPython("a component in Python", () => {
  let component: PythonComponent;
  beforeAll(async () => {
    component = await PythonComponent.make();
    await component.start();
  }, 60_000);
  afterAll(() => component[Symbol.asyncDispose]());

  const options = () => ({
    folder: { path: component.folder, named: true },
    socket: "python",
    properties: { consumerID: "conformance" },
  });

  // The contract has whole seconds.
  stateConformance(() => PluggableState.open(options(), openContext()), { expiryStepMs: 1000 });

  const openPubSub = () => PluggablePubSub.open(options(), openContext());
  pubSubConformance(openPubSub, { second: openPubSub });
});
