/**
 * The resources that are in force: what the YAML of the moment has made. Who looks something up by its name
 * finds what there is now; who has something already goes on with it until that is done.
 */
import { isDeepStrictEqual } from "node:util";
import { pipelineOf } from "../api/dapr/middleware/pipeline.ts";
import type { Schemas, SidecarConfiguration } from "../assembly.ts";
import type { Connection } from "../blocks/connection.ts";
import type { Bus } from "../blocks/pubsub/bus.ts";
import { resolver } from "../blocks/resolve.ts";
import type { StateDriver } from "../blocks/state/driver.ts";
import { HandledEvents } from "../blocks/state/handled-events.ts";
import type { PublishEvents } from "../blocks/state/outbox-publisher.ts";
import type { StateStore } from "../blocks/state/store.ts";
import type { ComponentResource } from "../config/components.ts";
import type { SecretStore } from "../config/secrets.ts";
import type { DeclaredSubscription } from "../config/subscriptions.ts";
import { endedWithin } from "../ended-within.ts";
import type { Policy } from "../resilience/policy.ts";
import type { HttpPipeline } from "../server/http-pipeline.ts";
import { noTrace } from "../telemetry/tracing.ts";
import { isSameSubscription } from "./changes.ts";
import {
  type ComponentInForce,
  type InForceOptions,
  inForce,
  PubSubInForce,
  StateInForce,
} from "./component-in-force.ts";
import { PoliciesInForce } from "./policies-in-force.ts";

/** What the resources are used with. */
export type ResourcesOptions = Omit<InForceOptions, "inboxMemoryOf" | "policyOf" | "publish">;

/** How long new components may take until the change takes effect without them, in milliseconds. They go on trying. */
const openWithinMs = 2000;
/** How long it may take until everybody is subscribed anew, in milliseconds. They go on trying. */
const followWithinMs = 2000;

/** How long a component waits at most for what the one before it has to publish, in milliseconds. */
const turnWithinMs = 20_000;

/** See the head of this file. */
export class ResourcesInForce {
  /** Finds a pub/sub component by its name, "" for the default. Throws COMPONENT_NOT_FOUND. */
  readonly busOf: (name: string) => Bus;
  /** Finds a state store. */
  readonly storeOf: (name: string) => StateStore;
  readonly #options: ResourcesOptions;
  readonly #buses = new Map<string, Bus>();
  readonly #stores = new Map<string, StateStore>();
  readonly #connections = new Map<string, Connection<StateDriver>>();
  readonly #secretStores = new Map<string, SecretStore>();
  readonly #declared = new Map<string, DeclaredSubscription>();
  /** Not in force any more, with work under way. */
  readonly #leaving = new Set<ComponentInForce>();
  /** Being opened, and not in force yet. */
  #coming: readonly ComponentInForce[] = [];
  #components: readonly ComponentInForce[];
  #subscriptions: readonly DeclaredSubscription[] = [];
  #configuration: SidecarConfiguration;
  #shown: { readonly components: readonly ComponentInForce[]; readonly configuration: SidecarConfiguration };
  #pipelines: Readonly<Record<"httpPipeline" | "appHttpPipeline", HttpPipeline | undefined>>;
  readonly #policies: PoliciesInForce;
  #replacements = 0;
  #closed = false;

