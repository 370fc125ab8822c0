/** The components on PostgreSQL. */
import { availableParallelism } from "node:os";
import { type ComponentOf, component } from "../../component.ts";
import { connectionSettings } from "./connection-fields.ts";
import { Database } from "./database.ts";
import { PostgresPubSub } from "./pubsub/pubsub.ts";
import { prepareLog } from "./pubsub/schema.ts";
import { pubSubSchema, retentionSettings, stateSchema, storeSettings } from "./settings.ts";
import { prepareStore } from "./state/schema.ts";
import { PostgresState } from "./state/state.ts";

/** state.postgresql, in Dapr's tables of either version. */
export const postgresState: ComponentOf<"state"> = component({
  type: "state.postgresql",
  versions: ["v1", "v2"],
  schema: stateSchema,
  async open(fields, context) {
    const { names, cleanupIntervalMs } = storeSettings(fields, context.version);
    const settings = connectionSettings(fields, availableParallelism());
    const database = await Database.open(settings, `outrider ${context.appId}`, context.signal);
    try {
      const { layout, metadata } = await prepareStore(database, names, context);
      const state = new PostgresState(database, layout, cleanupIntervalMs, metadata, context.telemetry.log);
      await state.start(context);
      return state;
    } catch (error) {
      await database.close();
      throw error;
    }
  },
});

/** pubsub.postgresql, in tables of our own. */
export const postgresPubSub: ComponentOf<"pubsub"> = component({
  type: "pubsub.postgresql",
  versions: ["v1"],
  schema: pubSubSchema,
  async open(fields, context) {
    const settings = connectionSettings(fields, availableParallelism());
    const database = await Database.open(settings, `outrider ${context.appId}`, context.signal);
    try {
      const { schema, table } = fields.tablePrefix ?? { schema: undefined, table: "outrider_" };
      const tables = await prepareLog(database, { schema: schema ?? fields.schema, table }, context);
      const pubsub = new PostgresPubSub(database, tables, retentionSettings(fields), context);
      pubsub.start();
      return pubsub;
    } catch (error) {
      await database.close();
      throw error;
    }
  },
});
