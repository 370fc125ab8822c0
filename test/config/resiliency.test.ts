import { describe, expect, it } from "vitest";
import { resiliency } from "../../src/config/kinds/later.ts";
import { ComponentPolicies } from "../../src/config/resiliency.ts";

/** The policies of resources, each given as its `spec`. */
function policiesOf(...specs: readonly object[]): ComponentPolicies {
  return new ComponentPolicies(specs.map((spec) => resiliency.parse({ metadata: { name: "r" }, spec }).spec));
}

describe("the policies of a component", () => {
  it("are those that its target names, with Dapr's defaults", () => {
    const policies = policiesOf({
      policies: {
        timeouts: { fast: "2s" },
        retries: {
          some: { maxRetries: 3 },
          more: { policy: "exponential", matching: { httpStatusCodes: "429" } },
        },
        circuitBreakers: { usual: {} },
      },
      targets: {
        components: { mystore: { outbound: { timeout: "fast", retry: "some", circuitBreaker: "usual" } } },
      },
    });
    expect(policies.of("mystore", "state", "outbound")).toMatchObject({
      timeoutMs: 2000,
      retry: { policy: "constant", durationMs: 5000, maxIntervalMs: 60_000, maxRetries: 3 },
      breaker: { maxRequests: 1, intervalMs: 0, timeoutMs: 60_000 },
    });
    expect(policies.of("mystore", "state", "inbound")).toBeUndefined();
    expect(policies.of("other", "state", "outbound")).toBeUndefined();
  });

  it("are of several resources together, of which later ones replace what has the same name", () => {
    const target = { components: { mypub: { outbound: { timeout: "t", retry: "r" } } } };
    const policies = policiesOf(
      { policies: { timeouts: { t: "1s" } } },
      { policies: { timeouts: { t: "3s" }, retries: { r: { duration: "10ms" } } }, targets: target },
    );
    expect(policies.of("mypub", "pubsub", "outbound")).toMatchObject({
      timeoutMs: 3000,
      retry: { durationMs: 10, maxRetries: Number.POSITIVE_INFINITY },
    });
  });

  it("are the defaults that say most, where no target names the component", () => {
    const policies = policiesOf({
      policies: {
        retries: {
          DefaultRetryPolicy: { maxRetries: 1 },
          DefaultComponentRetryPolicy: { maxRetries: 2 },
          DefaultComponentOutboundRetryPolicy: { maxRetries: 3 },
          DefaultStatestoreComponentOutboundRetryPolicy: { maxRetries: 4 },
        },
        timeouts: { DefaultTimeoutPolicy: "9s" },
      },
      targets: { components: { named: { inbound: { retry: "nothing" } } } },
    });
    const retries = (...which: Parameters<ComponentPolicies["of"]>) =>
      policies.of(...which)?.retry?.maxRetries;
    expect(retries("a", "state", "outbound")).toBe(4);
    expect(retries("a", "pubsub", "outbound")).toBe(3);
    expect(retries("a", "pubsub", "inbound")).toBe(2);
    expect(policies.of("a", "pubsub", "inbound")?.timeoutMs).toBe(9000);
    expect(policies.of("named", "pubsub", "outbound")).toBeUndefined();
  });
});

describe("a Resiliency", () => {
  const mistakes = (policies: object) =>
    resiliency
      .safeParse({ metadata: { name: "r" }, spec: { policies } })
      .error?.issues.map(({ message }) => message);

  it("is refused for a condition or codes that make no sense", () => {
    expect(mistakes({ circuitBreakers: { a: { trip: "failures > 1" } } })![0]).toContain(
      "expected a condition in CEL",
    );
    expect(mistakes({ retries: { a: { matching: { httpStatusCodes: "600" } } } })![0]).toContain(
      "from 100 to 599",
    );
    expect(
      mistakes({ retries: { a: { matching: { gRPCStatusCodes: "1,2,5-7", httpStatusCodes: 503 } } } }),
    ).toBeUndefined();
  });
});
