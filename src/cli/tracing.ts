/** What a Configuration and the environment say about tracing, as one. */
import type { TracingSettings } from "../config/settings.ts";
import { type ExporterOptions, otlpOptions, type TracingOptions } from "../telemetry/tracing-options.ts";
import { type Terminal, usageFailure } from "./terminal.ts";

/** For one batch of spans, in milliseconds; as long as OTLP's. */
const zipkinTimeoutMs = 10_000;

/**
 * How spans are made; undefined: none are. A Configuration comes first; where it
 * names no collector, OpenTelemetry's variables do. Throws a usage failure when one of them makes no sense.
 */
export function tracingOptions(
  terminal: Terminal,
  settings: TracingSettings | undefined,
  identity: { readonly appId: string; readonly instanceId: string },
): TracingOptions | undefined {
  const { env } = terminal;
  if (env["OTEL_SDK_DISABLED"]?.toLowerCase() === "true") return undefined;
  const exporters: ExporterOptions[] = [];
  try {
    const exporter = settings?.otel ? otlpOptions(fromConfiguration(settings.otel)) : fromEnvironment(env);
    if (exporter) exporters.push(exporter);
  } catch (error) {
    throw usageFailure(`tracing: ${error instanceof Error ? error.message : error}`);
  }
  if (settings?.zipkin) exporters.push(zipkinOptions(settings.zipkin.endpointAddress));
  if (settings?.stdout) exporters.push({ kind: "stdout", write: (line) => void terminal.stdout.write(line) });
  if (exporters.length === 0) return undefined;
  const attributes = pairs(env["OTEL_RESOURCE_ATTRIBUTES"]);
  const serviceName = env["OTEL_SERVICE_NAME"];
  if (serviceName) attributes["service.name"] = serviceName;
  return {
    ...identity,
    // Who sets a collector in the environment alone wants to see something: everything.
    samplingRatio: samplingRatio(env) ?? settings?.samplingRate ?? 1,
    exporters,
    resourceAttributes: attributes,
  };
}

function fromConfiguration({ timeoutMs, ...otel }: NonNullable<TracingSettings["otel"]>) {
  return timeoutMs === undefined ? otel : { ...otel, timeoutMs };
}

function zipkinOptions(url: string): ExporterOptions {
  if (!/^https?:/i.test(url) || !URL.canParse(url)) {
    throw usageFailure(
      "tracing: zipkin.endpointAddress: expected a URL such as http://localhost:9411/api/v2/spans",
    );
  }
  return { kind: "zipkin", url, timeoutMs: zipkinTimeoutMs };
}

function fromEnvironment(env: Terminal["env"]): ExporterOptions | undefined {
  const variable = (name: string) =>
    env[`OTEL_EXPORTER_OTLP_TRACES_${name}`] || env[`OTEL_EXPORTER_OTLP_${name}`];
  if (env["OTEL_TRACES_EXPORTER"] === "none") return undefined;
  const endpointAddress = variable("ENDPOINT");
  if (!endpointAddress) return undefined;
  const protocol = variable("PROTOCOL") ?? "http/protobuf";
  const timeout = Number(variable("TIMEOUT") || Number.NaN);
  const base = {
    endpointAddress: withPath(env, endpointAddress, protocol),
    protocol,
    headers: pairs(variable("HEADERS")),
  };
  const insecure = variable("INSECURE")?.toLowerCase() === "true";
  return otlpOptions({ ...base, isSecure: !insecure, ...(timeout > 0 ? { timeoutMs: timeout } : {}) });
}

/** The common variable names a base; the one for traces names the whole URL. */
function withPath(env: Terminal["env"], endpoint: string, protocol: string): string {
  if (protocol === "grpc" || env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] || !URL.canParse(endpoint))
    return endpoint;
  return new URL("v1/traces", endpoint.endsWith("/") ? endpoint : `${endpoint}/`).href;
}

function samplingRatio(env: Terminal["env"]): number | undefined {
  const sampler = env["OTEL_TRACES_SAMPLER"] ?? "";
  if (sampler.endsWith("always_on")) return 1;
  if (sampler.endsWith("always_off")) return 0;
  if (!sampler.endsWith("traceidratio")) return undefined;
  const ratio = Number(env["OTEL_TRACES_SAMPLER_ARG"] || 1);
  return ratio >= 0 && ratio <= 1 ? ratio : 1;
}

/** `a=1,b=2`, with values percent-encoded, as in W3C Baggage. */
function pairs(list: string | undefined): Record<string, string> {
  const found: Record<string, string> = {};
  for (const pair of (list ?? "").split(",")) {
    const at = pair.indexOf("=");
    if (at > 0) found[pair.slice(0, at).trim()] = decode(pair.slice(at + 1).trim());
  }
  return found;
}

function decode(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
