import { startRedis } from "../servers/redis.ts";
import { chaosTest } from "./chaos.ts";

chaosTest({
  needs: ["redis"],
  type: "pubsub.redis",
  start: startRedis,
  metadata: (port) => ({ redisHost: `127.0.0.1:${port}`, redisPassword: "" }),
  state: {
    type: "state.redis",
    metadata: (port) => ({ redisHost: `127.0.0.1:${port}`, redisPassword: "" }),
  },
});
