/** How the settings of the components on PostgreSQL become connections and tables. */
import { availableParallelism } from "node:os";
import type { OpenContext } from "../../component.ts";
import { connectionSettings } from "./connection-fields.ts";
import { Database } from "./database.ts";
import { PostgresPubSub } from "./pubsub/pubsub.ts";
import { prepareLog } from "./pubsub/schema.ts";
import { type PubSubFields, retentionSettings, type StateFields, storeSettings } from "./settings.ts";
import { prepareStore } from "./state/schema.ts";
import { PostgresState } from "./state/state.ts";

/** Opens state.postgresql, in Dapr's tables of either version. */
export async function openState(fields: StateFields, context: OpenContext): Promise<PostgresState> {
  const { names, cleanupIntervalMs } = storeSettings(fields, context.version);
  const settings = connectionSettings(fields, availableParallelism());
  const database = await Database.open(settings, `outrider ${context.appId}`, context.signal);
  try {
    const { layout, metadata } = await prepareStore(database, names, context);
    const state = new PostgresState(database, layout, cleanupIntervalMs, metadata, context.telemetry.log);
    database.onMissing(async () => {
      await prepareStore(database, names, { signal: database.closing });
      state.madeAgain();
      tell(context);
    });
    await state.start(context);
    return state;
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** Opens pubsub.postgresql, in tables of our own. */
export async function openPubSub(fields: PubSubFields, context: OpenContext): Promise<PostgresPubSub> {
  const settings = connectionSettings(fields, availableParallelism());
  const database = await Database.open(settings, `outrider ${context.appId}`, context.signal);
  try {
    const { schema, table } = fields.tablePrefix ?? { schema: undefined, table: "outrider_" };
    const prefix = { schema: schema ?? fields.schema, table };
    const tables = await prepareLog(database, prefix, context);
    database.onMissing(async () => {
      await prepareLog(database, prefix, { signal: database.closing });
      tell(context);
    });
    const pubsub = new PostgresPubSub(database, tables, retentionSettings(fields), context);
    pubsub.start();
    return pubsub;
  } catch (error) {
    await database.close();
    throw error;
  }
}

function tell({ telemetry: { log } }: OpenContext): void {
  log.warn("tables or functions in PostgreSQL were gone, and have been made again");
}
