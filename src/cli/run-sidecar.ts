/** `outrider run`: a sidecar as a process, and perhaps an application beside it. */
import { basename, resolve } from "node:path";
import type { SidecarConfiguration } from "../assembly.ts";
import { ConfigError, formatRemark } from "../config/remarks.ts";
import { findDataDirectory } from "../data-directory.ts";
import { type PortChoice, PortUnavailable } from "../ports.ts";
import { newInstanceId, type Runtime, reachable, startRuntime } from "../runtime.ts";
import { type RunningTelemetry, startTelemetry } from "../telemetry/telemetry.ts";
import { type AppFlags, appOf } from "./app-options.ts";
import { restWhenIdle } from "./at-rest.ts";
import { readyScreen } from "./screen.ts";
import { CommandFailure, exitCodes, note, type Terminal } from "./terminal.ts";
import { tracingOptions } from "./tracing.ts";
import { Yaml } from "./yaml.ts";

/** The flags, as commander gives them. */
export interface RunOptions extends AppFlags {
  readonly appId?: string;
  readonly daprGrpcPort?: number;
  readonly daprHttpPort?: number;
  readonly metricsPort?: number;
  readonly metricsListenAddress: string;
  readonly enableMetrics?: boolean;
  readonly daprPublicPort?: number;
  readonly daprPublicListenAddress: string;
  readonly allowedOrigins?: readonly string[];
  readonly daprListenAddresses: string;
  readonly resourcesPath?: readonly string[];
  readonly d?: readonly string[];
  readonly componentsPath?: readonly string[];
  readonly config?: readonly string[];
  readonly maxBodySize?: number;
  readonly readBufferSize?: number;
  readonly daprGracefulShutdownSeconds: number;
  readonly hotReloadReconcileInterval?: number;
  readonly logLevel: "debug" | "info" | "warn" | "error" | "fatal";
  readonly logAsJson?: boolean;
  readonly enableApiLogging?: boolean;
  readonly dataDir?: string;
}

const defaultPorts = { grpc: 50001, http: 3500, metrics: 9090 } as const;
/** How long the start of the application, and the screen, wait for components that are not there, in milliseconds. */
const startWithinMs = 2000;
/** What an application that was killed may take to be gone, in milliseconds. */
const killedWithinMs = 1000;

/** Runs until a signal, the end of the application, or a client's wish. Returns the exit code. */
export async function runSidecar(
  terminal: Terminal,
  command: readonly string[],
  options: RunOptions,
): Promise<number> {
  let started: Runtime | undefined;
  // What has changed before it has started is noticed then.
  terminal.onHangup(() => void started?.reload("SIGHUP"));
  const appId = options.appId ?? appIdOf(terminal.workingDirectory);
  const instanceId = newInstanceId();
  const yaml = yamlOf(terminal, options, appId);
  const configuration = await configure(yaml);
  const telemetry = await observe(terminal, options, yaml, configuration, { appId, instanceId });
  for (const remark of configuration.notes) telemetry.log.info(formatRemark(remark));
  const dataDirectory = findDataDirectory(
    terminal.workingDirectory,
    options.dataDir ?? terminal.env["OUTRIDER_DATA_DIR"],
  );
  const runtime = await startRuntime({
    appId,
    namespace: terminal.env["NAMESPACE"] || "default",
    instanceId,
    configuration,
    yaml,
    dataDirectory,
    listenAddresses: options.daprListenAddresses.split(",").map((address) => address.trim()),
    grpcPort: choose(options.daprGrpcPort, defaultPorts.grpc),
    httpPort: choose(options.daprHttpPort, defaultPorts.http),
    metrics: metricsOf(options, configuration),
    publicHttp:
      options.daprPublicPort === undefined
        ? undefined
        : {
            address: options.daprPublicListenAddress,
            port: { port: options.daprPublicPort, fixed: true },
          },
    allowedOrigins: options.allowedOrigins,
    limits: {
      ...(options.maxBodySize === undefined ? {} : { maxMessageBytes: options.maxBodySize }),
      ...(options.readBufferSize === undefined ? {} : { maxHeaderBytes: options.readBufferSize }),
    },
    apiTokens: tokensOf(terminal),
    graceMs: options.daprGracefulShutdownSeconds,
    app: appOf(options, terminal.env),
    blockShutdownMs: options.daprBlockShutdownDuration,
    telemetry,
  }).catch((error: unknown) => {
    throw error instanceof PortUnavailable ? new CommandFailure(error.message) : error;
  });

  started = runtime;
  try {
    const open = await runtime
      .ready(AbortSignal.any([terminal.interrupted, AbortSignal.timeout(startWithinMs)]))
      .then(
        () => true,
        () => false,
      );
    if (options.logAsJson)
      telemetry.log.info(portsOf(runtime), open ? "ready" : "serving, and waiting for components");
    else
      note(
        terminal,
        readyScreen(
          {
            appId,
            program: terminal.program,
            configuration,
            dataDirectory,
            runtime,
            open,
            asked: askedPorts(options),
          },
          terminal.colorErr,
        ),
      );
    if (!open) void tellWhenReady(terminal, options, telemetry, runtime);
    restWhenIdle();
    return await liveAndStop(terminal, runtime, command, appId, options);
  } catch (error) {
    await runtime.stop("failure");
    throw error;
  }
}

