/** An application that listens, from the wait for its port until the sidecar stops. */
import { connect } from "node:net";
import { backoffMs } from "../../../backoff.ts";
import type { Bus } from "../../../blocks/pubsub/bus.ts";
import { reasonOf } from "../../../faults.ts";
import { pause } from "../../../pause.ts";
import type { Policy } from "../../../resilience/policy.ts";
import type { Log } from "../../../telemetry/log.ts";
import type { DaprPubSubMetrics } from "../pubsub-metrics.ts";
import { keyOf, type Subscriptions } from "../subscriptions.ts";
import type { TopicSubscriptionSpec } from "../topic-subscription.ts";
import type { AppPipeline } from "./app-pipeline.ts";
import { AppSubscription } from "./app-subscription.ts";
import { type AppChannel, type AppOptions, AppUnreachable } from "./channel.ts";
import { Concurrency } from "./concurrency.ts";
import { AppHealth } from "./health.ts";

/** What the sidecar's side of an application is made of. */
export interface ApplicationOptions {
  readonly app: AppOptions;
  readonly subscriptions: Subscriptions;
  /** Undefined: there is no such component, now. */
  readonly busOf: (pubsubName: string) => Bus | undefined;
  /** What deliveries of a component are under, now. */
  readonly policyOf: (pubsubName: string) => Policy | undefined;
  readonly metrics: DaprPubSubMetrics;
  /** What requests to an application that speaks HTTP pass. */
  readonly pipeline: AppPipeline;
  readonly maxMessageBytes: number;
  readonly log: Log;
}

/** How often it is looked whether the port is open, in milliseconds. */
const portLookMs = 100;
const portTimeoutMs = 500;
/** How long it is waited until a subscription that could not be opened is tried again, in milliseconds. */
const reopenings = { firstMs: 500, lastMs: 30_000 };

/** See the head of this file. */
export class Application {
  readonly #options: ApplicationOptions;
  /** Undefined until its port is open. */
  #channel: AppChannel | undefined;
  readonly #concurrency: Concurrency;
  readonly #health: AppHealth | undefined;
  readonly #stopping = new AbortController();
  readonly #unhealthy: (() => void)[] = [];
  readonly #open = new Map<string, AppSubscription>();
  /** Closed as soon as the application has settled what it holds. */
  readonly #leaving = new Set<AppSubscription>();
  #discovered = false;
  #ready = false;
  #draining = false;

