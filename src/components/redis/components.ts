/** state.redis and pubsub.redis. */
import { component } from "../../component.ts";
import { connectionSettings, stateSchema } from "./settings.ts";

/** Items as hashes that Dapr can read and write too. */
export const redisState = component({
  type: "state.redis",
  versions: ["v1"],
  schema: stateSchema,
  async open(fields, context) {
    const { RedisState } = await import("./state.ts");
    return RedisState.open(connectionSettings(fields), context);
  },
});
