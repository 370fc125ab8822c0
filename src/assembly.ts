/** What a configuration may speak of in this build: the components, and what each block adds to their fields. */
import { compileRules } from "./blocks/pubsub/rules.ts";
import type { PubSubSettings, pubSubSettings } from "./blocks/pubsub/settings.ts";
import type { StateSettings, stateSettings } from "./blocks/state/settings.ts";
import { makeComponents } from "./components/index.ts";
import type { CheckTogether, Configuration, LoadOptions } from "./config/load.ts";

/** The schemas of the blocks' own fields, by block. */
export interface Schemas {
  readonly state: typeof stateSettings;
  readonly pubsub: typeof pubSubSettings;
}

/** What the schemas make of no fields, for components that nobody declares: where nothing is declared, none is loaded. */
export const undeclared: { readonly state: StateSettings; readonly pubsub: PubSubSettings } = {
  state: { keyPrefix: "appid" },
  pubsub: { nonCloudEvents: "deliver" },
};

/** A configuration that has been read with this assembly. */
export type SidecarConfiguration = Configuration<Schemas>;

/** What the readers of configuration need of this build; to be made anew for each sidecar. */
export function makeAssembly(): Pick<
  LoadOptions<Schemas>,
  "components" | "foreignTypes" | "blockSettings" | "defaults" | "checkRule" | "checkTogether"
> {
  const { all, embedded } = makeComponents();
  const known = all.map(({ type }) => type);
  return {
    components: all,
    async foreignTypes(types, environment) {
      const [{ pluggableTypes }, { socketsFolder }] = await Promise.all([
        import("./components/pluggable/components.ts"),
        import("./components/pluggable/sockets.ts"),
      ]);
      return pluggableTypes(types, known, socketsFolder(environment));
    },
    async blockSettings() {
      const [{ stateSettings }, { pubSubSettings }] = await Promise.all([
        import("./blocks/state/settings.ts"),
        import("./blocks/pubsub/settings.ts"),
      ]);
      return { state: stateSettings, pubsub: pubSubSettings };
    },
    defaults: [
      { component: embedded.state, settings: {}, blockSettings: undeclared.state },
      { component: embedded.pubsub, settings: {}, blockSettings: undeclared.pubsub },
    ],
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
