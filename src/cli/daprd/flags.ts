/** What daprd's flags mean here, with daprd's defaults. */
import { parseByteSize, parseDurationMs } from "../../config/fields.ts";
import { type LogLevel, logLevels } from "../../telemetry/log.ts";
import type { AppFlags } from "../app-options.ts";
import { commaSeparated } from "../options.ts";
import { type CommandLine, FlagError, type FlagName } from "./command-line.ts";

/** An address, and a port. */
export interface Endpoint {
  /** "" for every address of this host. */
  readonly address: string;
  /** 0 for a free one. */
  readonly port: number;
}

/** The flags that have a meaning. */
export interface DaprdFlags {
  /** "" when none is given. */
  readonly appId: string;
  readonly app: AppFlags;
  readonly resourcesPaths: readonly string[];
  readonly configPaths: readonly string[];
  readonly listenAddresses: readonly string[];
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly internalGrpc: Endpoint;
  /** Undefined: none is served. */
  readonly publicHttp: Endpoint | undefined;
  readonly metrics: Endpoint;
  /** Undefined: as the configuration has it. */
  readonly enableMetrics: boolean | undefined;
  readonly maxBodyBytes: number;
  readonly maxHeaderBytes: number;
  /** Undefined: the server's default. */
  readonly maxConnectionIdleMs: number | undefined;
  /** Undefined: no browser of another origin is let in. */
  readonly allowedOrigins: readonly string[] | undefined;
  readonly graceMs: number;
  /** How often it is looked for changes of the YAML that the platform does not tell of. Undefined: the default. */
  readonly lookMs: number | undefined;
  /** Undefined: as the configuration has it. */
  readonly enableApiLogging: boolean | undefined;
  readonly logLevel: LogLevel;
  readonly logAsJson: boolean;
}

const defaultPorts = { http: 3500, grpc: 50001, metrics: 9090 } as const;
const defaultBodyBytes = 4 * 1024 * 1024;
const defaultHeaderBytes = 4 * 1024;
const protocols = ["http", "https", "h2c", "grpc", "grpcs"] as const;

/** Throws FlagError. */
export function readFlags(line: CommandLine, env: Readonly<Record<string, string | undefined>>): DaprdFlags {
  const publicPort = line.port("dapr-public-port");
  const flag = (name: FlagName) => (line.has(name) ? line.flag(name, true) : undefined);
  return {
    appId: line.text("app-id") ?? "",
    app: appFlags(line),
    resourcesPaths: [...line.list("resources-path"), ...line.list("components-path")],
    configPaths: line.list("config"),
    listenAddresses: addresses(line.text("dapr-listen-addresses") ?? ""),
    httpPort: line.port("dapr-http-port") ?? defaultPorts.http,
    grpcPort: line.port("dapr-grpc-port") ?? defaultPorts.grpc,
    internalGrpc: {
      address: line.text("dapr-internal-grpc-listen-address") ?? "",
      port: line.port("dapr-internal-grpc-port") ?? 0,
    },
    publicHttp:
      publicPort === undefined
        ? undefined
        : { address: line.text("dapr-public-listen-address") ?? "", port: publicPort },
    metrics: {
      address: line.text("metrics-listen-address") || "0.0.0.0",
      port: line.port("metrics-port") ?? defaultPorts.metrics,
    },
    enableMetrics: flag("enable-metrics"),
    maxBodyBytes: size(line, "max-body-size", "dapr-http-max-request-size", 2 ** 20) ?? defaultBodyBytes,
    maxHeaderBytes:
      size(line, "read-buffer-size", "dapr-http-read-buffer-size", 2 ** 10) ?? defaultHeaderBytes,
    maxConnectionIdleMs: positive(parseDurationMs(env["DAPR_GRPC_MAX_CONN_IDLE"] ?? "")),
    allowedOrigins: line.has("allowed-origins")
      ? commaSeparated(line.text("allowed-origins") ?? "")
      : undefined,
    graceMs: graceOf(line),
    lookMs: lookOf(line),
    enableApiLogging: flag("enable-api-logging"),
    logLevel: levelOf(line),
    logAsJson: line.flag("log-as-json", false),
  };
}

function appFlags(line: CommandLine): AppFlags {
  const port = line.port("app-port");
  const skipped = line.list("disable-init-endpoints").map((each) => each.trim().toLowerCase());
  const blockMs = line.value("dapr-block-shutdown-duration", parseDurationMs, "a duration such as 5s");
  const protocolOf = (text: string) => protocols.find((each) => each === text.toLowerCase());
  return {
    ...(port !== undefined && { appPort: port }),
    appProtocol: line.value("app-protocol", protocolOf, `one of ${protocols.join(", ")}`) ?? "http",
    appSsl: line.flag("app-ssl", false),
    appChannelAddress: line.text("app-channel-address") || "127.0.0.1",
    appMaxConcurrency: line.integer("app-max-concurrency", -1),
    enableAppHealthCheck: line.flag("enable-app-health-check", false),
    appHealthCheckPath: line.text("app-health-check-path") || "/healthz",
    appHealthProbeInterval: line.integer("app-health-probe-interval", 0),
    appHealthProbeTimeout: line.integer("app-health-probe-timeout", 0),
    appHealthThreshold: line.integer("app-health-threshold", 0),
    disableInitEndpoints: skipped,
    ...(blockMs !== undefined && { daprBlockShutdownDuration: blockMs }),
  };
}

/** Sizes in bytes, as in 4Mi; the older flag has a number of larger units. */
function size(line: CommandLine, name: FlagName, older: FlagName, olderUnit: number): number | undefined {
  const bytes = line.value(name, parseByteSize, "a size such as 4Mi");
  if (bytes !== undefined) return positive(bytes);
  const units = line.integer(older, 0);
  return positive(units * olderUnit);
}

function positive(number: number | undefined): number | undefined {
  return number !== undefined && number > 0 ? number : undefined;
}

/** In seconds; less than 0 means daprd's default. */
function graceOf(line: CommandLine): number {
  const seconds = line.integer("dapr-graceful-shutdown-seconds", 5);
  return (seconds < 0 ? 5 : seconds) * 1000;
}

function levelOf(line: CommandLine): LogLevel {
  const text = line.text("log-level") || "info";
  const given = text.toLowerCase() === "warning" ? "warn" : text.toLowerCase();
  const level = logLevels.find((each) => each === given);
  if (level) return level;
  throw new FlagError("log-level", text, `expected one of ${logLevels.join(", ")}`);
}

/** Seconds, or a duration; 0 is the default. */
function lookOf(line: CommandLine): number | undefined {
  const text = line.text("hot-reload-reconcile-interval") ?? "";
  return positive(/^\d+$/.test(text) ? Number(text) * 1000 : parseDurationMs(text));
}

/** Several, separated by commas; none is every address. */
function addresses(text: string): readonly string[] {
  const list = commaSeparated(text).map((each) => each.replace(/^\[(.*)\]$/, "$1"));
  return list.length > 0 ? list : [""];
}
