/** The components on Node's own SQLite, for those who declare them. */
import type { ComponentOf } from "../../component.ts";
import { pubSubSchema, stateSchema } from "./fields.ts";
import { sqliteOpeners } from "./openers.ts";

/** state.sqlite and pubsub.sqlite. */
export interface SqliteComponents {
  readonly state: ComponentOf<"state">;
  readonly pubsub: ComponentOf<"pubsub">;
}

/** The components that these open. */
export function sqliteComponents({ state, pubsub } = sqliteOpeners()): SqliteComponents {
  return { state: { ...state, schema: stateSchema }, pubsub: { ...pubsub, schema: pubSubSchema } };
}
