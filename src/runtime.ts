/** Configuration in, a running sidecar out. Nothing here is global: several can run in one process. */
import { randomUUID } from "node:crypto";
import { ApiAccess } from "./api/access.ts";
import { DaprSide } from "./api/dapr/api.ts";
import type { AppOptions } from "./api/dapr/app/channel.ts";
import { type ComponentSummary, daprCapabilities } from "./api/dapr/metadata.ts";
import { nativeMounts } from "./api/native/services.ts";
import type { SidecarConfiguration } from "./assembly.ts";
import { SubscribeStreams } from "./blocks/pubsub/subscribe-streams.ts";
import type { ComponentView, ListeningPort } from "./blocks/runtime/sidecar-view.ts";
import type { LaterKind } from "./config/kinds/later.ts";
import { makeDataDirectory } from "./data-directory.ts";
import { endedWithin } from "./ended-within.ts";
import { listenOn, type PortChoice } from "./ports.ts";
import { Reload, type YamlSource } from "./reload/reload.ts";
import { ResourcesInForce } from "./resources/in-force.ts";
import { startGrpcServer } from "./server/grpc.ts";
import { healthMount } from "./server/health.ts";
import { startHttpServer } from "./server/http.ts";
import type { HttpRoutes } from "./server/http-route.ts";
import type { Limits } from "./server/limits.ts";
import type { Listening } from "./server/listening.ts";
import { startMetricsServer } from "./server/metrics.ts";
import type { LateMount, Mount } from "./server/mount.ts";
import { Readiness } from "./server/readiness.ts";
import { reflectionMounts } from "./server/reflection.ts";
import { announceSidecar } from "./sidecars.ts";
import { subscriptionViews } from "./subscription-views.ts";
import type { RunningTelemetry } from "./telemetry/telemetry.ts";
import { version } from "./version.ts";

/** What a sidecar is made of. */
export interface RuntimeOptions {
  readonly appId: string;
  /** For `keyPrefix: namespace`. */
  readonly namespace: string;
  /** Another for every start. */
  readonly instanceId: string;
  readonly configuration: SidecarConfiguration;
  /** Where it is from, so that changes of it are noticed. Undefined: it stays what it is. */
  readonly yaml?: YamlSource | undefined;
  /** Absolute. Made if need be. */
  readonly dataDirectory: string;
  /** Where gRPC and HTTP are served; at least one. */
  readonly listenAddresses: readonly string[];
  readonly grpcPort: PortChoice;
  readonly httpPort: PortChoice;
  /** Where health and metadata alone are served over HTTP, without a token. Undefined: nowhere. */
  readonly publicHttp?: { readonly address: string; readonly port: PortChoice } | undefined;
  /** Where other sidecars may connect. Nothing is served there yet. Undefined: nowhere. */
  readonly internalGrpc?: { readonly address: string; readonly port: PortChoice } | undefined;
  /** Origins whose pages may call over HTTP. Undefined: none. */
  readonly allowedOrigins?: readonly string[] | undefined;
  /**
   * False: commands do not find this sidecar by its id, and there is no data directory unless a component
   * keeps data in it. Default true.
   */
  readonly announced?: boolean;
  /** Undefined: metrics are not served. */
  readonly metrics: { readonly address: string; readonly port: PortChoice } | undefined;
  /** What differs from the defaults. */
  readonly limits: Partial<Limits>;
  /** Empty: everyone who reaches the ports may call. */
  readonly apiTokens: readonly string[];
  /** How long stopping waits for what is in flight, in milliseconds. */
  readonly graceMs: number;
  /** An application that listens, for Dapr's API; undefined: none does. */
  readonly app?: AppOptions | undefined;
  /**
   * How long stopping goes on serving calls when nothing is delivered any more, in milliseconds, unless the
   * application is found to be unhealthy before. Undefined: not at all.
   */
  readonly blockShutdownMs?: number | undefined;
  /** Closed when the sidecar has stopped. */
  readonly telemetry: RunningTelemetry;
}

/** A sidecar that runs. */
export interface Runtime {
  readonly instanceId: string;
  readonly ports: readonly Listening[];
  /** Resolves when every component that must be there can serve. Rejects when the signal aborts first. */
  ready(signal: AbortSignal): Promise<void>;
  /** Reads the YAML again, and puts it into force if all of it is sound; the log says what came of it. */
  reload(reason: string): Promise<void>;
  /** Aborts when a client asks the sidecar to stop, which is the caller's to do. Its reason may be `forcedStop`. */
  readonly stopRequested: AbortSignal;
  /**
   * Stops: takes nothing new from brokers, has streams drain, and waits for what is in
   * flight, and for `until`, at most the grace period. Calls out of the
   * application are served meanwhile. The second call waits for the first.
   */
  stop(reason: string, until?: Promise<unknown>): Promise<void>;
}