/** What the screen could not say yet. */
async function tellWhenReady(
  terminal: Terminal,
  options: RunOptions,
  telemetry: RunningTelemetry,
  runtime: Runtime,
): Promise<void> {
  const ready = await runtime.ready(terminal.interrupted).then(
    () => true,
    () => false,
  );
  if (!ready) return;
  if (options.logAsJson) telemetry.log.info(portsOf(runtime), "ready");
  else note(terminal, "Ready.");
}

/** Waits for a reason to stop, and stops. */
async function liveAndStop(
  terminal: Terminal,
  runtime: Runtime,
  command: readonly string[],
  appId: string,
  options: RunOptions,
): Promise<number> {
  const signal = AbortSignal.any([terminal.interrupted, runtime.stopRequested]);
  if (command.length === 0) {
    await aborted(signal);
    await runtime.stop(reasonOf(terminal));
    return exitCodes.success;
  }
  const { Application } = await import("./application.ts");
  const application = await Application.start(terminal, {
    command,
    label: `[${appId}]`,
    env: environmentOf(runtime, appId, options),
  });
  terminal.onSecondSignal(() => application.kill());
  await Promise.race([aborted(signal), application.ended]);
  if (!signal.aborted) {
    const exitCode = await application.ended;
    await runtime.stop(`the application ended with ${exitCode}`);
    return exitCode;
  }
  // It is told at once, and has its calls served until it has ended or the grace is over.
  application.end(terminal.interrupted.reason === "SIGINT" ? "SIGINT" : "SIGTERM");
  const killer = setTimeout(() => application.kill(), options.daprGracefulShutdownSeconds);
  await runtime.stop(reasonOf(terminal), application.ended);
  const exitCode = await Promise.race([application.ended, after(killedWithinMs)]);
  clearTimeout(killer);
  return exitCode ?? exitCodes.failure;
}

function reasonOf({ interrupted }: Terminal): string {
  return interrupted.aborted ? String(interrupted.reason) : "a client asked for it";
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    else signal.addEventListener("abort", () => done(), { once: true });
  });
}

function after(ms: number): Promise<undefined> {
  return new Promise((done) => setTimeout(() => done(undefined), ms).unref());
}

function yamlOf(terminal: Terminal, options: RunOptions, appId: string): Yaml {
  const resourcesPaths = [options.resourcesPath, options.d, options.componentsPath].flatMap(
    (paths) => paths ?? [],
  );
  return new Yaml({
    resourcesPaths,
    configPaths: options.config ?? [],
    appId,
    environment: terminal.env,
    lookMs: options.hotReloadReconcileInterval,
  });
}

