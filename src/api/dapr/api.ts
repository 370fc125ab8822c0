/** Dapr's API of one sidecar: its service, its routes, and the application that it calls. */
import type { Bus } from "../../blocks/pubsub/bus.ts";
import type { StateStore } from "../../blocks/state/store.ts";
import type { SecretScope, SecretStore } from "../../config/secrets.ts";
import type { DeclaredSubscription } from "../../config/subscriptions.ts";
import type { Policy } from "../../resilience/policy.ts";
import type { HttpRoutes } from "../../server/http-route.ts";
import type { LateMount } from "../../server/mount.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { AppPipeline } from "./app/app-pipeline.ts";
import { Application } from "./app/application.ts";
import type { AppOptions } from "./app/channel.ts";
import { bulkOf } from "./bulk.ts";
import { daprRpcs, daprTypeName, isDaprPath } from "./contract.ts";
import { ErrorCodes } from "./error-codes.ts";
import { errorAnswer } from "./http/answers.ts";
import { healthAndMetadataRoutes } from "./http/sidecar.ts";
import { DaprMetadata, type DaprMetadataOptions } from "./metadata.ts";
import { DaprPubSubMetrics } from "./pubsub-metrics.ts";
import { Subscriptions } from "./subscriptions.ts";
import type { TopicSubscriptionSpec } from "./topic-subscription.ts";

/** What the API is made of. */
export interface DaprApiOptions {
  readonly appId: string;
  /** For metrics; "" for none. */
  readonly namespace: string;
  readonly version: string;
  /** What there is now, as in the other maps, and whatever is a function. */
  readonly stores: ReadonlyMap<string, StateStore>;
  readonly buses: ReadonlyMap<string, Bus>;
  readonly secretStores: ReadonlyMap<string, SecretStore>;
  readonly secretScopes: () => readonly SecretScope[];
  /** Names of features, for metadata. */
  readonly enabledFeatures: readonly string[];
  readonly metadata: Pick<
    DaprMetadataOptions,
    "components" | "httpEndpoints" | "resiliencies" | "refusedChange"
  >;
  /** By name, in the order in which metadata has them. */
  readonly declared: ReadonlyMap<string, DeclaredSubscription>;
  /** What deliveries of a component to the application are under; undefined: nothing. */
  readonly inboundPolicyOf: (pubsubName: string) => Policy | undefined;
  /** Undefined: no application listens. */
  readonly app: AppOptions | undefined;
  /** What requests to it pass, when it speaks HTTP. */
  readonly appPipeline: AppPipeline;
  readonly maxMessageBytes: number;
  readonly telemetry: Telemetry;
  /** Whether errors are counted by their codes. */
  readonly recordErrorCodes: boolean;
  /** Components and ports work. */
  readonly outboundReady: () => boolean;
  /** Begins to stop the sidecar, and returns at once. `force`: without waiting for anything. */
  readonly shutdown: (force: boolean) => void;
}

/** See the head of this file. */
export class DaprSide {
  readonly service: LateMount;
  readonly routes: HttpRoutes;
  /** Those that anybody may use who reaches the public port. */
  readonly publicRoutes: HttpRoutes;
  /** Undefined: none listens. */
  readonly application: Application | undefined;
  readonly #subscriptions = new Subscriptions();
  readonly #declared: ReadonlyMap<string, DeclaredSubscription>;

  constructor(options: DaprApiOptions) {
    const { appId, app, buses, maxMessageBytes, outboundReady, telemetry } = options;
    const subscriptions = this.#subscriptions;
    const pubsubMetrics = new DaprPubSubMetrics(telemetry.metrics, appId, options.namespace);
    this.#declared = options.declared;
    this.#setDeclared();
    subscriptions.showDeclared();
    const metadata = new DaprMetadata({ ...options, ...options.metadata, subscriptions });
    const api = async () => {
      const { daprApi } = await import("./calls.ts");
      return daprApi(options, { metadata, subscriptions, pubsubMetrics });
    };
    this.application =
      app &&
      new Application({
        app,
        subscriptions,
        busOf: (name) => buses.get(name),
        policyOf: options.inboundPolicyOf,
        metrics: pubsubMetrics,
        pipeline: options.appPipeline,
        maxMessageBytes,
        log: telemetry.log.child({ scope: "app" }),
      });
    const ready = () => outboundReady() && (this.application?.ready ?? true);
    const health = { appId, ready, outboundReady };
    this.service = {
      typeName: daprTypeName,
      methodNames: daprRpcs,
      load: async () => {
        const [{ daprMount }, own] = await Promise.all([import("./service.ts"), api()]);
        return daprMount(own, options);
      },
    };
    const open = healthAndMetadataRoutes(metadata, health);
    this.publicRoutes = { routes: open, errorAnswer };
    const errorCodes = options.recordErrorCodes ? new ErrorCodes(telemetry.metrics, appId) : undefined;
    this.routes = {
      routes: open,
      late: {
        covers: isDaprPath,
        load: async () => {
          const [{ daprRoutes }, own] = await Promise.all([import("./http/routes.ts"), api()]);
          return daprRoutes(own, options);
        },
      },
      errorAnswer(error) {
        errorCodes?.count(error);
        return errorAnswer(error);
      },
    };
  }

  /** Begins to call the application; to be called when the ports listen. */
  start(): void {
    void this.application?.run();
  }

  /** Has everybody go on with what there is now. Resolves when it is so; metadata tells of it from `show` on. */
  async reconcile(): Promise<void> {
    this.#setDeclared();
    await Promise.all([this.#subscriptions.reconcile(), this.application?.reconcile()]);
  }

  /** Has metadata tell of the subscriptions that are declared now. */
  show(): void {
    this.#subscriptions.showDeclared();
  }

  /** Takes no more events; streams end, and the application is still heard for what it holds. */
  drain(): void {
    this.#subscriptions.drain();
    this.application?.drain();
  }

  /** Streams that are open, and events that the application holds. */
  get busy(): number {
    return this.#subscriptions.open + (this.application?.inHand ?? 0);
  }

  /** Gives back what the application holds, and hangs up. */
  close(): void {
    this.application?.close();
  }

  #setDeclared(): void {
    this.#subscriptions.setDeclared([...this.#declared.values()].map(specOf));
  }
}

function specOf(declared: DeclaredSubscription): TopicSubscriptionSpec {
  const { component, topic, metadata, raw, rules, defaultPath, deadLetterTopic, bulk } = declared;
  return {
    pubsubName: component,
    topic,
    metadata,
    raw,
    rules,
    defaultPath,
    deadLetterTopic,
    bulk: bulkOf(bulk?.enabled === true, bulk?.maxMessagesCount, bulk?.maxAwaitDurationMs),
  };
}
