/** Drivers of pubsub.kafka on the broker of the test run. */
import type { PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import type { OpenContext } from "../../../src/component.ts";
import { kafkaPubSub } from "../../../src/components/kafka/components.ts";
import { openContext } from "../open-context.ts";

/** What makes a test quick, and is a matter of seconds elsewhere. */
const quick = {
  heartbeatInterval: "50ms",
  topicRefreshInterval: "100ms",
  createTopics: "true",
  topicPartitions: "1",
  // The suite publishes events of a megabyte, which are larger in an envelope.
  maxMessageBytes: "4Mi",
  topicConfigs: "max.message.bytes=8388608",
};

/** Opens a driver; fields are those of its YAML. */
export async function openKafkaDriver(
  port: number,
  fields: Readonly<Record<string, string>> = {},
  context: Partial<OpenContext> = {},
): Promise<PubSubDriver> {
  const settings = kafkaPubSub.schema.parse({ brokers: `127.0.0.1:${port}`, ...quick, ...fields });
  return await kafkaPubSub.configure(settings)(openContext({ name: "kafka", ...context }));
}
