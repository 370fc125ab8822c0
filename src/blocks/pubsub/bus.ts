/** A pub/sub component as the block sees it: what is the same for every broker. */
import { ConnectError } from "@connectrpc/connect";
import type { Outgoing as OutgoingMessage } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { fault, invalidRequest } from "../../faults.ts";
import type { Counter, Family, Histogram } from "../../telemetry/metrics.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { Span, TraceHeaders } from "../../telemetry/tracing.ts";
import type { Call } from "../call.ts";
import type { Connection } from "../connection.ts";
import { InFlight } from "../in-flight.ts";
import { settledOrAborted } from "../settled-or-aborted.ts";
import { TopicAccess } from "./access.ts";
import { DeadLetterRefused } from "./dead-letter-post.ts";
import {
  OrderConflict,
  type Outgoing,
  type PubSubDriver,
  type PubSubSupports,
  UnknownPosition,
} from "./driver.ts";
import { type InboxMemory, type InboxMemoryOf, InboxSubscription } from "./inbox.ts";
import { disagreement, type SharedOptions } from "./options.ts";
import { completeOutgoing } from "./outgoing.ts";
import type { PubSubSettings } from "./settings.ts";
import { type Consumer, Subscription } from "./subscription.ts";
import { Timestamps } from "./timestamps.ts";
import { isPattern, topicViolation } from "./topics.ts";
import { joinTroubles } from "./troubles.ts";

/** What a bus is made of. */
export interface BusOptions {
  readonly connection: Connection<PubSubDriver>;
  readonly settings: PubSubSettings;
  readonly telemetry: Telemetry;
  readonly appId: string;
  /** The largest data of an event, in bytes: what still fits in a message with its envelope. */
  readonly maxEventBytes: number;
  /** For subscriptions with an inbox. */
  readonly inboxMemoryOf: InboxMemoryOf;
}

/** What became of one entry of a publish. */
export interface PublishedEvent {
  readonly id: string;
  readonly position: string;
}

/** How long a client waits before it tries again, when the broker does not say, in milliseconds. */
const retryAfterMs = 1000;
/** How long a broker may take to hear that nothing is taken any more, in milliseconds. */
const pauseWithinMs = 2000;
/** Topics whose counters are kept at hand. */
const maxKnownTopics = 1000;

/** See the head of this file. */
export class Bus {
  readonly name: string;
  /** The group of subscriptions that name none. */
  readonly defaultGroup: string;
  /** The topic of subscriptions that name none, or "". */
  readonly subscribeTopic: string;
  /** The topic of publishes that name none, or "". */
  readonly publishTopic: string;
  readonly #options: BusOptions;
  readonly #access: TopicAccess;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #topics = new Map<string, { readonly published: Counter; readonly failed: Counter }>();
  readonly #published: Family<Counter, "component" | "topic" | "outcome">;
  readonly #duration: Histogram;
  readonly #publishing = new InFlight();
  readonly #times = new Timestamps();
  #broadcasts = 0;
  #overlaps = false;

