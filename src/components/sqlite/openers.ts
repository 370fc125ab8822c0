/**
 * What opens the components on Node's own SQLite. They are made together, because those
 * that use the same file share its thread.
 */
import { type OpenContext, type Opener, opener } from "../../component.ts";
import type { Attaching } from "./database.ts";
import { Databases, type Lease } from "./databases.ts";
import type { PubSubFields, StateFields } from "./fields.ts";
import type { Ask } from "./messages.ts";
import { SqlitePubSub } from "./pubsub.ts";
import { type FileSettings, fileSettings, retentionSettings, stateSettings } from "./settings.ts";
import { SqliteState } from "./state.ts";

/** state.sqlite and pubsub.sqlite. */
export interface SqliteOpeners {
  readonly state: Opener<"state">;
  readonly pubsub: Opener<"pubsub">;
}

/** Makes them. Sidecars in other processes that open the same file share what is in it. */
export function sqliteOpeners(): SqliteOpeners {
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
    state: opener({
      type: "state.sqlite",
      versions: ["v1"],
      async open(fields: StateFields, context) {
        const file = fileSettings(fields, context.dataDirectory);
        return new SqliteState(
          await lease(file, "attachState", stateSettings(fields), context),
          file.timeoutMs,
        );
      },
    }),
    pubsub: opener({
      type: "pubsub.sqlite",
      versions: ["v1"],
      async open(fields: PubSubFields, context) {
        const file = fileSettings(fields, context.dataDirectory);
        return new SqlitePubSub(
          await lease(file, "attachPubSub", retentionSettings(fields), context),
          file.timeoutMs,
        );
      },
    }),
  };
}
