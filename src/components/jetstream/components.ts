/** The components on NATS JetStream. The library is loaded when one of them is opened. */
import { component } from "../../component.ts";
import { pubSubSchema, stateSchema } from "./settings.ts";

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

/** The component "state.jetstream". */
export const jetStreamState = component({
  type: "state.jetstream",
  versions: ["v1"],
  schema: stateSchema,
  async open(fields, context) {
    const { JetStreamState } = await import("./state.ts");
    return JetStreamState.open(fields, context);
  },
});
