/** `outriderd`: a sidecar as daprd would have started it. */
import { setTimeout as delay } from "node:timers/promises";
import type { SidecarConfiguration } from "../../assembly.ts";
import { ConfigError, formatRemark } from "../../config/remarks.ts";
import { findDataDirectory } from "../../data-directory.ts";
import { PortUnavailable } from "../../ports.ts";
import { forcedStop, newInstanceId, type Runtime, startRuntime } from "../../runtime.ts";
import { createLog, type LogOptions } from "../../telemetry/log.ts";
import { type RunningTelemetry, startTelemetry } from "../../telemetry/telemetry.ts";
import { version } from "../../version.ts";
import { appOf } from "../app-options.ts";
import { restWhenIdle } from "../at-rest.ts";
import { CommandFailure, exitCodes, print, type Terminal } from "../terminal.ts";
import { tracingOptions } from "../tracing.ts";
import { Yaml } from "../yaml.ts";
import { type CommandLine, FlagError, flagNames, readCommandLine } from "./command-line.ts";
import { type DaprdFlags, readFlags } from "./flags.ts";
import { daprdLines } from "./log-lines.ts";
import { missedFlags } from "./unused-flags.ts";
import { waitUntilOutboundReady } from "./wait.ts";

/** What the answer to a forced shutdown gets to leave, in milliseconds, as in daprd. */
const lastAnswerMs = 100;

/** Runs until a signal or a client's wish, and returns the exit code. What goes wrong is in the log. */
export async function runDaprd(terminal: Terminal, words: readonly string[]): Promise<number> {
  if (words.some((word) => /^(--?help|-h)$/.test(word))) {
    await print(terminal, `Usage of outriderd:\n${flagNames.map((name) => `  --${name}\n`).join("")}`);
    return exitCodes.success;
  }
  let line: CommandLine;
  let flags: DaprdFlags;
  try {
    line = readCommandLine(words);
    if (line.flag("version", false) || line.flag("build-info", false)) {
      const text = line.flag("version", false) ? version : `Version: ${version}`;
      await print(terminal, `${text}\n`);
      return exitCodes.success;
    }
    flags = readFlags(line, terminal.env);
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    terminal.stderr.write(`outriderd: ${error.message}\n`);
    return exitCodes.failure;
  }
  if (line.flag("wait", false))
    return (await waitUntilOutboundReady(flags, terminal.interrupted))
      ? exitCodes.success
      : exitCodes.failure;
  return run(terminal, line, flags);
}

async function run(terminal: Terminal, line: CommandLine, flags: DaprdFlags): Promise<number> {
  const startedAt = performance.now();
  const instanceId = newInstanceId();
  let started: Runtime | undefined;
  // What has changed before it has started is noticed then.
  terminal.onHangup(() => void started?.reload("SIGHUP"));
  const early = createLog(logOptions(terminal, flags, instanceId, new Set()));
  early.info(`starting outriderd -- version ${version}`);
  for (const flag of line.unknown) early.warn({ flag }, "unknown flag, ignored");
  for (const { flag, why } of missedFlags(line)) early.warn({ flag }, `ignored: ${why}`);
  try {
    if (flags.appId === "") throw new CommandFailure("app-id parameter cannot be empty");
    const yaml = yamlOf(terminal, flags);
    const configuration = await configure(yaml);
    const telemetry = await observe(terminal, flags, yaml, configuration, instanceId);
    for (const remark of configuration.notes) telemetry.log.info(formatRemark(remark));
    const runtime = await startRuntime({
      ...runtimeOptions(terminal, flags, configuration, instanceId, telemetry),
      yaml,
    });
    started = runtime;
    for (const { name, address, port } of runtime.ports)
      telemetry.log.info(`${name} server listening on TCP address: ${hostOf(address)}:${port}`);
    return await liveAndStop(terminal, runtime, telemetry, startedAt);
  } catch (error) {
    if (error instanceof CommandFailure || error instanceof PortUnavailable) early.fatal(error.message);
    else early.fatal({ err: error }, "the sidecar cannot run");
    return exitCodes.failure;
  }
}

