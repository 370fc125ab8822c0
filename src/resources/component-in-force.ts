/** A component that is in force: its driver, and what its block makes of it. */
import type { Schemas } from "../assembly.ts";
import { Bus, type BusOptions } from "../blocks/pubsub/bus.ts";
import { publishingUnderPolicy } from "../blocks/pubsub/under-policy.ts";
import { encryptedConnection, encryptionKeysOf } from "../blocks/state/encryption.ts";
import { Outbox } from "../blocks/state/outbox.ts";
import type { OutboxTarget } from "../blocks/state/outbox-note.ts";
import type { PublishEvents } from "../blocks/state/outbox-publisher.ts";
import type { StateSettings } from "../blocks/state/settings.ts";
import { StateStore } from "../blocks/state/store.ts";
import { stateUnderPolicy } from "../blocks/state/under-policy.ts";
import { OpenedComponent, type OpenedOptions } from "../components/opened.ts";
import type { ComponentResource, ComponentResourceOf } from "../config/components.ts";
import type { Policy } from "../resilience/policy.ts";

/** What is the same for every component of a sidecar. */
export interface InForceOptions extends OpenedOptions {
  /** For `keyPrefix: namespace`. */
  readonly namespace: string;
  /** The largest data of an event, in bytes. */
  readonly maxEventBytes: number;
  /** What applies to the calls of a component at the moment. */
  readonly policyOf: (resource: ComponentResource<Schemas>) => Policy | undefined;
  readonly inboxMemoryOf: BusOptions["inboxMemoryOf"];
  /** Publishes to a component that is found anew for each call. */
  readonly publish: PublishEvents;
}

/** How long publishing what transactions have left may take at the end, in milliseconds; the next start does the rest. */
const outboxGraceMs = 1000;

/** One of either block. */
export type ComponentInForce = StateInForce | PubSubInForce;

/** Makes one of a resource. Opens nothing yet. */
export function inForce(resource: ComponentResource<Schemas>, options: InForceOptions): ComponentInForce {
  return resource.block === "state"
    ? new StateInForce(resource, options)
    : new PubSubInForce(resource, options);
}

/** A state store. */
export class StateInForce {
  readonly opened: OpenedComponent<"state">;
  readonly store: StateStore;
  readonly #outbox: Outbox | undefined;

  constructor(resource: ComponentResourceOf<"state", Schemas>, options: InForceOptions) {
    const settings = resource.blockSettings;
    this.opened = new OpenedComponent(resource, options);
    const keys = encryptionKeysOf(settings);
    const guarded = stateUnderPolicy(this.opened.connection, () => options.policyOf(resource));
    const connection = keys ? encryptedConnection(guarded, keys) : guarded;
    const target = outboxTarget(settings);
    const announceTo = target && announcementTarget(settings, options.appId);
    this.#outbox = target && new Outbox({ ...options, connection, target, announceTo });
    this.store = new StateStore({
      ...options,
      connection,
      settings,
      ...(this.#outbox && { outbox: this.#outbox }),
    });
  }

  /** Begins to publish what transactions leave, when `turn` resolves; it never rejects. */
  begin(turn?: Promise<void>): void {
    this.#outbox?.start(turn);
  }

  /** There is another in its place, or none. Resolves when what is under way has ended. */
  async retire(): Promise<void> {
    await this.store.retire();
    await this.#outbox?.close(new AbortController().signal);
  }

  /** The sidecar stops, and no transaction can follow: publishes what there is time for. */
  async finish(): Promise<void> {
    await this.#outbox?.close(AbortSignal.timeout(outboxGraceMs));
  }
}

/** A pub/sub component. */
export class PubSubInForce {
  readonly opened: OpenedComponent<"pubsub">;
  readonly bus: Bus;

  constructor(resource: ComponentResourceOf<"pubsub", Schemas>, options: InForceOptions) {
    this.opened = new OpenedComponent(resource, options);
    const connection = publishingUnderPolicy(this.opened.connection, () => options.policyOf(resource));
    this.bus = new Bus({ ...options, connection, settings: resource.blockSettings });
  }

  begin(_turn?: Promise<void>): void {}

  /** There is another in its place, or none. Resolves when everybody has left and settled, and publishes have ended. */
  retire(): Promise<void> {
    return this.bus.idle();
  }

  /** The sidecar stops: leaves every group, and what is not settled is given back. */
  finish(): Promise<void> {
    return this.bus.close();
  }
}

/** Where the events of a store's transactions go; undefined: nowhere. */
function outboxTarget({ outboxPublishPubsub, outboxPublishTopic }: StateSettings): OutboxTarget | undefined {
  if (!outboxPublishPubsub || !outboxPublishTopic) return undefined;
  return { component: outboxPublishPubsub, topic: outboxPublishTopic };
}

/** Where transactions are announced; undefined: nowhere. daprd's own name for the topic is another: it waits for what it reads there. */
function announcementTarget(settings: StateSettings, appId: string): OutboxTarget | undefined {
  const { outboxPubsub, outboxInternalTopic } = settings;
  if (!outboxPubsub) return undefined;
  const topic = outboxInternalTopic || `${appId}-outbox-announcements`;
  return { component: outboxPubsub, topic, ownTopic: true };
}
