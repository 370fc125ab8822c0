/** What an operator may say about tracing. Types and addresses only: nothing here loads an SDK. */

/** How spans are made, and where they go. */
export interface TracingOptions {
  /** `service.name`, unless `resourceAttributes` has another. */
  readonly appId: string;
  /** `service.instance.id`. */
  readonly instanceId: string;
  /** How many of the traces that begin here are recorded, from 0 to 1. Others follow their parent. */
  readonly samplingRatio: number;
  /** Each gets every recorded span. */
  readonly exporters: readonly ExporterOptions[];
  /** What is also known of this process, as in OTEL_RESOURCE_ATTRIBUTES. */
  readonly resourceAttributes?: Readonly<Record<string, string>>;
  /** How long a span waits for others to be sent with, in milliseconds. Default 5,000. */
  readonly batchDelayMs?: number;
}

/** Where spans go. */
export type ExporterOptions = OtlpHttpOptions | OtlpGrpcOptions | ZipkinOptions | StdoutOptions;

/** To a collector, protobuf over HTTP. */
export interface OtlpHttpOptions {
  readonly kind: "otlp-http";
  /** The whole URL, with its path. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** For one batch, in milliseconds. */
  readonly timeoutMs: number;
}

/** To a collector, over gRPC. */
export interface OtlpGrpcOptions {
  readonly kind: "otlp-grpc";
  /** Host and port. */
  readonly address: string;
  /** False: in clear text. */
  readonly secure: boolean;
  readonly headers: Readonly<Record<string, string>>;
  /** For one batch, in milliseconds. */
  readonly timeoutMs: number;
}

/** To Zipkin, version 2 of its API, as `dapr init` configures it. */
export interface ZipkinOptions {
  readonly kind: "zipkin";
  /** The whole URL, such as http://localhost:9411/api/v2/spans. */
  readonly url: string;
  /** For one batch, in milliseconds. */
  readonly timeoutMs: number;
}

/** As lines of JSON. */
export interface StdoutOptions {
  readonly kind: "stdout";
  /** Takes whole lines, each with its line end. */
  readonly write: (line: string) => void;
}

/** `spec.tracing.otel` of a Configuration, or the OTEL_EXPORTER_OTLP_ variables that say the same. */
export interface OtlpSettings {
  /** "host:port", or a URL, whose scheme then decides about TLS. */
  readonly endpointAddress: string;
  /** "grpc", "http" or "http/protobuf". */
  readonly protocol: string;
  /** TLS. Default true, as in Dapr. */
  readonly isSecure?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
  /** For one batch, in milliseconds. Default 10,000. */
  readonly timeoutMs?: number;
}

/** Checks the settings of OTLP. Throws an Error that says what was expected. */
export function otlpOptions(settings: OtlpSettings): OtlpHttpOptions | OtlpGrpcOptions {
  const { endpointAddress, protocol, headers = {}, timeoutMs = 10_000 } = settings;
  const hasScheme = /^https?:\/\//i.test(endpointAddress);
  const scheme = (settings.isSecure ?? true) ? "https" : "http";
  const text = hasScheme ? endpointAddress : `${scheme}://${endpointAddress}`;
  if (endpointAddress === "" || !URL.canParse(text)) {
    throw new Error('endpointAddress: expected "host:port" or a URL');
  }
  const url = new URL(text);
  switch (protocol) {
    case "http":
    case "http/protobuf":
      // A path that somebody wrote is meant; without one it is the collector's own.
      if (url.pathname === "/") url.pathname = "/v1/traces";
      return { kind: "otlp-http", url: url.href, headers, timeoutMs };
    case "grpc":
      if (url.pathname !== "/") throw new Error("endpointAddress: expected no path with protocol grpc");
      return {
        kind: "otlp-grpc",
        address: `${url.hostname}:${url.port === "" ? "4317" : url.port}`,
        secure: url.protocol === "https:",
        headers,
        timeoutMs,
      };
    default:
      throw new Error(`protocol: expected "grpc" or "http", not "${protocol}"`);
  }
}
