/**
 * The components on Node's own SQLite. They are made together, because those
 * that use the same file share its thread.
 */
import { type ComponentOf, component, type OpenContext } from "../../component.ts";
import { Databases, type Lease } from "./databases.ts";
import { SqlitePubSub } from "./pubsub.ts";
import {
  type FileSettings,
  fileSettings,
  pubSubSchema,
  retentionSettings,
  stateSchema,
  stateSettings,
} from "./settings.ts";
import { SqliteState } from "./state.ts";

/** state.sqlite and pubsub.sqlite. */
export interface SqliteComponents {
  readonly state: ComponentOf<"state">;
  readonly pubsub: ComponentOf<"pubsub">;
}

/** Makes the components. Sidecars in other processes that open the same file share what is in it. */
export function sqliteComponents(): SqliteComponents {
  const databases = new Databases();
  const lease = ({ path, lockLimitMs }: FileSettings, context: OpenContext): Promise<Lease> =>
    databases.open({ path, lockLimitMs, instanceId: context.instanceId, watchFiles: true }, context);
  return {
    state: component({
      type: "state.sqlite",
      versions: ["v1"],
      schema: stateSchema,
      async open(fields, context) {
        const file = fileSettings(fields, context.dataDirectory);
        return SqliteState.open(await lease(file, context), file.timeoutMs, stateSettings(fields), context);
      },
    }),
    pubsub: component({
      type: "pubsub.sqlite",
      versions: ["v1"],
      schema: pubSubSchema,
      async open(fields, context) {
        const file = fileSettings(fields, context.dataDirectory);
        return SqlitePubSub.open(
          await lease(file, context),
          file.timeoutMs,
          retentionSettings(fields),
          context,
        );
      },
    }),
  };
}