  /** Opens nothing yet. */
  constructor(configuration: SidecarConfiguration, options: ResourcesOptions) {
    this.#options = options;
    this.#policies = new PoliciesInForce(configuration);
    this.busOf = resolver("pub/sub component", this.#buses, "pubsub");
    this.storeOf = resolver("state store", this.#stores, "state");
    this.#components = configuration.components.map((each) => this.#make(each, options.instanceId));
    this.#configuration = configuration;
    this.#pipelines = pipelinesOf(configuration);
    this.#shown = { components: this.#components, configuration };
    this.#enter(this.#components, configuration);
  }

  get buses(): ReadonlyMap<string, Bus> {
    return this.#buses;
  }

  get stores(): ReadonlyMap<string, StateStore> {
    return this.#stores;
  }

  get secretStores(): ReadonlyMap<string, SecretStore> {
    return this.#secretStores;
  }

  /** Declared subscriptions by name: what has stayed the same first, in the order in which it was read. */
  get declared(): ReadonlyMap<string, DeclaredSubscription> {
    return this.#declared;
  }

  /** What is in force. */
  get configuration(): SidecarConfiguration {
    return this.#configuration;
  }

  /** The same for whoever asks what there is: what it tells of is in force, and subscribed to by who wants it. */
  get shown(): {
    readonly components: readonly ComponentInForce[];
    readonly configuration: SidecarConfiguration;
  } {
    return this.#shown;
  }

  /** What requests pass on their way in, or on their way to an application. */
  pipeline(name: "httpPipeline" | "appHttpPipeline"): HttpPipeline | undefined {
    return this.#pipelines[name];
  }

  /** What deliveries of a pub/sub component are under at the moment; undefined: nothing. */
  inboundPolicyOf(name: string): Policy | undefined {
    return this.#policies.of({ name, block: "pubsub" }, "inbound");
  }

  /** Begins to open the components. Returns at once. */
  start(): void {
    for (const { opened } of this.#components) opened.connection.start();
    for (const component of this.#components) component.begin();
  }

  /** Whether every component that must be there can serve. */
  get allowReady(): boolean {
    return this.#components.every(({ opened }) => opened.allowsReady);
  }

  /** Resolves when every component that must be there can serve. Rejects when the signal aborts first, or it is closed. */
  async ready(signal: AbortSignal): Promise<void> {
    while (!this.allowReady) {
      if (this.#closed) throw new Error("the sidecar has stopped");
      const waiting = this.#components.filter(({ opened }) => !opened.allowsReady);
      await Promise.all(waiting.map((component) => this.#ready(component, signal)));
    }
  }

  /** Whether any component keeps its data in the data directory. */
  get useDataDirectory(): boolean {
    return this.#components.some(({ opened }) => opened.usesDataDirectory);
  }

  /**
   * Puts another configuration into force: what is the same stays open, the rest is opened and then replaced at
   * once. `follow` has subscribers go on where they now belong. What is replaced is closed when its work has ended,
   * which is not waited for. Never rejects; does nothing when the signal aborts.
   */
  async apply(
    next: SidecarConfiguration,
    follow: () => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<void> {
    const components = next.components.map((resource) => this.#same(resource) ?? this.#replacement(resource));
    this.#coming = components.filter((each) => !this.#components.includes(each));
    for (const { opened } of this.#coming) opened.connection.start();
    const tried = this.#coming.map(({ opened }) => opened.connection.tried);
    await endedWithin(Promise.all(tried), openWithinMs, signal);
    if (signal.aborted) return;
    const gone = this.#components.filter((each) => !components.includes(each));
    this.#enter(components, next);
    const following = follow();
    const retiring = new Map(gone.map((each) => [nameOf(each), this.#retire(each)]));
    for (const component of this.#coming) {
      // What one that is replaced has to publish comes first.
      const before = retiring.get(nameOf(component));
      component.begin(before && endedWithin(before, turnWithinMs, signal));
    }
    this.#coming = [];
    this.#options.onChange();
    await endedWithin(following, followWithinMs, signal);
    this.#shown = { components, configuration: next };
  }

  /** The sidecar stops: nothing is taken from brokers any more. */
  stopTaking(): void {
    for (const component of this.#all) if (component instanceof PubSubInForce) component.bus.stopTaking();
  }

  /** Brokers that want to know are told that nothing more will be taken. Never rejects. */
  async pause(): Promise<void> {
    await Promise.all(this.#all.map((each) => each instanceof PubSubInForce && each.bus.pause()));
  }

  /** Leaves every group; what is not settled is given back. */
  async leaveGroups(): Promise<void> {
    await Promise.all(this.#all.map((each) => each instanceof PubSubInForce && each.finish()));
  }

  /** Closes everything; nothing is asked of it any more. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    // Stores publish what transactions have left, for which they need the others.
    await Promise.all(this.#all.map((each) => each.finish()));
    await Promise.all(this.#all.map(({ opened }) => opened.close()));
  }

  /** Waits for one, until it is replaced. */
  async #ready(component: ComponentInForce, signal: AbortSignal): Promise<void> {
    try {
      await component.opened.connection.ready(signal);
    } catch (error) {
      if (signal.aborted || this.#components.includes(component)) throw error;
    }
  }

  get #all(): readonly ComponentInForce[] {
    return [...this.#components, ...this.#coming, ...this.#leaving];
  }

  /** One that is in force and need not be replaced. */
  #same(resource: ComponentResource<Schemas>): ComponentInForce | undefined {
    const { name, fingerprint } = resource;
    const same = this.#components.find(
      ({ opened }) => opened.resource.name === name && opened.resource.fingerprint === fingerprint,
    );
    same?.opened.movedTo(resource);
    return same;
  }

  /** To its server it is another sidecar, so that it has nothing to do with what the one before it has in hand. */
  #replacement(resource: ComponentResource<Schemas>): ComponentInForce {
    this.#replacements += 1;
    return this.#make(resource, `${this.#options.instanceId}-${this.#replacements}`);
  }

  #make(resource: ComponentResource<Schemas>, instanceId: string): ComponentInForce {
    const connectionOf = resolver("state store", this.#connections, "state");
    const publish: PublishEvents = ({ component, topic, ownTopic }, events, call) =>
      this.busOf(component).publish(topic, events, (index) => `outbox[${index}]`, noTrace, call, {
        anyExtensionName: true,
        ownTopic,
      });
    return inForce(resource, {
      ...this.#options,
      instanceId,
      publish,
      policyOf: (of) => this.#policies.of(of, "outbound"),
      inboxMemoryOf: ({ store, windowMs }, owner) =>
        new HandledEvents({ connection: () => connectionOf(store), windowMs, ...owner }),
    });
  }

  /** From here on everybody who asks for something gets this. */
  #enter(components: readonly ComponentInForce[], configuration: SidecarConfiguration): void {
    const states = components.filter((each) => each instanceof StateInForce);
    const pubsubs = components.filter((each) => each instanceof PubSubInForce);
    replace(
      this.#buses,
      pubsubs.map((each) => [nameOf(each), each.bus]),
    );
    replace(
      this.#stores,
      states.map((each) => [nameOf(each), each.store]),
    );
    replace(
      this.#connections,
      states.map((each) => [nameOf(each), each.opened.connection]),
    );
    replace(this.#secretStores, configuration.secretStores);
    this.#subscriptions = inOrder(this.#subscriptions, configuration.subscriptions);
    replace(
      this.#declared,
      this.#subscriptions.map((each) => [each.name, each]),
    );
    if (!isDeepStrictEqual(pipelineSources(this.#configuration), pipelineSources(configuration)))
      this.#pipelines = pipelinesOf(configuration);
    this.#policies.enter(configuration);
    this.#components = components;
    this.#configuration = configuration;
  }

  async #retire(component: ComponentInForce): Promise<void> {
    this.#leaving.add(component);
    const {
      name,
      component: { type },
    } = component.opened.resource;
    await component.retire();
    await component.opened.close();
    this.#leaving.delete(component);
    this.#options.telemetry.log.debug({ component: name, type }, "what was replaced or removed is closed");
  }
}

function nameOf({ opened }: ComponentInForce): string {
  return opened.resource.name;
}

/** Those that are the same stay in their places; the others come after them. */
function inOrder(
  before: readonly DeclaredSubscription[],
  after: readonly DeclaredSubscription[],
): readonly DeclaredSubscription[] {
  const same = before.flatMap((one) => after.find((other) => isSameSubscription(one, other)) ?? []);
  const others = after.filter((each) => !same.includes(each));
  return [...same, ...others];
}

function replace<T>(map: Map<string, T>, entries: Iterable<readonly [string, T]>): void {
  const all = [...entries];
  map.clear();
  for (const [name, value] of all) map.set(name, value);
}

function pipelineSources({ middlewares, settings }: SidecarConfiguration) {
  const { httpPipeline, appHttpPipeline } = settings;
  return { middlewares, httpPipeline, appHttpPipeline };
}

function pipelinesOf({ middlewares, settings }: SidecarConfiguration) {
  return {
    httpPipeline: pipelineOf(settings.httpPipeline, middlewares),
    appHttpPipeline: pipelineOf(settings.appHttpPipeline, middlewares),
  };
}
