import { describe, expect, it } from "vitest";
import { loadText, mistakesOf } from "./fixture.ts";

const document = (kind: string, rest: string) =>
  `apiVersion: dapr.io/v1alpha1\nkind: ${kind}\nmetadata: {name: it}\n${rest}`;

/** Files as they are in Dapr's documentation, with every field that there is. */
const whole = {
  Resiliency: `spec:
  policies:
    timeouts: {general: 5s, DaprBuiltInX: 300ms}
    retries:
      retryForever: {policy: exponential, maxInterval: 15s, maxRetries: -1}
      DefaultRetryPolicy: {policy: constant, duration: 5s, matching: {httpStatusCodes: "429,501-503", gRPCStatusCodes: "1-4"}}
    circuitBreakers:
      simpleCB: {maxRequests: 1, interval: 8s, timeout: 30s, trip: consecutiveFailures > 8}
  targets:
    apps:
      appB: {timeout: general, retry: retryForever, circuitBreaker: simpleCB, circuitBreakerCacheSize: 100}
      appC:
    actors:
      myActorType: {timeout: general, retry: retryForever, circuitBreaker: simpleCB, circuitBreakerScope: both, circuitBreakerCacheSize: 5000}
    components:
      statestore1:
        outbound: {timeout: general, retry: retryForever, circuitBreaker: simpleCB}
      pubsub1:
        inbound: {retry: retryForever}
scopes: [shop]`,
  HTTPEndpoint: `spec:
  baseUrl: https://api.example.com
  headers:
  - name: Accept-Language
    value: en-US
  - name: Authorization
    secretKeyRef: {name: token, key: token}
  clientTLS:
    rootCA: {secretKeyRef: {name: ca, key: ca}}
    certificate: {value: pem}
    privateKey: {envRef: KEY}
    renegotiation: RenegotiateNever
auth: {secretStore: vault}
scopes: [shop]`,
  MCPServer: `spec:
  catalog: {displayName: d, description: e, owner: {team: t, contact: c}, tags: [a], links: {docs: u}}
  endpoint:
    streamableHTTP:
      url: https://mcp.example.com
      protocolVersion: "2025-06-18"
      timeout: 30s
      headers: [{name: a, value: b}]
      auth:
        secretStore: vault
        oauth2: {issuer: https://i, clientID: c, audience: a, scopes: [s], secretKeyRef: {name: n, key: k}}
        spiffe: {jwt: {audience: a, header: Authorization, headerValuePrefix: "Bearer "}}
  middleware:
    beforeCallTool: [{workflow: {workflowName: w, appID: a}, mutate: true}]
    afterListTools: [{workflow: {workflowName: w}}]`,
  WorkflowAccessPolicy: `spec:
  defaultAction: deny
  rules:
  - callers: [{appID: a}]
    workflows: [{name: "order*", operations: [schedule, get], action: allow}]
    activities: [{name: "*", action: deny}]
scopes: [shop]`,
};

describe.each(Object.entries(whole))("a %s", (kind, rest) => {
  it("with all its fields is accepted, and what is not used yet noted", async () => {
    const loaded = await loadText(document(kind, rest));
    expect(loaded.others).toMatchObject([{ kind, name: "it", source: { line: 1 } }]);
    const paths = kind === "Resiliency" ? ["spec.targets.apps", "spec.targets.actors"] : [""];
    expect(loaded.notes).toMatchObject(
      paths.map((path) => ({ resource: `${kind} "it"`, field: path, message: "checked, not used yet" })),
    );
  });

  it("with an unknown field is refused", async () => {
    const mistakes = await mistakesOf(
      loadText(document(kind, rest.replace("spec:\n", "spec:\n  nonsense: 1\n"))),
    );
    expect(mistakes).toHaveLength(1);
    expect(mistakes[0]).toContain(`${kind} "it" spec.nonsense: unknown field`);
  });
});

it("a Resiliency for components has nothing noted", async () => {
  const inbound = "inbound: {retry: r, timeout: t, circuitBreaker: c}";
  const { notes } = await loadText(
    document("Resiliency", `spec: {targets: {components: {mypub: {${inbound}, outbound: {timeout: t}}}}}`),
  );
  expect(notes).toEqual([]);
});

