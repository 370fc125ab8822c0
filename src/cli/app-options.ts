/** Flags about an application that listens, as daprd has them. */
import { InvalidArgumentError, Option } from "commander";
import type { AppOptions, AppProtocol } from "../api/dapr/app/channel.ts";
import { commaSeparated, durationMs, onOff, portNumber, wholeNumber } from "./options.ts";

/** The flags, as commander gives them. */
export interface AppFlags {
  readonly appPort?: number;
  readonly appProtocol: AppProtocol;
  readonly appSsl?: boolean;
  readonly appChannelAddress: string;
  readonly appMaxConcurrency: number;
  readonly enableAppHealthCheck?: boolean;
  readonly appHealthCheckPath: string;
  readonly appHealthProbeInterval: number;
  readonly appHealthProbeTimeout: number;
  readonly appHealthThreshold: number;
  readonly disableInitEndpoints?: readonly string[];
  readonly daprBlockShutdownDuration?: number;
}

const group = "Application that listens:";
const protocols: readonly AppProtocol[] = ["http", "https", "h2c", "grpc", "grpcs"];
/** As in Dapr; a flag of 0 means the same. */
const defaultHealth = { intervalSeconds: 5, timeoutMs: 500, threshold: 3 } as const;

/** The options for a command. */
export function appOptions(): Option[] {
  return [
    new Option(
      "-p, --app-port <port>",
      "port that the application listens on, for events to be delivered to",
    ).argParser(portNumber),
    new Option("--app-protocol <protocol>", `how it is spoken to: ${protocols.join(", ")}`)
      .argParser(protocol)
      .default("http"),
    new Option("--app-ssl [on]", "the same with TLS").argParser(onOff).preset("true").hideHelp(),
    new Option("--app-channel-address <address>", "address that it listens on").default("127.0.0.1"),
    new Option("--app-max-concurrency <count>", "deliveries that it has at once (default: any number)")
      .argParser(anyWhole)
      .default(-1, "-1"),
    new Option("--enable-app-health-check [on]", "deliver only while it says that it is healthy")
      .argParser(onOff)
      .preset("true"),
    new Option("--app-health-check-path <path>", "where it says so, with HTTP").default("/healthz"),
    new Option("--app-health-probe-interval <seconds>", "how often it is asked")
      .argParser(wholeNumber(0))
      .default(defaultHealth.intervalSeconds),
    new Option("--app-health-probe-timeout <ms>", "how long it may take to answer")
      .argParser(wholeNumber(0))
      .default(defaultHealth.timeoutMs),
    new Option("--app-health-threshold <count>", "failures in a row until it counts as unhealthy")
      .argParser(wholeNumber(0))
      .default(defaultHealth.threshold),
    new Option(
      "--disable-init-endpoints <list>",
      "what it is not asked at the start: config, subscribe",
    ).argParser(endpoints),
    new Option(
      "--dapr-block-shutdown-duration <duration>",
      "how long stopping goes on serving calls without delivering anything",
    ).argParser(durationMs),
  ].map((option) => option.helpGroup(group));
}

/** What the flags and the environment say of the application; undefined when none listens. */
export function appOf(
  flags: AppFlags,
  env: Readonly<Record<string, string | undefined>>,
): AppOptions | undefined {
  if (!flags.appPort) return undefined;
  const skipped = new Set(flags.disableInitEndpoints ?? []);
  return {
    port: flags.appPort,
    protocol: flags.appSsl ? (secured[flags.appProtocol] ?? flags.appProtocol) : flags.appProtocol,
    channelAddress: flags.appChannelAddress || "127.0.0.1",
    maxConcurrency: flags.appMaxConcurrency,
    token: env["APP_API_TOKEN"] ?? "",
    health: flags.enableAppHealthCheck
      ? {
          path: flags.appHealthCheckPath || "/healthz",
          intervalMs: (flags.appHealthProbeInterval || defaultHealth.intervalSeconds) * 1000,
          timeoutMs: flags.appHealthProbeTimeout || defaultHealth.timeoutMs,
          threshold: flags.appHealthThreshold || defaultHealth.threshold,
        }
      : undefined,
    skip: { config: skipped.has("config"), subscribe: skipped.has("subscribe") },
  };
}

const secured: Partial<Record<AppProtocol, AppProtocol>> = { http: "https", grpc: "grpcs" };

function protocol(value: string): AppProtocol {
  const found = protocols.find((each) => each === value.toLowerCase());
  if (found) return found;
  throw new InvalidArgumentError(`Expected one of ${protocols.join(", ")}.`);
}

function anyWhole(value: string): number {
  if (/^-?\d+$/.test(value)) return Number(value);
  throw new InvalidArgumentError("Expected a whole number.");
}

function endpoints(value: string): string[] {
  return commaSeparated(value.toLowerCase());
}
