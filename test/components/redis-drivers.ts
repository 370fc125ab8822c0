/** Drivers on the Redis of a test. */
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import type { OpenContext } from "../../src/component.ts";
import { redisPubSub, redisState } from "../../src/components/redis/components.ts";
import { openContext } from "./open-context.ts";

/** Where a server is. */
export interface Place {
  readonly host: string;
  readonly port: number;
}

/** Opens a store as a sidecar does whose YAML has these fields. */
export function openState(
  at: Place | string,
  fields: Record<string, string> = {},
  context: Partial<OpenContext> = {},
): Promise<StateDriver> {
  const settings = redisState.schema.parse({ redisHost: hostOf(at), ...fields });
  return redisState.configure(settings)(openContext({ name: "state", ...context }));
}

/** What `redisHost` says. */
export function hostOf(at: Place | string): string {
  return typeof at === "string" ? at : `${at.host}:${at.port}`;
}

/** Opens a broker as a sidecar does whose YAML has these fields. */
export function openPubSub(
  at: Place | string,
  fields: Record<string, string> = {},
  context: Partial<OpenContext> = {},
): Promise<PubSubDriver> {
  const settings = redisPubSub.schema.parse({ redisHost: hostOf(at), ...fields });
  return redisPubSub.configure(settings)(openContext({ name: "pubsub", ...context }));
}
