import { memoryState } from "../../src/components/memory/state.ts";
import { stateConformance } from "../conformance/state.ts";

stateConformance(() =>
  memoryState.configure(memoryState.schema.parse({}))({
    name: "state",
    appId: "test",
    instanceId: "test",
    dataDirectory: "/nowhere",
    signal: AbortSignal.timeout(5000),
  }),
);
