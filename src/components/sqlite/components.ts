/**
 * The components on Node's own SQLite. They are made together, because those
 * that use the same file share its thread.
 */
import { type ComponentOf, component, type OpenContext } from "../../component.ts";
import type { Attaching } from "./database.ts";
import { Databases, type Lease } from "./databases.ts";
import type { Ask } from "./messages.ts";
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
  const lease = <K extends Attaching>(
    { path, lockLimitMs, timeoutMs }: FileSettings,
    kind: K,
    ask: Ask<K>,
    context: OpenContext,
  ): Promise<Lease<K>> =>
    databases.lease(
      { path, lockLimitMs, instanceId: context.instanceId, watchFiles: true },
      { kind, ask, limitMs: timeoutMs },
      context,
    );
  return {
    state: component({
      type: "state.sqlite",
      versions: ["v1"],
      schema: stateSchema,
      async open(fields, context) {
        const file = fileSettings(fields, context.dataDirectory);
        return new SqliteState(
          await lease(file, "attachState", stateSettings(fields), context),
          file.timeoutMs,
        );
      },
    }),
    pubsub: component({
      type: "pubsub.sqlite",
      versions: ["v1"],
      schema: pubSubSchema,
      async open(fields, context) {
        const file = fileSettings(fields, context.dataDirectory);
        return new SqlitePubSub(
          await lease(file, "attachPubSub", retentionSettings(fields), context),
          file.timeoutMs,
        );
      },
    }),
  };
}
