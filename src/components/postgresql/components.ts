/** The components on PostgreSQL. */
import { availableParallelism } from "node:os";
import { type ComponentOf, component } from "../../component.ts";
import { connectionSettings } from "./connection-fields.ts";
import { Database } from "./database.ts";
import { quoted } from "./names.ts";
import { stateSchema, storeSettings } from "./settings.ts";
import { prepareStore, schemaOf } from "./state/schema.ts";
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
      const layout = await prepareStore(database, names, context);
      const schema = await database.transaction((client) => schemaOf(client, names.metadata), context);
      const metadata = `${quoted(schema)}.${quoted(names.metadata.table)}`;
      const state = new PostgresState(database, layout, cleanupIntervalMs, metadata, context.telemetry.log);
      await state.start(context);
      return state;
    } catch (error) {
      await database.close();
      throw error;
    }
  },
});
