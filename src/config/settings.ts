/** What the files of `--config` say, as one: the fields that are used, and those that would be ignored silently. */
import type { ConfigurationSpec } from "./kinds/configuration.ts";
import type { Resource } from "./resource.ts";
import type { Environment, SecretScope, Secrets } from "./secrets.ts";
import { locate, type Path, read } from "./shape.ts";
import type { Tree } from "./tree.ts";
import type { Values } from "./values.ts";

/** Settings of the sidecar itself. */
export interface Settings {
  /** Undefined when no file says anything about tracing. */
  readonly tracing: TracingSettings | undefined;
  readonly metrics: { readonly enabled: boolean; readonly recordErrorCodes?: true };
  /** Names of features that are switched on. */
  readonly features: readonly string[];
  /** False: resources are read at the start only. */
  readonly hotReload: boolean;
  /** Which APIs are open: with an empty list of allowed ones, all that are not denied. */
  readonly api: { readonly allowed: readonly ApiEntry[]; readonly denied: readonly ApiEntry[] };
  /** What requests to the HTTP port pass, in order: components by name and type. */
  readonly httpPipeline: readonly PipelineHandler[];
  /** The same for requests to an application that listens. */
  readonly appHttpPipeline: readonly PipelineHandler[];
  /** Which secrets the application may read; of stores that none names, all. */
  readonly secretScopes: readonly SecretScope[];
  readonly logging: {
    readonly apiLogging: {
      readonly enabled: boolean;
      readonly obfuscateUrls: boolean;
      readonly omitHealthChecks: boolean;
    };
  };
}

/** An API that is allowed or denied. */
export interface ApiEntry {
  readonly name: string;
  /** Undefined: every version. */
  readonly version?: string | undefined;
  /** Undefined: both. */
  readonly protocol?: "http" | "grpc" | undefined;
}

/** A component that requests pass. */
export interface PipelineHandler {
  readonly name: string;
  readonly type: string;
}

/** Which spans are kept, and where they go. */
export interface TracingSettings {
  /** The part of the traces that begin here which is kept, 0 to 1; 0.0001 when unset, as in Dapr. */
  readonly samplingRate: number;
  /** Spans go to standard output too. */
  readonly stdout: boolean;
  readonly otel: OtelSettings | undefined;
  /** Zipkin's whole URL, such as http://localhost:9411/api/v2/spans. */
  readonly zipkin: { readonly endpointAddress: string } | undefined;
}

/** An OpenTelemetry collector. */
export interface OtelSettings {
  /** As it was written: host and port, or a URL. */
  readonly endpointAddress: string;
  readonly protocol: "grpc" | "http";
  /** True: TLS. */
  readonly isSecure: boolean;
  /** Their values are secrets. */
  readonly headers: Readonly<Record<string, string>>;
  /** How long an export may take, in milliseconds; undefined: the exporter's default. */
  readonly timeoutMs: number | undefined;
}

const defaultSamplingRate = 0.0001;

type Field = keyof ConfigurationSpec;

/** A field of `spec`, and the resource that it is from. */
interface Origin {
  readonly resource: Resource;
  readonly tree: Tree;
}

/** The Configuration documents of all files, later ones over earlier ones, by field of `spec`. */
export class Configured {
  readonly #spec: ConfigurationSpec = {};
  readonly #origins = new Map<Field, Origin>();

