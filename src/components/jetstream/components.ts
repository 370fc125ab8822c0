/** The components on NATS JetStream. The library is loaded when one of them is opened. */
import { component } from "../../component.ts";
import { pubSubSchema } from "./settings.ts";

/** The component "pubsub.jetstream". */
export const jetStreamPubSub = component({
  type: "pubsub.jetstream",
  versions: ["v1"],
  schema: pubSubSchema,
  async open(fields, context) {
    const { JetStreamPubSub } = await import("./pubsub.ts");
    return JetStreamPubSub.open(fields, context);
  },
});