  constructor(options: BusOptions) {
    const { connection, settings, telemetry, appId } = options;
    this.#options = options;
    this.name = connection.component;
    this.defaultGroup = settings.consumerGroup || settings.consumerID || appId;
    this.publishTopic = settings.publishTopic ?? "";
    const [topic = "", ...others] = settings.subscribeTopics ?? [];
    this.subscribeTopic = others.length === 0 ? topic : "";
    this.#access = new TopicAccess(this.name, appId, settings);
    this.#published = telemetry.metrics.counter(
      "outrider_pubsub_published_events_total",
      "Events published, by outcome.",
      ["component", "topic", "outcome"],
    );
    this.#duration = telemetry.metrics
      .histogram(
        "outrider_pubsub_publish_duration_seconds",
        "From a publish, of one event or many, to the broker's answer.",
        ["component"],
      )
      .with({ component: this.name });
  }

  /**
   * Publishes events to one topic, in order. One result for each entry: an error is a fault, and concerns
   * that entry alone. `path` names an entry in faults. Throws a fault when the topic or component is at fault.
   */
  async publish(
    named: string,
    entries: readonly (OutgoingMessage | undefined)[],
    path: (index: number) => string,
    trace: TraceHeaders,
    call: Call,
    options: { readonly anyExtensionName?: boolean; readonly ownTopic?: boolean | undefined } = {},
  ): Promise<readonly (PublishedEvent | ConnectError)[]> {
    const topic = named || this.publishTopic;
    const counters = this.#topic(topic, options.ownTopic);
    const driver = this.#options.connection.current();
    this.#overlaps = driver.overlaps ?? false;
    const { appId, maxEventBytes } = this.#options;
    const span = this.#startSpan(topic, entries.length, trace);
    const context = {
      appId,
      trace: span?.headers ?? trace,
      supports: driver.supports,
      times: this.#times,
      maxEventBytes,
      ...options,
    };
    const results: (PublishedEvent | ConnectError)[] = new Array(entries.length);
    const outgoing: Outgoing[] = [];
    const indexes: number[] = [];
    for (let i = 0; i < entries.length; i++) {
      try {
        outgoing.push(completeOutgoing(entries[i], path(i), context));
        indexes.push(i);
      } catch (error) {
        results[i] = ConnectError.from(error);
      }
    }
    const startedAt = performance.now();
    this.#publishing.begin();
    try {
      const answers = outgoing.length > 0 ? await driver.publish(topic, outgoing, call) : [];
      for (let n = 0; n < answers.length; n++) {
        const answer = answers[n]!;
        results[indexes[n]!] =
          answer instanceof Error
            ? this.translate(answer, driver, call)
            : { id: outgoing[n]!.event.id, position: answer.position };
      }
    } catch (error) {
      const translated = this.translate(error, driver, call);
      for (const index of indexes) results[index] = translated;
    } finally {
      this.#publishing.end();
    }
    this.#duration.observe((performance.now() - startedAt) / 1000);
    let failed = 0;
    for (const result of results) if (result instanceof ConnectError) failed += 1;
    if (failed > 0) counters.failed.add(failed);
    counters.published.add(results.length - failed);
    span?.end(failed > 0 ? results.find((result) => result instanceof ConnectError) : undefined);
    return results;
  }

  /** Counts as a publish that is under way until `release`: for who has events in hand and is about to publish them. */
  hold(): void {
    this.#publishing.begin();
  }

  /** Follows each `hold`. */
  release(): void {
    this.#publishing.end();
  }

  /** Checks that this application may open the subscription and the component can serve it. Throws a fault. */
  checkOpen(shared: SharedOptions): void {
    this.#access.checkSubscribe(shared.topic);
    if (shared.deadLetterTopic !== "") this.#access.checkPublish(shared.deadLetterTopic);
  }

  /**
   * Has a consumer join the group of a subscription, waiting for the component until the signal aborts.
   * Who asked is to `leave` in the end. Throws a fault.
   */
  async subscribe(shared: SharedOptions, consumer: Consumer, signal: AbortSignal): Promise<Subscription> {
    const driver = await this.#options.connection.ready(signal);
    this.#checkSupport(driver, shared);
    await this.#inboxMemory(shared)?.check(signal);
    const key =
      shared.group === undefined
        ? `broadcast\n${this.#broadcasts++}`
        : `group\n${shared.group}\n${shared.topic}`;
    for (;;) {
      const subscription = this.#subscriptions.get(key) ?? this.#create(key, shared);
      if (subscription.closing) {
        await subscription.close();
        continue;
      }
      const option = disagreement(subscription.options, shared);
      if (option && subscription.deserted) {
        await settledOrAborted(subscription.ended, signal);
        continue;
      }
      if (option) {
        throw fault(
          "SUBSCRIPTION_CONFLICT",
          `another stream of group "${shared.group}" has topic "${shared.topic}" open with another ${option}`,
          {
            metadata: { component: this.name, topic: shared.topic, group: shared.group ?? "", option },
          },
        );
      }
      try {
        await subscription.join(consumer, signal);
      } catch (error) {
        // Who waits no longer has not failed.
        if (!signal.aborted) await subscription.close();
        throw this.#openFault(error, shared) ?? this.translate(error, driver, { signal });
      }
      // Its last consumer may have left while this one waited.
      if (!subscription.closing) return subscription;
    }
  }

  /** The component's type, such as "pubsub.kafka". */
  get type(): string {
    return this.#options.connection.type;
  }

  /** `overlaps` of the driver that published last. */
  get overlaps(): boolean {
    return this.#overlaps;
  }

  /** What the broker can do. Waits for the component; throws COMPONENT_UNAVAILABLE when the signal aborts first. */
  async supports(signal: AbortSignal): Promise<PubSubSupports> {
    return (await this.#options.connection.ready(signal)).supports;
  }

  /** What is open now. */
  get subscriptions(): Iterable<Subscription> {
    return this.#subscriptions.values();
  }

  /** What an operator should know of its subscriptions, although the broker answers; "" when all is well. */
  get trouble(): string {
    return joinTroubles(Array.from(this.#subscriptions.values(), ({ trouble }) => trouble));
  }

  /** Stops taking events from the broker. */
  stopTaking(): void {
    for (const subscription of this.#subscriptions.values()) subscription.stopTaking();
  }

  /** Tells a broker that wants to know that nothing more will be taken. Never rejects. */
  async pause(): Promise<void> {
    if (this.#subscriptions.size === 0) return;
    const { connection, telemetry } = this.#options;
    try {
      await connection.current().pause?.({ signal: AbortSignal.timeout(pauseWithinMs) });
    } catch (err) {
      telemetry.log.debug({ component: this.name, err }, "the broker cannot be told that nothing is taken");
    }
  }

  /** Resolves when no publish is under way, and everybody has left and has settled what they held. */
  async idle(): Promise<void> {
    while (this.#subscriptions.size > 0)
      await Promise.all([...this.#subscriptions.values()].map(({ ended }) => ended));
    await this.#publishing.idle();
  }

  /** Leaves every group; what is not settled is given back. */
  async close(): Promise<void> {
    await Promise.all([...this.#subscriptions.values()].map((subscription) => subscription.close()));
  }

  /** The fault that an error of the driver becomes. */
  translate(error: unknown, driver: PubSubDriver, call: Call): ConnectError {
    if (error instanceof ConnectError) return error;
    const metadata = { component: this.name };
    switch (driver.classify(error)) {
      case "unavailable":
        return fault("COMPONENT_UNAVAILABLE", `pub/sub component "${this.name}" is not available`, {
          metadata,
          retryAfterMs,
          cause: error,
        });
      case "cancelled": {
        const late = call.signal.reason instanceof Error && call.signal.reason.name === "TimeoutError";
        return fault(late ? "DEADLINE_EXCEEDED" : "CANCELLED", "the call ended before the broker answered", {
          metadata,
          cause: error,
        });
      }
      default:
        return fault("COMPONENT_FAILED", `pub/sub component "${this.name}" failed`, {
          metadata,
          cause: error,
        });
    }
  }

  /** What the group has handled; undefined without an inbox. Throws COMPONENT_NOT_FOUND. */
  #inboxMemory({ inbox, group = "" }: SharedOptions): InboxMemory | undefined {
    return inbox && this.#options.inboxMemoryOf(inbox, { component: this.name, group });
  }

  #create(key: string, shared: SharedOptions): Subscription {
    const { topic, group, start, ordered, raw, metadata = {} } = shared;
    const { connection, telemetry } = this.#options;
    const memory = this.#inboxMemory(shared);
    const subscription: Subscription = new Subscription({
      component: this.name,
      options: shared,
      telemetry,
      deadLetterNonCloudEvents: this.#options.settings.nonCloudEvents === "deadLetter",
      openDriver: async (call) => {
        const driver = await connection.ready(call.signal);
        const opened = await driver.open({ topic, group, start, ordered, raw, metadata }, call);
        if (memory === undefined) return opened;
        return new InboxSubscription(opened, memory, () => subscription.metrics.outcome.duplicate.add());
      },
      isUnavailable: (error) =>
        !(error instanceof ConnectError) && connection.current().classify(error) === "unavailable",
      publishDeadLetter: (letter, call) => this.#publishDeadLetter(shared.deadLetterTopic, letter, call),
      onClosed: () => void this.#subscriptions.delete(key),
    });
    this.#subscriptions.set(key, subscription);
    return subscription;
  }

  #checkSupport(driver: PubSubDriver, { topic, group, ordered, start }: SharedOptions): void {
    const { supports } = driver;
    const onlyOwn = group === this.defaultGroup && start.at !== "latest";
    const lacking =
      (supports.groups === false && !onlyOwn && "groups") ||
      (ordered && !supports.ordering && "ordering") ||
      (isPattern(topic) && !supports.wildcards && "wildcards") ||
      (start.at === "time" && !supports.startAtTime && "start-at-time") ||
      (start.at === "position" && !supports.positions && "positions");
    if (!lacking) return;
    throw fault(
      "NOT_SUPPORTED",
      `pub/sub component "${this.name}" (${this.#options.connection.type}) has not the capability "${lacking}"`,
      {
        metadata: { component: this.name, capability: lacking },
      },
    );
  }

  /** The fault of an `open` that asks for what cannot be; undefined for any other error. */
  #openFault(error: unknown, { topic, group = "" }: SharedOptions): ConnectError | undefined {
    if (error instanceof UnknownPosition)
      return invalidRequest({ field: "open.start.position", description: "must be a position of the topic" });
    if (!(error instanceof OrderConflict)) return undefined;
    const text = `another sidecar has topic "${topic}" open for group "${group}" with another ordered`;
    return fault("SUBSCRIPTION_CONFLICT", text, {
      metadata: { component: this.name, topic, group, option: "ordered" },
    });
  }

  async #publishDeadLetter(topic: string, letter: Outgoing, call: Call): Promise<void> {
    const driver = this.#options.connection.current();
    try {
      const [answer] = await driver.publish(topic, [letter], call);
      if (answer instanceof Error) throw answer;
    } catch (error) {
      if (driver.classify(error) !== "refused") throw error;
      throw new DeadLetterRefused(this.translate(error, driver, call).rawMessage, { cause: error });
    }
  }

  /** Undefined without tracing, which then costs nothing. */
  #startSpan(topic: string, events: number, trace: TraceHeaders): Span | undefined {
    const { tracing } = this.#options.telemetry;
    if (!tracing.enabled) return undefined;
    return tracing.startSpan(`publish ${topic}`, "producer", trace, {
      "messaging.system": "outrider",
      "messaging.operation.type": "send",
      "messaging.operation.name": "publish",
      "messaging.destination.name": topic,
      "messaging.batch.message_count": events,
      "outrider.component": this.name,
    });
  }

  /** The counters of a topic, whose name and use are checked when it is new. Throws a fault. */
  #topic(topic: string, own = false): { readonly published: Counter; readonly failed: Counter } {
    const known = this.#topics.get(topic);
    if (known) return known;
    const description = topicViolation(topic) ?? (isPattern(topic) ? "must not be a pattern" : undefined);
    if (description) throw invalidRequest({ field: "topic", description });
    if (!own) this.#access.checkPublish(topic);
    const labels = { component: this.name, topic };
    const counters = {
      published: this.#published.with({ ...labels, outcome: "published" }),
      failed: this.#published.with({ ...labels, outcome: "failed" }),
    };
    // One that was not checked is not known as one that was.
    if (!own && this.#topics.size < maxKnownTopics) this.#topics.set(topic, counters);
    return counters;
  }
}
