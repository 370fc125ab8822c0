import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { load } from "../../src/config/load.ts";
import { componentYaml, directory, mistakesOf, optionsFor } from "./fixture.ts";

const configuration = (spec: string) =>
  `apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec:\n${spec.replace(/^/gm, "  ")}\n`;

/** Loads these as the files of --config, in this order. */
async function loadConfig(
  specs: readonly string[],
  environment = {},
  resources: Record<string, string> = {},
) {
  const names = specs.map((_, index) => `config${index}.yaml`);
  const path = await directory({
    ...Object.fromEntries(specs.map((spec, index) => [names[index]!, configuration(spec)])),
    ...Object.fromEntries(Object.entries(resources).map(([name, yaml]) => [`resources/${name}`, yaml])),
    "resources/README.md": "not YAML: [",
  });
  return await load(
    optionsFor(join(path, "resources"), { environment, configPaths: names.map((name) => join(path, name)) }),
  );
}

describe("a Configuration", () => {
  it("sets tracing, metrics and API logs", async () => {
    const { settings, notes, secrets } = await loadConfig([
      `tracing:
  samplingRate: "0.5"
  stdout: true
  otel:
    endpointAddress: collector:4317
    protocol: grpc
    isSecure: false
    timeout: 2s
    headers: [{name: x-key, value: abc}]
metrics: {enabled: false}
logging: {apiLogging: {enabled: true, obfuscateURLs: true}}`,
    ]);
    expect(settings).toMatchObject({
      tracing: {
        samplingRate: 0.5,
        stdout: true,
        zipkin: undefined,
        otel: {
          endpointAddress: "collector:4317",
          protocol: "grpc",
          isSecure: false,
          headers: { "x-key": "abc" },
          timeoutMs: 2000,
        },
      },
      metrics: { enabled: false },
      secretScopes: [],
      logging: { apiLogging: { enabled: true, obfuscateUrls: true, omitHealthChecks: false } },
    });
    expect(notes).toEqual([]);
    expect([...secrets]).toEqual(["abc"]);
  });

  it("has Dapr's defaults where it says nothing", async () => {
    expect((await loadConfig([])).settings).toEqual({
      tracing: undefined,
      features: [],
      hotReload: true,
      api: { allowed: [], denied: [] },
      httpPipeline: [],
      appHttpPipeline: [],
      metrics: { enabled: true },
      secretScopes: [],
      logging: { apiLogging: { enabled: false, obfuscateUrls: false, omitHealthChecks: false } },
    });
    const { settings } = await loadConfig(["tracing: {otel: {endpointAddress: c}}"]);
    expect(settings.tracing).toMatchObject({
      samplingRate: 0.0001,
      otel: { protocol: "grpc", isSecure: true },
    });
  });

  it("of a later file replaces fields of spec of an earlier one, each as a whole", async () => {
    const { settings } = await loadConfig([
      "tracing: {samplingRate: 1, stdout: true}\nmetrics: {enabled: false}",
      "tracing: {samplingRate: 0}",
    ]);
    expect(settings.tracing).toMatchObject({ samplingRate: 0, stdout: false });
    expect(settings.metrics.enabled).toBe(false);
  });

  it("names the features, the open APIs and the pipelines", async () => {
    const { settings } = await loadConfig([
      `features: [{name: HotReload, enabled: false}, {name: A, enabled: true}]
api: {allowed: [{name: state, version: v1, protocol: grpc}], denied: [{name: secrets}]}
httpPipeline: {handlers: [{name: a, type: middleware.http.routerchecker}]}`,
    ]);
    expect(settings).toMatchObject({ features: ["A"], hotReload: false });
    expect(settings.api).toEqual({
      allowed: [{ name: "state", version: "v1", protocol: "grpc" }],
      denied: [{ name: "secrets" }],
    });
    expect(settings.httpPipeline).toEqual([{ name: "a", type: "middleware.http.routerchecker" }]);
  });

  it("may refer to the environment with a dollar sign, as daprd lets it", async () => {
    const { settings } = await loadConfig(
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is daprd's syntax.
      ["tracing:\n  samplingRate: $RATE\n  stdout: ${STDOUT}\n  otel: {endpointAddress: 'a${NONE}b$'}"],
      { RATE: "0.25", STDOUT: "true" },
    );
    expect(settings.tracing).toMatchObject({
      samplingRate: 0.25,
      stdout: true,
      otel: { endpointAddress: "ab$" },
    });
  });

  it("takes the only secret store for the headers that refer to secrets", async () => {
    const spec = "tracing: {otel: {endpointAddress: c, headers: [{name: auth, secretKeyRef: {name: T}}]}}";
    const vault = componentYaml("vault", "secretstores.local.env");
    const { settings } = await loadConfig([spec], { T: "hunter2" }, { "a.yaml": vault });
    expect(settings.tracing?.otel?.headers).toEqual({ auth: "hunter2" });
    expect((await mistakesOf(loadConfig([spec], { T: "hunter2" })))[0]).toContain("headers[0].secretKeyRef");
  });

  it("is refused for values that make no sense", async () => {
    expect(
      await mistakesOf(
        loadConfig(["tracing:\n  samplingRate: 2\n  otel: {protocol: gprc}\nmetric:\n  enable: true"]),
      ),
    ).toEqual([
      'config0.yaml:6:19  Configuration "c" spec.tracing.samplingRate: expected a number from 0 to 1',
      'config0.yaml:7:5  Configuration "c" spec.tracing.otel.endpointAddress: is required',
      'config0.yaml:7:22  Configuration "c" spec.tracing.otel.protocol: expected one of "grpc", "http", not "gprc"; did you mean "grpc"?',
      'config0.yaml:9:5  Configuration "c" spec.metric.enable: unknown field; did you mean "enabled"?',
    ]);
  });

  it("is refused for what it protects and nothing enforces yet", async () => {
    const refused = "which this version does not enforce yet; it is refused rather than ignored";
    const of = async (spec: string) =>
      (await mistakesOf(loadConfig([spec]))).map((line) => line.replace(/^.*Configuration "c" /, ""));
    expect(await of("accessControl: {defaultAction: deny}")).toEqual([
      `spec.accessControl: denies calls, ${refused}`,
    ]);
    expect(await of("accessControl: {policies: [{appId: a, defaultAction: allow}]}")).toHaveLength(1);
    const operation = "{name: /a, action: deny}";
    expect(
      await of(`accessControl: {defaultAction: allow, policies: [{appId: a, operations: [${operation}]}]}`),
    ).toHaveLength(1);
    expect(await of("httpPipeline: {handlers: [{name: a, type: middleware.http.bearer}]}")).toHaveLength(1);
  });

  it("is accepted where it protects nothing, and what is not used is noted", async () => {
    const { notes } = await loadConfig([
      `accessControl: {defaultAction: allow, trustDomain: public}
secrets: {scopes: [{storeName: vault, defaultAccess: allow}]}
api: {}
httpPipeline: {handlers: [{name: r, type: middleware.http.routeralias, version: v1, selector: {fields: []}}]}
features: [{name: ActorStateTTL, enabled: true}]
nameResolution: {component: sqlite, version: v1, configuration: {connectionString: x}}
mtls: {enabled: true, workloadCertTTL: 24h, allowedClockSkew: 15m}
workflow: {maxConcurrentWorkflowInvocations: 32, newInThisVersion: 1}
tracing: {samplingRate: "1", zipkin: {endpointAddress: "http://z:9411/api/v2/spans"}}
metrics: {enabled: true, rules: [{name: m, labels: [{name: l, regex: {"a+": b}}]}], http: {increasedCardinality: true}}`,
    ]);
    expect(notes.map(({ field, message }) => `${field}: ${message}`)).toEqual(
      [
        "accessControl",
        "features",
        "nameResolution",
        "mtls",
        "workflow",
        "metrics.rules",
        "metrics.http",
      ].map((field) => `spec.${field}: checked, not used yet`),
    );
  });

  it("keeps components of denied types out, declared or not", async () => {
    const redis = componentYaml("orders", "state.redis", "", "  version: v1\n");
    const bus = componentYaml("bus", "pubsub.in-memory");
    const loaded = await loadConfig(
      ["components: {deny: [State.Redis/v1, pubsub.in-memory/v2]}"],
      {},
      {
        "a.yaml": redis,
        "b.yaml": bus,
      },
    );
    expect(loaded.components.map(({ name }) => name)).toEqual(["bus"]);
    expect(loaded.notes.map(({ message }) => message)).toEqual([
      'not loaded: components.deny has "state.redis"',
    ]);
    const none = await loadConfig(["components: {deny: [state.sqlite]}"]);
    expect(none.components.map(({ name }) => name)).toEqual(["pubsub"]);
  });

  it("among the resources is checked, and noted to be of no use there", async () => {
    const sound = await loadConfig([], {}, { "c.yaml": configuration("metrics: {enabled: false}") });
    expect(sound.settings.metrics.enabled).toBe(true);
    expect(sound.notes.map(({ message }) => message)).toEqual([
      "checked, and not used: a Configuration is read from --config only",
    ]);
    expect(await mistakesOf(loadConfig([], {}, { "c.yaml": configuration("metricz: {}") }))).toHaveLength(1);
  });

  it("may lie in the resources' directory, and then a component may be in its file", async () => {
    const path = await directory({
      "all.yaml": `${configuration("metrics: {enabled: false}")}---\n${componentYaml("orders", "state.sqlite")}`,
    });
    const configPaths = [join(path, "all.yaml")];
    const both = await load(optionsFor(path, { configPaths }));
    expect(both.settings.metrics.enabled).toBe(false);
    expect(both.components.map(({ name }) => name)).toEqual(["orders", "pubsub"]);
    expect(both.notes).toEqual([]);
    expect(await mistakesOf(load(optionsFor(path, { configPaths, resourcesPaths: [] })))).toEqual([
      'all.yaml:7:1  Component "orders": a Component is not read from a --config file; it belongs in --resources-path',
    ]);
  });
});
