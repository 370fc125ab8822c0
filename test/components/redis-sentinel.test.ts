import { pubSubConformance } from "../conformance/pubsub.ts";
import { stateConformance } from "../conformance/state.ts";
import { sharedRedisSentinel } from "../servers/redis-sentinel.ts";
import { describeWith } from "../servers/require.ts";
import { openPubSub, openState } from "./redis-drivers.ts";

const failover = async () => {
  const { sentinel, primaryName } = await sharedRedisSentinel();
  return { at: sentinel, fields: { failover: "true", sentinelMasterName: primaryName } };
};

describeWith("redis", "state.redis behind a sentinel", () => {
  stateConformance(async () => {
    const { at, fields } = await failover();
    return openState(at, fields);
  });
});

describeWith("redis", "pubsub.redis behind a sentinel", () => {
  const open = async () => {
    const { at, fields } = await failover();
    return openPubSub(at, { ...fields, waitReplicas: "1", waitTimeout: "20s" });
  };
  pubSubConformance(open, { second: open });
});
