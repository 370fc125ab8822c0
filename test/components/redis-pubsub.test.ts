import { pubSubConformance } from "../conformance/pubsub.ts";
import { sharedRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import { openPubSub } from "./redis-drivers.ts";

describeWith("redis", "pubsub.redis on a single server", () => {
  const open = async () => openPubSub(await sharedRedis());
  pubSubConformance(open, { second: open });
});
