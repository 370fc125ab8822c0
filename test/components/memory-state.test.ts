import { memoryState } from "../../src/components/memory/state.ts";
import { stateConformance } from "../conformance/state.ts";
import { openContext } from "./open-context.ts";

stateConformance(() => memoryState.configure(memoryState.schema.parse({}))(openContext()));