  constructor(options: ApplicationOptions) {
    const { app } = options;
    this.#options = options;
    this.#concurrency = new Concurrency(app.maxConcurrency);
    const probe = async (signal: AbortSignal) => (await this.#channel?.healthy(signal)) ?? false;
    this.#health = app.health && new AppHealth(app.health, probe, (healthy) => this.#changed(healthy));
  }

  /** Its port is open, it has said what it wants, and what it wants is open. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Events that it holds. */
  get inHand(): number {
    let events = 0;
    for (const each of [...this.#open.values(), ...this.#leaving]) events += each.inHand;
    return events;
  }

  /** Begins. Never rejects; ends with `close`. */
  async run(): Promise<void> {
    const { signal } = this.#stopping;
    const { log } = this.#options;
    try {
      await this.#discover(signal);
      this.#discovered = true;
      if (this.#health) void this.#health.run(signal);
      await this.reconcile();
      signal.throwIfAborted();
      this.#ready = true;
    } catch (err) {
      if (!signal.aborted) log.error({ err }, "the application cannot be called");
    }
  }

  /**
   * Opens what is wanted and not open, and closes what is not wanted any more: to be called when either has changed.
   * Resolves when what can be opened has been.
   */
  async reconcile(): Promise<void> {
    const wanted = new Map(
      this.#mayDeliver ? this.#options.subscriptions.wanted.map(({ spec }) => [keyOf(spec), spec]) : [],
    );
    for (const [key, open] of this.#open) {
      const spec = wanted.get(key);
      const same = spec && isSame(spec, open.spec) && this.#options.busOf(spec.pubsubName) === open.bus;
      if (!same) this.#leave(key, open);
    }
    const opening = [...wanted].filter(([key]) => !this.#open.has(key));
    await Promise.all(opening.map(([key, spec]) => this.#enter(key, spec)));
  }

  /** Takes no more events; the application still answers for those that it has. */
  drain(): void {
    this.#draining = true;
    for (const [key, open] of this.#open) this.#leave(key, open);
  }

  /** Resolves when it is found to be unhealthy; never without health checks. */
  unhealthy(): Promise<void> {
    if (this.#health && !this.#health.healthy) return Promise.resolve();
    return new Promise((resolve) => void this.#unhealthy.push(resolve));
  }

  /** Ends calls, and gives back what it holds. */
  close(): void {
    this.#draining = true;
    this.#stopping.abort();
    for (const each of [...this.#open.values(), ...this.#leaving]) each.close();
    this.#open.clear();
    this.#leaving.clear();
    this.#channel?.close();
  }

  get #mayDeliver(): boolean {
    return this.#discovered && !this.#draining && (this.#health?.healthy ?? true);
  }

  /** Waits for the application, and asks it what it wants; an application that goes away meanwhile is waited for again. */
  async #discover(signal: AbortSignal): Promise<void> {
    const { app, subscriptions, log } = this.#options;
    for (;;) {
      await portOpen(app, signal);
      const channel = this.#channel ?? (await makeChannel(this.#options));
      signal.throwIfAborted();
      this.#channel = channel;
      try {
        if (!app.skip.config) await channel.loadConfig(signal);
        if (!app.skip.subscribe) subscriptions.setListed(await channel.listSubscriptions(signal));
        log.info({ port: app.port, protocol: app.protocol }, "the application is there");
        return;
      } catch (err) {
        if (signal.aborted || !(err instanceof AppUnreachable)) throw err;
        log.debug({ err }, "the application does not answer yet");
        await pause(portLookMs, signal);
      }
    }
  }

  #changed(healthy: boolean): void {
    const { log } = this.#options;
    if (healthy) log.info("the application is healthy");
    else {
      log.warn("the application is unhealthy; it gets no events until it is healthy");
      for (const resolve of this.#unhealthy.splice(0)) resolve();
    }
    void this.reconcile();
  }

  /** Opens a subscription. One that cannot be opened now is tried again; one that may not be opened stays closed. */
  async #enter(key: string, spec: TopicSubscriptionSpec): Promise<void> {
    const { busOf, policyOf, metrics, log } = this.#options;
    const { pubsubName: component, topic } = spec;
    const bus = busOf(component);
    if (!bus) {
      log.warn({ component, topic }, "subscription without its component");
      return;
    }
    const channel = this.#channel;
    // It is asked what it wants before anything is delivered.
    if (!channel) return;
    const subscription = new AppSubscription({
      bus,
      spec,
      channel,
      concurrency: this.#concurrency,
      policy: () => policyOf(component),
      metrics,
      log,
    });
    this.#open.set(key, subscription);
    const isOpen = () => this.#open.get(key) === subscription;
    for (let attempt = 1; isOpen(); attempt += 1) {
      try {
        await subscription.open();
        return;
      } catch (err) {
        if (!isOpen()) return;
        const final = reasonOf(err) !== "COMPONENT_UNAVAILABLE" && reasonOf(err) !== "COMPONENT_FAILED";
        log.warn({ component, topic, err }, final ? "not subscribed" : "subscribing failed; trying again");
        if (final) return;
        await pause(backoffMs(attempt, reopenings), this.#stopping.signal);
      }
    }
  }

  #leave(key: string, subscription: AppSubscription): void {
    this.#open.delete(key);
    this.#leaving.add(subscription);
    void subscription.drain().then(() => {
      this.#leaving.delete(subscription);
      subscription.close();
    });
  }
}

/** Loads what speaks the application's protocol: most sidecars have no application that listens. */
async function makeChannel({ app, maxMessageBytes, pipeline, log }: ApplicationOptions): Promise<AppChannel> {
  if (/^grpc/.test(app.protocol)) {
    const { GrpcAppChannel } = await import("./grpc-channel.ts");
    return new GrpcAppChannel(app, maxMessageBytes, log);
  }
  const { HttpAppChannel } = await import("./http-channel.ts");
  return new HttpAppChannel(app, pipeline, maxMessageBytes, log);
}

/** Waits until something listens on the application's port, or the signal aborts. */
async function portOpen({ channelAddress: host, port }: AppOptions, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect({ host, port, timeout: portTimeoutMs });
      const end = (result: boolean) => {
        socket.destroy();
        resolve(result);
      };
      socket.once("connect", () => end(true));
      socket.once("timeout", () => end(false));
      socket.once("error", () => end(false));
    });
    if (open) return;
    await pause(portLookMs, signal);
  }
}

function isSame(one: TopicSubscriptionSpec, other: TopicSubscriptionSpec): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
