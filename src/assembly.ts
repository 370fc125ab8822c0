/** What a configuration may speak of in this build: the components, and what each block adds to their fields. */
import { compileRules } from "./blocks/pubsub/rules.ts";
import { pubSubSettings } from "./blocks/pubsub/settings.ts";
import { stateSettings } from "./blocks/state/settings.ts";
import { makeComponents } from "./components/index.ts";
import { pluggableTypes } from "./components/pluggable/components.ts";
import { socketsFolder } from "./components/pluggable/sockets.ts";
import type { CheckTogether, Configuration, LoadOptions } from "./config/load.ts";

/** The schemas of the blocks' own fields. */
const blockSettings = { state: stateSettings, pubsub: pubSubSettings } as const;

/** Their types, by block. */
export type Schemas = typeof blockSettings;

/** A configuration that has been read with this assembly. */
export type SidecarConfiguration = Configuration<Schemas>;

/** What the readers of configuration need of this build; to be made anew for each sidecar. */
export function makeAssembly(): Pick<
  LoadOptions<Schemas>,
  "components" | "foreignTypes" | "blockSettings" | "checkRule" | "checkTogether"
> {
  const components = makeComponents();
  const known = components.map(({ type }) => type);
  return {
    components,
    foreignTypes: (types, environment) => pluggableTypes(types, known, socketsFolder(environment)),
    blockSettings,
    checkTogether: checkOutboxes,
    checkRule: (rule) => compileRules([{ name: "rule", rule }]).violations[0]?.description,
  };
}

/** An outbox publishes to components that there must be. */
const checkOutboxes: CheckTogether<Schemas> = (components) => {
  const names = components.filter(({ block }) => block === "pubsub").map(({ name }) => name);
  return components.flatMap((each) => {
    if (each.block !== "state") return [];
    const there = names.length === 0 ? "there is none" : `there are: ${names.join(", ")}`;
    return (["outboxPublishPubsub", "outboxPubsub"] as const).flatMap((field) => {
      const name = each.blockSettings[field];
      if (!name || names.includes(name)) return [];
      return { component: each.name, field, message: `no pub/sub component "${name}"; ${there}` };
    });
  });
};
