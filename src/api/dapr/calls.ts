/**
 * What answers the calls of applications, over both protocols. It is loaded with the first of them, and keeps nothing:
 * each protocol makes its own.
 */
import type { Policy } from "../../resilience/policy.ts";
import type { DaprApiOptions } from "./api.ts";
import type { DaprMetadata } from "./metadata.ts";
import { DaprPublish } from "./publish.ts";
import type { DaprPubSubMetrics } from "./pubsub-metrics.ts";
import { DaprSecrets } from "./secrets.ts";
import { DaprState } from "./state.ts";
import type { Subscriptions } from "./subscriptions.ts";

/** See the head of this file. */
export interface DaprApi {
  readonly state: DaprState;
  readonly publish: DaprPublish;
  readonly secrets: DaprSecrets;
  readonly metadata: DaprMetadata;
  readonly subscriptions: Subscriptions;
  /** What deliveries of a pub/sub component are under, now; undefined: nothing. */
  inboundPolicyOf(pubsubName: string): Policy | undefined;
  /** Begins to stop the sidecar, and returns at once. `force`: without waiting for anything. */
  shutdown(force: boolean): void;
}

/** Makes it of what is there from the start. */
export function daprApi(
  { appId, buses, inboundPolicyOf, secretScopes, secretStores, shutdown, stores }: DaprApiOptions,
  shared: {
    readonly metadata: DaprMetadata;
    readonly subscriptions: Subscriptions;
    readonly pubsubMetrics: DaprPubSubMetrics;
  },
): DaprApi {
  const { metadata, pubsubMetrics, subscriptions } = shared;
  return {
    state: new DaprState(stores, appId),
    publish: new DaprPublish(buses, appId, pubsubMetrics),
    secrets: new DaprSecrets(secretStores, secretScopes),
    metadata,
    subscriptions,
    inboundPolicyOf,
    shutdown,
  };
}
