/** What a sidecar says of itself in Dapr's words. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ActorRuntime_ActorRuntimeStatus,
  GetMetadataResponseSchema,
  PubsubSubscriptionType,
} from "../../../gen/dapr/proto/runtime/v1/metadata_pb.ts";
import type { AppOptions } from "./app/channel.ts";
import type { Subscriptions, SubscriptionView } from "./subscriptions.ts";

/** A component, as metadata has it. */
export interface ComponentSummary {
  readonly name: string;
  readonly type: string;
  readonly version: string;
  readonly capabilities: readonly string[];
}

/** Dapr's names of what state stores support, in Dapr's order, and the names that they have here. */
const stateCapabilities: readonly (readonly [name: string, own: readonly string[]])[] = [
  ["ETAG", ["etags"]],
  ["TRANSACTIONAL", ["transactions"]],
  ["TTL", ["time-to-live"]],
  ["DELETE_WITH_PREFIX", ["list"]],
  ["KEYS_LIKE", ["list"]],
  ["ACTOR", ["transactions", "etags"]],
];

/** The capabilities of a component in Dapr's words; there are none for other blocks than state. */
export function daprCapabilities(type: string, capabilities: readonly string[]): readonly string[] {
  // None at all: it is not open yet.
  if (!type.startsWith("state.") || capabilities.length === 0) return [];
  // Every store of this build has etags and lists; one that cannot list is pluggable, and says what it has.
  const has = (own: string) =>
    capabilities.includes(own) || (own === "etags" && capabilities.includes("list"));
  return stateCapabilities.filter(([, needed]) => needed.every(has)).map(([name]) => name);
}

/** The enum's numbers: the contract itself is loaded only when it is called. */
const subscriptionTypes = {
  UNKNOWN: 0,
  DECLARATIVE: 1,
  PROGRAMMATIC: 2,
  STREAMING: 3,
} as const satisfies typeof PubsubSubscriptionType;
const noActors: (typeof ActorRuntime_ActorRuntimeStatus)["DISABLED"] = 1;

/** What Dapr says where there are no actors. */
const placement = "placement: disconnected";
/** The extended metadata that says why a change of the YAML is not in force. */
const refusedKey = "outriderRefusedChange";

/** What metadata is made of. */
export interface DaprMetadataOptions {
  readonly appId: string;
  readonly version: string;
  readonly enabledFeatures: readonly string[];
  readonly components: () => readonly ComponentSummary[];
  /** Names. */
  readonly httpEndpoints: () => readonly string[];
  readonly resiliencies: () => readonly string[];
  /** Why the last change of the YAML is not in force; "" when it is. */
  readonly refusedChange: () => string;
  readonly subscriptions: Subscriptions;
  readonly app: AppOptions | undefined;
}

/** See the head of this file. */
export class DaprMetadata {
  readonly #options: DaprMetadataOptions;
  readonly #extended: Map<string, string>;

  constructor(options: DaprMetadataOptions) {
    this.#options = options;
    this.#extended = new Map([["daprRuntimeVersion", options.version]]);
  }

  /** Sets an entry of the extended metadata; it is kept until the sidecar stops. */
  set(key: string, value: string): void {
    this.#extended.set(key, value);
  }

  /** All of it, as HTTP has it: some names differ from those of the message. */
  json(): unknown {
    const { appId, version, enabledFeatures, components, subscriptions, app } = this.#options;
    const { httpEndpoints, resiliencies } = this.#options;
    return withoutEmpty({
      id: appId,
      runtimeVersion: version,
      enabledFeatures,
      components: components().map((each) => withoutEmpty({ ...each })),
      extended: this.#allExtended(),
      subscriptions: subscriptions.views.map((view) => {
        const { pubsubName, topic, metadata, deadLetterTopic, rules } = subscriptionOf(view);
        const own = rules.rules.map((rule) => withoutEmpty(rule));
        return withoutEmpty({
          pubsubname: pubsubName,
          topic,
          metadata,
          rules: own,
          deadLetterTopic,
          type: view.kind,
        });
      }),
      httpEndpoints: httpEndpoints().map((name) => ({ name })),
      resiliencies: resiliencies().map((name) => ({ name })),
      appConnectionProperties: app && connectionOf(app),
      actorRuntime: { runtimeStatus: "DISABLED", hostReady: false, placement },
    });
  }

  /** All of it, as the gRPC message. */
  message(): MessageInitShape<typeof GetMetadataResponseSchema> {
    const { appId, version, enabledFeatures, components, subscriptions, app } = this.#options;
    const { httpEndpoints, resiliencies } = this.#options;
    return {
      id: appId,
      runtimeVersion: version,
      enabledFeatures: [...enabledFeatures],
      extendedMetadata: this.#allExtended(),
      registeredComponents: components().map((each) => ({ ...each, capabilities: [...each.capabilities] })),
      subscriptions: subscriptions.views.map(subscriptionOf),
      httpEndpoints: httpEndpoints().map((name) => ({ name })),
      resiliencies: resiliencies().map((name) => ({ name })),
      actorRuntime: { runtimeStatus: noActors, placement },
      ...(app && { appConnectionProperties: connectionOf(app) }),
    };
  }

  /** Dapr has no place of its own for a change that was refused. */
  #allExtended(): Record<string, string> {
    const refused = this.#options.refusedChange();
    return { ...Object.fromEntries(this.#extended), ...(refused !== "" && { [refusedKey]: refused }) };
  }
}

/** Where an application listens, and how it is looked after; durations as Go writes them. */
function connectionOf({ port, protocol, channelAddress, maxConcurrency, health }: AppOptions) {
  return {
    port,
    protocol,
    channelAddress,
    ...(maxConcurrency > 0 && { maxConcurrency }),
    ...(health && {
      health: {
        healthCheckPath: health.path,
        healthProbeInterval: goDuration(health.intervalMs),
        healthProbeTimeout: goDuration(health.timeoutMs),
        healthThreshold: health.threshold,
      },
    }),
  };
}

function goDuration(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

/** Dapr leaves empty lists, maps and texts out of its JSON. */
function withoutEmpty(value: Record<string, unknown>): Record<string, unknown> {
  const empty = (each: unknown) =>
    each === undefined ||
    each === "" ||
    (typeof each === "object" && each !== null && Object.keys(each).length === 0);
  return Object.fromEntries(Object.entries(value).filter(([, each]) => !empty(each)));
}

function subscriptionOf({ spec, kind }: SubscriptionView) {
  const { pubsubName, topic, metadata, deadLetterTopic, rules, defaultPath } = spec;
  const all = defaultPath === "" ? rules : [...rules, { match: "", path: defaultPath }];
  return {
    pubsubName,
    topic,
    metadata: { ...metadata },
    deadLetterTopic,
    rules: { rules: all.map((rule) => ({ ...rule })) },
    type: subscriptionTypes[kind],
  };
}