describe("a kind that is checked only", () => {
  it("has the mistakes in its values told", async () => {
    const yaml = [
      document(
        "Resiliency",
        "spec: {policies: {timeouts: {a: 5}, retries: {r: {policy: linear}}, circuitBreakers: {c: {maxRequests: x}}}}",
      ),
      document("HTTPEndpoint", "spec: {}"),
      document("MCPServer", "spec: {endpoint: {sse: {url: a}, stdio: {command: b}}}"),
      document("WorkflowAccessPolicy", "spec: {rules: [{callers: [], workflows: []}]}"),
    ].join("\n---\n");
    expect((await mistakesOf(loadText(yaml))).map((line) => line.replace(/^a.yaml:\d+:\d+ {2}/, ""))).toEqual(
      [
        'Resiliency "it" spec.policies.timeouts.a: expected a duration with a unit, such as "5s" or "1h30m"',
        'Resiliency "it" spec.policies.retries.r.policy: expected one of "constant", "exponential", not "linear"',
        'Resiliency "it" spec.policies.circuitBreakers.c.maxRequests: expected a whole number from 0 to 2147483647',
        'HTTPEndpoint "it" spec.baseUrl: is required',
        'MCPServer "it" spec.endpoint: expected exactly one of streamableHTTP, sse and stdio',
        'WorkflowAccessPolicy "it" spec.rules[0]: expected at least one of workflows and activities',
        'WorkflowAccessPolicy "it" spec.rules[0].callers: must not be empty',
      ],
    );
  });
});

describe("a document that is not ours", () => {
  it("is ignored, with a note", async () => {
    const yaml = [
      "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shop}",
      "apiVersion: core.oam.dev/v1beta1\nkind: Component",
      "version: '3'\nservices: {}",
      "- a list",
      "text",
      "# nothing but a comment",
    ].join("\n---\n");
    const { notes, components } = await loadText(yaml);
    expect(notes.map(({ line, message }) => `${line} ${message}`)).toEqual([
      "1 ignored: apps/v1 Deployment is no resource of this runtime",
      "5 ignored: core.oam.dev/v1beta1 Component is no resource of this runtime",
      "8 ignored: a document without a kind is no resource of this runtime",
      "11 ignored: the document is no resource",
      "13 ignored: the document is no resource",
    ]);
    expect(components.every(({ source }) => source === undefined)).toBe(true);
  });

  it("is refused when it is nearly ours", async () => {
    const yaml = [
      "apiVersion: dapr.io/v1alpha1\nkind: Componnet\nmetadata: {name: a}",
      "apiVersion: dapr.io/v1alpha1\nkind: component",
      "apiVersion: dapr.io/v1alpha1\nkind: Deployment",
      "apiVersion: dapr.io/v1\nkind: Component",
      "apiVersion: dapr.io/v2alpha1\nkind: Component",
      "apiVersion: dapr/v1alpha1\nkind: Subscription",
      "kind: Component",
      "apiVersion: dapr.io/v1alpha1",
    ].join("\n---\n");
    expect((await mistakesOf(loadText(yaml))).map((line) => line.replace("a.yaml:", ""))).toEqual([
      '2:7  Componnet "a" kind: unknown kind "Componnet" of dapr.io; did you mean "Component"?',
      '6:7  component kind: unknown kind "component" of dapr.io; did you mean "Component"?',
      '9:7  Deployment kind: unknown kind "Deployment" of dapr.io',
      '11:13  Component apiVersion: unknown version "dapr.io/v1" of Component; expected dapr.io/v1alpha1',
      '14:13  Component apiVersion: unknown version "dapr.io/v2alpha1" of Component; expected dapr.io/v1alpha1',
      '17:13  Subscription apiVersion: unknown "dapr/v1alpha1"; did you mean "dapr.io/v1alpha1"?',
      "20:1  Component apiVersion: is required; expected dapr.io/v1alpha1",
      "22:1  kind: is required",
    ]);
  });
});
