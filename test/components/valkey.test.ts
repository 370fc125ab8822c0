import { expect, it } from "vitest";
import { pubSubConformance } from "../conformance/pubsub.ts";
import { stateConformance } from "../conformance/state.ts";
import { answerTo, sharedValkey } from "../servers/redis.ts";
import { sharedValkeyCluster } from "../servers/redis-cluster.ts";
import { describeWith } from "../servers/require.ts";
import { hostOf, openPubSub, openState } from "./redis-drivers.ts";
import { withPrefix } from "./redis-keys.ts";

const onCluster = async () => (await sharedValkeyCluster()).nodes.map(hostOf).join(",");

describeWith("valkey", "the components for Redis on Valkey", () => {
  it("which is what answers here", async () => {
    const { port } = await sharedValkey();
    expect(await answerTo(port, "INFO server\r\n")).toContain("server_name:valkey");
  });
});

describeWith("valkey", "pubsub.redis on Valkey", () => {
  const open = async () => openPubSub(await sharedValkey());
  pubSubConformance(open, { second: open });
});

describeWith("valkey", "state.redis on Valkey", () => {
  stateConformance(async () => openState(await sharedValkey()));
});

describeWith("valkey", "pubsub.redis on a cluster of Valkey", () => {
  const open = async () => openPubSub(await onCluster(), { redisType: "cluster" });
  pubSubConformance(open, { second: open });
});

describeWith("valkey", "state.redis on a cluster of Valkey", () => {
  // Its transactions need keys of one slot, which the suite does not know.
  stateConformance(async () =>
    withPrefix(await openState(await onCluster(), { redisType: "cluster" }), "{conformance}"),
  );
});
