import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import type { OpenContext } from "../../src/component.ts";
import { jetStreamPubSub, jetStreamState } from "../../src/components/jetstream/components.ts";
import { openContext } from "./open-context.ts";

/** Events of a megabyte take more than the server's default of one when they are in JSON. */
export const largeMessages = "max_payload: 64MB";

/** Opens pubsub.jetstream with metadata as it is written in YAML. */
export function openPubSub(
  metadata: Record<string, string>,
  context: Partial<OpenContext> = {},
): Promise<PubSubDriver> {
  const settings = jetStreamPubSub.schema.parse(metadata);
  return jetStreamPubSub.configure(settings)(openContext(context));
}

/** Opens state.jetstream with metadata as it is written in YAML. */
export function openState(
  metadata: Record<string, string>,
  context: Partial<OpenContext> = {},
): Promise<StateDriver> {
  const settings = jetStreamState.schema.parse(metadata);
  return jetStreamState.configure(settings)(openContext(context));
}
