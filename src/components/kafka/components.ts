/** The component on Kafka. It is loaded when it is opened. */
import { component } from "../../component.ts";
import { kafkaSchema } from "./settings.ts";

/** The component "pubsub.kafka". */
export const kafkaPubSub = component({
  type: "pubsub.kafka",
  versions: ["v1"],
  schema: kafkaSchema,
  async open(fields, context) {
    const { openKafka } = await import("./open.ts");
    return openKafka(fields, context);
  },
});