  /** Takes a document; reports what is wrong with its shape. */
  async add(resource: Resource, environment: Environment): Promise<void> {
    // A large shape, and most sidecars have no such file.
    const { configurationShape } = await import("./kinds/configuration.ts");
    const root = expand(resource.root, (text) => expandVariables(text, environment));
    const value = read(configurationShape, root, [], resource.mistake);
    for (const name of Object.keys(value?.spec ?? {}) as Field[]) {
      Object.assign(this.#spec, { [name]: value?.spec[name] });
      this.#origins.set(name, { resource, tree: root });
    }
  }

  /** `components.deny`. */
  get deny(): readonly string[] {
    return this.#spec.components?.deny ?? [];
  }

  /**
   * The settings. Reports as mistakes what protects something and is not
   * enforced yet, because a sidecar that ignores it looks as if it did; and
   * as notes what else is not used.
   */
  settings(values: Values, secrets: Secrets): Settings {
    this.#refuse();
    this.#noteUnused();
    // `metric` is the older name of `metrics`; Dapr reads both.
    const metrics = { ...defined(this.#spec.metric), ...defined(this.#spec.metrics) };
    const api = this.#spec.logging?.apiLogging;
    const features = this.#spec.features ?? [];
    const hotReload = features.findLast(({ name }) => name === "HotReload");
    return Object.freeze({
      features: Object.freeze(features.filter(({ enabled }) => enabled).map(({ name }) => name)),
      hotReload: hotReload?.enabled ?? true,
      api: Object.freeze(this.#spec.api ?? { allowed: [], denied: [] }),
      httpPipeline: Object.freeze(this.#spec.httpPipeline?.handlers ?? []),
      appHttpPipeline: Object.freeze(this.#spec.appHttpPipeline?.handlers ?? []),
      tracing: this.#tracing(values, secrets),
      secretScopes: Object.freeze(this.#spec.secrets?.scopes ?? []),
      metrics: Object.freeze({
        enabled: metrics.enabled ?? true,
        ...(metrics.recordErrorCodes && { recordErrorCodes: true as const }),
      }),
      logging: Object.freeze({
        apiLogging: Object.freeze({
          enabled: api?.enabled ?? false,
          obfuscateUrls: api?.obfuscateURLs ?? false,
          omitHealthChecks: api?.omitHealthChecks ?? false,
        }),
      }),
    });
  }

  #tracing(values: Values, secrets: Secrets): TracingSettings | undefined {
    const { tracing } = this.#spec;
    const origin = this.#origins.get("tracing");
    if (!tracing || !origin) return undefined;
    const { otel, zipkin } = tracing;
    return Object.freeze({
      samplingRate: tracing.samplingRate ?? defaultSamplingRate,
      stdout: tracing.stdout,
      zipkin: zipkin && Object.freeze(zipkin),
      otel:
        otel &&
        Object.freeze({
          endpointAddress: otel.endpointAddress,
          protocol: otel.protocol ?? "grpc",
          isSecure: otel.isSecure,
          headers: this.#headers(otel.headers, origin, values, secrets),
          timeoutMs: otel.timeout,
        }),
    });
  }

  /** A Configuration has no `auth`, so a reference means the only secret store that there is. */
  #headers(
    items: NonNullable<NonNullable<ConfigurationSpec["tracing"]>["otel"]>["headers"],
    { resource, tree }: Origin,
    values: Values,
    secrets: Secrets,
  ): Readonly<Record<string, string>> {
    const headers: Record<string, string> = {};
    for (const [index, item] of items.entries()) {
      const path = ["spec", "tracing", "otel", "headers", index];
      const place = locate(tree, path).tree ?? tree;
      const resolved = values.resolve(item, place, path, secrets.only ?? "", resource.mistake);
      if (!resolved) continue;
      headers[item.name] = resolved.text;
      if (resolved.text !== "") secrets.resolved.add(resolved.text);
    }
    return Object.freeze(headers);
  }

  #refuse(): void {
    const { accessControl } = this.#spec;
    const refuse = (path: [Field, ...Path], what: string) => {
      const origin = this.#origins.get(path[0]);
      const { at } = locate(origin!.tree, ["spec", ...path]);
      const message = `${what}, which this version does not enforce yet; it is refused rather than ignored`;
      origin!.resource.mistake(at, ["spec", ...path], message);
    };
    if (accessControl && denies(accessControl)) refuse(["accessControl"], "denies calls");
    for (const pipeline of ["httpPipeline", "appHttpPipeline"] as const) {
      for (const [index, { type }] of (this.#spec[pipeline]?.handlers ?? []).entries()) {
        if (guards.test(type)) refuse([pipeline, "handlers", index], `"${type}" turns requests away`);
      }
    }
  }

  #noteUnused(): void {
    for (const [name, { resource, tree }] of this.#origins) {
      const used = usedFields[name];
      const note = (path: Path) => {
        resource.note(locate(tree, path).at, path, "checked, not used yet");
      };
      const field = locate(tree, ["spec", name]).tree;
      if (!used || field?.kind !== "map") note(["spec", name]);
      else {
        for (const [key] of field.entries) {
          if (!used.some((each) => each.toLowerCase() === key.toLowerCase())) note(["spec", name, key]);
        }
      }
    }
  }
}

/** What this version acts upon. */
const usedFields: Partial<Record<Field, readonly string[]>> = {
  tracing: ["samplingRate", "stdout", "otel", "zipkin"],
  metric: ["enabled", "recordErrorCodes"],
  metrics: ["enabled", "recordErrorCodes"],
  logging: ["apiLogging"],
  components: ["deny"],
  secrets: ["scopes"],
  api: ["allowed", "denied"],
  httpPipeline: ["handlers"],
  appHttpPipeline: ["handlers"],
};

/** Middleware whose only purpose is to let nobody through who must not. */
const guards = /^middleware\.http\.(bearer|oauth2|opa)$/i;

function denies(accessControl: NonNullable<ConfigurationSpec["accessControl"]>): boolean {
  const { defaultAction, policies } = accessControl;
  // Policies without a default action deny what they do not mention.
  if (defaultAction !== "allow" && (defaultAction === "deny" || policies.length > 0)) return true;
  return policies.some(
    (policy) =>
      policy.defaultAction === "deny" || policy.operations.some((operation) => operation.action === "deny"),
  );
}

function defined<T extends object>(fields: T | undefined): Partial<T> {
  const entries = Object.entries(fields ?? {}).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Partial<T>;
}

/** `$NAME` and `${NAME}` in the files of `--config`, as daprd has it; a variable that is not set is empty. */
function expandVariables(text: string, environment: Environment): string {
  return text.replace(/\$(?:\{(\w+)\}|([A-Za-z_]\w*))/g, (_, braced?: string, bare?: string) => {
    return environment[braced ?? bare ?? ""] ?? "";
  });
}

/** The tree with each text replaced. Daprd replaces before it parses, so that a value could become two lines. */
function expand(tree: Tree, replace: (text: string) => string): Tree {
  if (tree.kind === "list") return { ...tree, items: tree.items.map((item) => expand(item, replace)) };
  if (tree.kind === "map") {
    const entries = [...tree.entries].map(
      ([name, { at, value }]) => [name, { at, value: expand(value, replace) }] as const,
    );
    return { ...tree, entries: new Map(entries) };
  }
  if (typeof tree.value !== "string" || !tree.value.includes("$")) return tree;
  const value = replace(tree.value);
  return { ...tree, value, source: value };
}
