/** What a configuration may speak of in this build: the components, and what each block adds to their fields. */

import { compileRules } from "./blocks/pubsub/rules.ts";
import { pubSubSettings } from "./blocks/pubsub/settings.ts";
import { stateSettings } from "./blocks/state/settings.ts";
import { makeComponents } from "./components/index.ts";
import type { Configuration, LoadOptions } from "./config/load.ts";

/** The schemas of the blocks' own fields. */
const blockSettings = { state: stateSettings, pubsub: pubSubSettings } as const;

/** Their types, by block. */
export type Schemas = typeof blockSettings;

/** A configuration that has been read with this assembly. */
export type SidecarConfiguration = Configuration<Schemas>;

/** What the readers of configuration need of this build; to be made anew for each sidecar. */
export function makeAssembly(): Pick<LoadOptions<Schemas>, "components" | "blockSettings" | "checkRule"> {
  return {
    components: makeComponents(),
    blockSettings,
    checkRule: (rule) => compileRules([{ name: "rule", rule }]).violations[0]?.description,
  };
}
