/** Every component of this build. To add one: a folder beside this file, a line here, a call of the suite. */
import type { Component } from "../component.ts";
import { memoryPubSub } from "./memory/pubsub.ts";
import { memoryState } from "./memory/state.ts";

/** Libraries of vendors are loaded when a component is opened, not when this list is. */
export const components: readonly Component[] = [memoryState, memoryPubSub];