async function configure(yaml: Yaml): Promise<SidecarConfiguration> {
  try {
    return await yaml.load();
  } catch (error) {
    throw error instanceof ConfigError ? new CommandFailure(error.format(), exitCodes.usage) : error;
  }
}

async function observe(
  terminal: Terminal,
  options: RunOptions,
  { secrets }: Yaml,
  configuration: SidecarConfiguration,
  identity: { readonly appId: string; readonly instanceId: string },
): Promise<RunningTelemetry> {
  const { appId, instanceId } = identity;
  const { apiLogging } = configuration.settings.logging;
  for (const token of tokensOf(terminal)) secrets.add(token);
  return startTelemetry({
    log: {
      level: options.logLevel,
      format: options.logAsJson ? "json" : "pretty",
      destination: { write: (line) => void terminal.stderr.write(line) },
      color: terminal.colorErr,
      secrets: () => secrets,
      base: { app_id: appId, instance: instanceId },
    },
    tracing: tracingOptions(terminal, configuration.settings.tracing, identity),
    callLog: (options.enableApiLogging ?? apiLogging.enabled) ? apiLogging : undefined,
  });
}

function choose(asked: number | undefined, usual: number): PortChoice {
  return asked === undefined ? { port: usual, fixed: false } : { port: asked, fixed: true };
}

function metricsOf(options: RunOptions, configuration: SidecarConfiguration) {
  if (!(options.enableMetrics ?? configuration.settings.metrics.enabled)) return undefined;
  return { address: options.metricsListenAddress, port: choose(options.metricsPort, defaultPorts.metrics) };
}

/** Ports that nobody chose and that are not the usual ones, by name. */
function askedPorts(options: RunOptions) {
  return {
    grpc: options.daprGrpcPort ?? defaultPorts.grpc,
    http: options.daprHttpPort ?? defaultPorts.http,
    metrics: options.metricsPort ?? defaultPorts.metrics,
  };
}

function tokensOf({ env }: Terminal): string[] {
  const list = [env["OUTRIDER_API_TOKEN"], env["DAPR_API_TOKEN"]].flatMap((tokens) =>
    (tokens ?? "").split(","),
  );
  return list.map((token) => token.trim()).filter((token) => token !== "");
}

function portsOf(runtime: Runtime): Record<string, number | undefined> {
  const port = (name: string) => runtime.ports.find((each) => each.name === name)?.port;
  return { grpc_port: port("grpc"), http_port: port("http"), metrics_port: port("metrics") };
}

/** How an application finds its sidecar; SDKs of Dapr read the same. */
function environmentOf(runtime: Runtime, appId: string, { appPort }: RunOptions): Record<string, string> {
  const [grpc, http, metrics] = ["grpc", "http", "metrics"].map((name) =>
    runtime.ports.find((each) => each.name === name),
  );
  return {
    APP_ID: appId,
    ...(appPort ? { APP_PORT: String(appPort) } : {}),
    OUTRIDER_GRPC_PORT: String(grpc!.port),
    OUTRIDER_HTTP_PORT: String(http!.port),
    OUTRIDER_GRPC_ENDPOINT: `${reachable(grpc!.address)}:${grpc!.port}`,
    OUTRIDER_HTTP_ENDPOINT: `http://${reachable(http!.address)}:${http!.port}`,
    DAPR_GRPC_PORT: String(grpc!.port),
    DAPR_HTTP_PORT: String(http!.port),
    DAPR_GRPC_ENDPOINT: `${reachable(grpc!.address)}:${grpc!.port}`,
    DAPR_HTTP_ENDPOINT: `http://${reachable(http!.address)}:${http!.port}`,
    ...(metrics ? { DAPR_METRICS_PORT: String(metrics.port) } : {}),
  };
}

/** The name of a directory as an id: letters, digits, `-`, `_` and `.`. */
function appIdOf(directory: string): string {
  const name = basename(resolve(directory))
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "");
  return name || "app";
}
