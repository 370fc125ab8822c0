/** The components on PostgreSQL. They are loaded when one of them is opened. */
import { component } from "../../component.ts";
import { pubSubSchema, stateSchema } from "./settings.ts";

/** state.postgresql, in Dapr's tables of either version. */
export const postgresState = component({
  type: "state.postgresql",
  versions: ["v1", "v2"],
  schema: stateSchema,
  async open(fields, context) {
    const { openState } = await import("./open.ts");
    return openState(fields, context);
  },
});

/** pubsub.postgresql, in tables of our own. */
export const postgresPubSub = component({
  type: "pubsub.postgresql",
  versions: ["v1"],
  schema: pubSubSchema,
  async open(fields, context) {
    const { openPubSub } = await import("./open.ts");
    return openPubSub(fields, context);
  },
});