/** Why `Runtime.stopRequested` aborts when a client of Dapr's API wants the process to end at once. */
export const forcedStop = "a client asked for it, by force";

/** Data of an event may be so much shorter than a message: room for its attributes, in bytes. */
const eventEnvelopeBytes = 64 * 1024;
/** What calls get to finish by themselves when the ports close, in milliseconds, before their signals abort. */
const callGraceMs = 300;
/** What calls get after that, in milliseconds. */
const abortedCallGraceMs = 1000;
/** How long spans may take to be sent at the end, in milliseconds. */
const flushWithinMs = 2000;
/** How often it is looked whether the streams have ended, in milliseconds. */
const drainLookMs = 10;

/**
 * Starts a sidecar. It resolves when the ports listen; components open
 * meanwhile. Throws PortUnavailable; then nothing is left running.
 */
export async function startRuntime(options: RuntimeOptions): Promise<Runtime> {
  const sidecar = new Sidecar(options);
  await sidecar.start();
  return sidecar;
}

class Sidecar implements Runtime {
  readonly instanceId: string;
  readonly #options: RuntimeOptions;
  readonly #startedAtMs = Date.now();
  readonly #readiness = new Readiness();
  readonly #resources: ResourcesInForce;
  readonly #reload: Reload;
  readonly #streams: SubscribeStreams;
  readonly #dapr: DaprSide;
  readonly #mounts: readonly (Mount | LateMount)[];
  readonly #routes: readonly HttpRoutes[];
  readonly #stopRequested = new AbortController();
  readonly #callsMustEnd = new AbortController();
  #ports: readonly Listening[] = [];
  #withdraw: () => Promise<void> = () => Promise.resolve();
  #stopping: Promise<void> | undefined;