async function liveAndStop(
  terminal: Terminal,
  runtime: Runtime,
  telemetry: RunningTelemetry,
  startedAt: number,
): Promise<number> {
  const stop = AbortSignal.any([terminal.interrupted, runtime.stopRequested]);
  // Tools wait for this sentence.
  const tell = () => {
    const elapsedMs = Math.round(performance.now() - startedAt);
    telemetry.log.info(`dapr initialized. Status: Running. Init Elapsed ${elapsedMs}ms`);
  };
  void runtime.ready(stop).then(tell, () => {});
  restWhenIdle();
  if (!stop.aborted) await new Promise((resolve) => stop.addEventListener("abort", resolve, { once: true }));
  if (runtime.stopRequested.reason === forcedStop) {
    await delay(lastAnswerMs);
    return exitCodes.failure;
  }
  await runtime.stop(
    terminal.interrupted.aborted ? String(terminal.interrupted.reason) : "a client asked for it",
  );
  return exitCodes.success;
}

function runtimeOptions(
  terminal: Terminal,
  flags: DaprdFlags,
  configuration: SidecarConfiguration,
  instanceId: string,
  telemetry: RunningTelemetry,
): Parameters<typeof startRuntime>[0] {
  const { env } = terminal;
  return {
    appId: flags.appId,
    namespace: env["NAMESPACE"] || "default",
    instanceId,
    configuration,
    dataDirectory: findDataDirectory(terminal.workingDirectory, env["OUTRIDER_DATA_DIR"]),
    announced: false,
    listenAddresses: flags.listenAddresses,
    grpcPort: { port: flags.grpcPort, fixed: true },
    httpPort: { port: flags.httpPort, fixed: true },
    publicHttp: flags.publicHttp && { address: flags.publicHttp.address, port: fixed(flags.publicHttp.port) },
    internalGrpc: { address: flags.internalGrpc.address, port: fixed(flags.internalGrpc.port) },
    metrics:
      (flags.enableMetrics ?? configuration.settings.metrics.enabled)
        ? { address: flags.metrics.address, port: fixed(flags.metrics.port) }
        : undefined,
    limits: {
      maxMessageBytes: flags.maxBodyBytes,
      maxHeaderBytes: flags.maxHeaderBytes,
      ...(flags.maxConnectionIdleMs !== undefined && { maxConnectionIdleMs: flags.maxConnectionIdleMs }),
    },
    apiTokens: tokensOf(env),
    allowedOrigins: flags.allowedOrigins,
    graceMs: flags.graceMs,
    app: appOf(flags.app, env),
    blockShutdownMs: flags.app.daprBlockShutdownDuration,
    telemetry,
  };
}

function hostOf(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

function fixed(port: number) {
  return { port, fixed: true };
}

function yamlOf(terminal: Terminal, flags: DaprdFlags): Yaml {
  const { appId, configPaths, lookMs, resourcesPaths } = flags;
  return new Yaml({
    tolerant: true,
    resourcesPaths,
    configPaths,
    appId,
    environment: terminal.env,
    lookMs,
  });
}

async function configure(yaml: Yaml): Promise<SidecarConfiguration> {
  try {
    return await yaml.load();
  } catch (error) {
    throw error instanceof ConfigError ? new CommandFailure(error.format()) : error;
  }
}

function observe(
  terminal: Terminal,
  flags: DaprdFlags,
  { secrets }: Yaml,
  configuration: SidecarConfiguration,
  instanceId: string,
): Promise<RunningTelemetry> {
  const { apiLogging } = configuration.settings.logging;
  for (const token of tokensOf(terminal.env)) secrets.add(token);
  return startTelemetry({
    log: logOptions(terminal, flags, instanceId, secrets),
    tracing: tracingOptions(terminal, configuration.settings.tracing, { appId: flags.appId, instanceId }),
    callLog: (flags.enableApiLogging ?? apiLogging.enabled) ? apiLogging : undefined,
  });
}

function logOptions(
  terminal: Terminal,
  flags: DaprdFlags,
  instanceId: string,
  secrets: ReadonlySet<string>,
): LogOptions {
  return {
    level: flags.logLevel,
    format: "json",
    // Where daprd logs.
    destination: daprdLines(flags.logAsJson, { write: (line) => void terminal.stdout.write(line) }),
    secrets: () => secrets,
    base: { app_id: flags.appId, instance: instanceId },
  };
}

function tokensOf(env: Terminal["env"]): string[] {
  return [env["OUTRIDER_API_TOKEN"], env["DAPR_API_TOKEN"]].flatMap((token) => token || []);
}
