import { stateConformance } from "../conformance/state.ts";
import { sharedRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import { openState } from "./redis-drivers.ts";

describeWith("redis", "state.redis on a single server", () => {
  stateConformance(async () => openState(await sharedRedis()));
});
