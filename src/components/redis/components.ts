/** state.redis and pubsub.redis. */
import { component } from "../../component.ts";
import { connectionSettings, pubSubSchema, stateSchema, streamSettings } from "./settings.ts";

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

/** Streams and their consumer groups. */
export const redisPubSub = component({
  type: "pubsub.redis",
  versions: ["v1"],
  schema: pubSubSchema,
  async open(fields, context) {
    const { RedisPubSub } = await import("./pubsub.ts");
    return RedisPubSub.open(connectionSettings(fields), streamSettings(fields), context);
  },
});