  constructor(options: RuntimeOptions) {
    const { appId, configuration, instanceId, limits, namespace, telemetry } = options;
    this.#options = options;
    this.instanceId = instanceId;
    const common = { telemetry, appId };
    const maxMessageBytes = limits.maxMessageBytes ?? 4 * 1024 * 1024;
    const resources = new ResourcesInForce(configuration, {
      ...common,
      instanceId,
      namespace,
      dataDirectory: options.dataDirectory,
      maxEventBytes: maxMessageBytes - eventEnvelopeBytes,
      onChange: () => this.#updateReadiness(),
    });
    this.#resources = resources;
    this.#reload = new Reload({
      ...common,
      source: options.yaml,
      watch: configuration.settings.hotReload,
      resources,
      follow: () => Promise.all([this.#streams.reconcile(), this.#dapr.reconcile()]),
      applied: () => this.#dapr.show(),
    });
    this.#streams = new SubscribeStreams(telemetry);
    const shown = () => resources.shown.configuration;
    const named = (kind: LaterKind) =>
      shown().others.flatMap((each) => (each.kind === kind ? each.name : []));
    this.#dapr = new DaprSide({
      ...common,
      version,
      stores: resources.stores,
      buses: resources.buses,
      secretStores: resources.secretStores,
      secretScopes: () => resources.configuration.settings.secretScopes,
      enabledFeatures: configuration.settings.features,
      metadata: {
        components: () => summariesOf(resources),
        httpEndpoints: () => named("HTTPEndpoint"),
        resiliencies: () => named("Resiliency"),
        refusedChange: () => (this.#reload.last?.places ?? []).join("; "),
      },
      declared: resources.declared,
      inboundPolicyOf: (name) => resources.inboundPolicyOf(name),
      // Dapr's metrics have what the environment says, and it says nothing by default.
      namespace: namespace === "default" ? "" : namespace,
      app: options.app,
      appPipeline: () => resources.pipeline("appHttpPipeline"),
      maxMessageBytes,
      recordErrorCodes: configuration.settings.metrics.recordErrorCodes ?? false,
      outboundReady: () => this.#readiness.ready,
      shutdown: (force) => this.#stopRequested.abort(force ? forcedStop : undefined),
    });
    this.#routes = [this.#dapr.routes];
    const { busOf, declared, storeOf } = resources;
    const blocks = [
      ...nativeMounts({
        state: { storeOf, maxMessageBytes },
        pubsub: { busOf, declared, streams: this.#streams, telemetry },
        sidecar: this.#view(),
      }),
      this.#dapr.service,
    ];
    const served = [...blocks, healthMount(this.#readiness, blocks)];
    this.#mounts = [...served, ...reflectionMounts(served)];
  }

  get ports(): readonly Listening[] {
    return this.#ports;
  }

  get stopRequested(): AbortSignal {
    return this.#stopRequested.signal;
  }

  async start(): Promise<void> {
    const { dataDirectory, telemetry } = this.#options;
    // A component that keeps data there makes it all the same.
    if (this.#announced)
      await makeDataDirectory(dataDirectory).catch((err) =>
        telemetry.log.warn({ err, dataDirectory }, "the data directory cannot be made"),
      );
    // Components open side by side, each in its own time, while the ports are being opened.
    this.#resources.start();
    try {
      this.#ports = await this.#listen();
    } catch (error) {
      await this.#resources.close();
      throw error;
    }
    this.#updateReadiness();
    this.#dapr.start();
    this.#reload.start();
    if (this.#announced) await this.#announce();
  }

  get #announced(): boolean {
    return this.#options.announced ?? true;
  }

  async ready(signal: AbortSignal): Promise<void> {
    await this.#resources.ready(signal);
  }

  reload(reason: string): Promise<void> {
    return this.#reload.run(reason);
  }

  stop(reason: string, until: Promise<unknown> = Promise.resolve()): Promise<void> {
    this.#stopping ??= this.#stop(reason, until);
    return this.#stopping;
  }

  async #listen(): Promise<Listening[]> {
    const { allowedOrigins, apiTokens, configuration, grpcPort, httpPort, limits, listenAddresses } =
      this.#options;
    const { internalGrpc, metrics, publicHttp, telemetry } = this.#options;
    const { api } = configuration.settings;
    const shutdownSignal = this.#callsMustEnd.signal;
    const bare = { mounts: [], limits, telemetry, shutdownSignal };
    const common = { ...bare, apiTokens };
    const [overGrpc, overHttp] = [new ApiAccess(api, "grpc"), new ApiAccess(api, "http")];
    const ready = () => this.#readiness.ready;
    const all: Listening[] = [];
    try {
      const grpc = (host: string, port: number) =>
        startGrpcServer({ ...common, mounts: overGrpc.mounts(this.#mounts), host, port });
      all.push(...(await listenOn("gRPC", grpcPort, listenAddresses, grpc)));
      const mounts = overHttp.mounts(this.#mounts);
      const routes = this.#routes.map((each) => overHttp.routes(each));
      const pipeline = () => this.#resources.pipeline("httpPipeline");
      const http = (host: string, port: number) =>
        startHttpServer({ ...common, mounts, host, port, ready, routes, pipeline, allowedOrigins });
      all.push(...(await listenOn("HTTP", httpPort, listenAddresses, http)));
      if (publicHttp) {
        const open = (host: string, port: number) =>
          startHttpServer({ ...bare, name: "public", host, port, ready, routes: [this.#dapr.publicRoutes] });
        all.push(...(await listenOn("public HTTP", publicHttp.port, [publicHttp.address], open)));
      }
      if (internalGrpc) {
        const open = (host: string, port: number) =>
          startGrpcServer({ ...bare, name: "internal", host, port });
        all.push(...(await listenOn("internal gRPC", internalGrpc.port, [internalGrpc.address], open)));
      }
      if (metrics) {
        const scrape = (host: string, port: number) => startMetricsServer({ host, port, telemetry });
        all.push(...(await listenOn("metrics", metrics.port, [metrics.address], scrape)));
      }
      return all;
    } catch (error) {
      await Promise.all(all.map((port) => port.close(0)));
      throw error;
    }
  }

  /**
   * Not ready; nothing more from brokers; streams are asked to end. What is in flight has the grace period, in which
   * calls are still served; what is left then is given back, and whatever is still open is closed.
   */
  async #stop(reason: string, until: Promise<unknown>): Promise<void> {
    const { graceMs, telemetry } = this.#options;
    await this.#block(reason);
    const deadlineMs = Date.now() + graceMs;
    telemetry.log.info({ reason, graceMs }, "stopping");
    this.#readiness.set(false);
    await this.#withdraw();
    await this.#reload.stop();
    this.#resources.stopTaking();
    this.#streams.drain(deadlineMs);
    this.#dapr.drain();
    await Promise.all([this.#drained(deadlineMs), endedWithin(until, deadlineMs - Date.now())]);
    for (const stream of this.#streams) stream.giveBack();
    this.#dapr.close();
    const calls = setTimeout(() => this.#callsMustEnd.abort(), callGraceMs);
    await Promise.all([
      ...this.#ports.map((port) => port.close(callGraceMs + abortedCallGraceMs)),
      this.#resources.leaveGroups(),
    ]);
    clearTimeout(calls);
    // Only now can no transaction follow.
    await this.#resources.close();
    telemetry.log.info({ reason }, "stopped");
    await telemetry.close(flushWithinMs);
  }

  /** With `blockShutdownMs`: Dapr's consumers get nothing more, and calls are served for a while. */
  async #block(reason: string): Promise<void> {
    const { blockShutdownMs, graceMs, telemetry } = this.#options;
    if (blockShutdownMs === undefined) return;
    telemetry.log.info({ reason, blockShutdownMs }, "nothing is delivered any more; calls are still served");
    this.#dapr.drain();
    // A broker serves everybody or nobody.
    if (this.#streams.size === 0) void this.#resources.pause();
    // What is in flight does not count as time of the block.
    const settledBy = Date.now() + Math.max(blockShutdownMs, graceMs);
    while (this.#dapr.busy > 0 && Date.now() < settledBy) {
      await new Promise((resolve) => setTimeout(resolve, drainLookMs));
    }
    const unhealthy = this.#dapr.application?.unhealthy() ?? new Promise<void>(() => {});
    await endedWithin(unhealthy, blockShutdownMs);
  }

  /** Waits until no stream is open. Streams do not tell when they end, so it is looked from time to time. */
  async #drained(deadlineMs: number): Promise<void> {
    const open = () => this.#streams.size + this.#dapr.busy;
    while (open() > 0 && Date.now() < deadlineMs) {
      await new Promise((resolve) => setTimeout(resolve, drainLookMs));
    }
  }

  #updateReadiness(): void {
    this.#readiness.set(this.#stopping === undefined && this.#resources.allowReady);
  }

  async #announce(): Promise<void> {
    const { appId, dataDirectory, telemetry } = this.#options;
    const port = (name: Listening["name"]) => this.#ports.find((each) => each.name === name);
    const metricsPort = port("metrics")?.port;
    try {
      this.#withdraw = await announceSidecar(dataDirectory, {
        appId,
        instanceId: this.instanceId,
        pid: process.pid,
        startedAtMs: this.#startedAtMs,
        grpcAddress: reachable(port("grpc")!.address),
        grpcPort: port("grpc")!.port,
        httpPort: port("http")!.port,
        ...(metricsPort === undefined ? {} : { metricsPort }),
      });
    } catch (err) {
      // Commands will have to be told the port; nothing else depends on it.
      telemetry.log.debug({ err, dataDirectory }, "the sidecar cannot be announced in the data directory");
    }
  }

  #view() {
    const { appId, dataDirectory } = this.#options;
    const resources = this.#resources;
    return {
      appId,
      version,
      instanceId: this.instanceId,
      startedAtMs: this.#startedAtMs,
      dataDirectory: () => (resources.useDataDirectory ? dataDirectory : ""),
      ports: (): readonly ListeningPort[] => this.#ports,
      components: () =>
        resources.shown.components.map(({ opened: { view } }) => ({
          ...view,
          trouble: () => resources.buses.get(view.name)?.trouble ?? "",
        })),
      subscriptions: () =>
        subscriptionViews(resources.buses.values(), resources.declared.values(), this.#streams),
      subscribeStreams: () => this.#streams.size,
      lastReload: () => this.#reload.last,
      shutdown: () => this.#stopRequested.abort(),
    };
  }
}

/** An id for a start of a sidecar. */
export function newInstanceId(): string {
  return randomUUID().slice(0, 8);
}

/** For Dapr's metadata: also those that nobody opens. */
function summariesOf({ shown }: ResourcesInForce): readonly ComponentSummary[] {
  const { middlewares, secretStoreComponents } = shown.configuration;
  return [
    ...shown.components.map(({ opened }) => summaryOf(opened.view)),
    ...[...secretStoreComponents, ...middlewares].map(withoutCapabilities),
  ];
}

function summaryOf({ name, type, version: componentVersion, capabilities }: ComponentView): ComponentSummary {
  return { name, type, version: componentVersion, capabilities: daprCapabilities(type, capabilities()) };
}

function withoutCapabilities({ name, type, version: own }: { name: string; type: string; version: string }) {
  return { name, type, version: own, capabilities: [] };
}

/** Where a client on this host reaches a server that listens there. */
export function reachable(address: string): string {
  if (address === "0.0.0.0") return "127.0.0.1";
  if (address === "::") return "[::1]";
  return address.includes(":") ? `[${address}]` : address;
}
