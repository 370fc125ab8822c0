import { beforeAll, describe } from "vitest";
import { pubSubConformance } from "../conformance/pubsub.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { openKafkaDriver } from "./kafka/driver.ts";

describeWith("kafka", "pubsub.kafka", () => {
  let port = 0;

  beforeAll(async () => {
    ({ port } = await sharedKafka());
  }, 60_000);

  describe.each(["structured", "binary"])("with events in %s mode", (contentMode) => {
    const open = () => openKafkaDriver(port, { contentMode });
    pubSubConformance(open, { second: open });
  });
});
