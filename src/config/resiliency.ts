/** What Resiliency resources say of components: which timeouts, retries and circuit breakers apply to them. */
import type * as z from "zod";
import type { BlockName } from "../component.ts";
import type { BreakerSettings } from "../resilience/circuit-breaker.ts";
import type { PolicySettings } from "../resilience/policy.ts";
import type { RetrySettings } from "../resilience/retry.ts";
import { usualTrip } from "../resilience/trip.ts";
import type { resiliency } from "./kinds/later.ts";

/** A Resiliency resource that has been checked. */
export type ResiliencySpec = z.output<typeof resiliency>["spec"];

/** Outbound: calls of the component. Inbound: what it delivers to the application. */
export type Direction = "inbound" | "outbound";

type Policies = NonNullable<ResiliencySpec["policies"]>;
type Names = { readonly [Kind in PolicyKind]?: string | undefined };
type PolicyKind = "timeout" | "retry" | "circuitBreaker";

const defaults = { constantMs: 5000, exponentialMs: 500, maxIntervalMs: 60_000, openMs: 60_000 } as const;
/** What the names of default policies call blocks. */
const blockWords: Readonly<Record<BlockName, string>> = { state: "Statestore", pubsub: "Pubsub" };
const kindWords: Readonly<Record<PolicyKind, string>> = {
  timeout: "Timeout",
  retry: "Retry",
  circuitBreaker: "CircuitBreaker",
};

/** The resources together, as Dapr takes them: policies and targets of later ones replace those of the same name. */
export class ComponentPolicies {
  readonly #timeouts = new Map<string, number>();
  readonly #retries = new Map<string, Policies["retries"][string]>();
  readonly #breakers = new Map<string, Policies["circuitBreakers"][string]>();
  readonly #targets = new Map<string, { readonly [Way in Direction]?: Names | undefined }>();

  constructor(specs: readonly ResiliencySpec[]) {
    for (const { policies, targets } of specs) {
      for (const [name, timeout] of Object.entries(policies?.timeouts ?? {}))
        this.#timeouts.set(name, timeout);
      for (const [name, retry] of Object.entries(policies?.retries ?? {})) this.#retries.set(name, retry);
      for (const [name, breaker] of Object.entries(policies?.circuitBreakers ?? {}))
        this.#breakers.set(name, breaker);
      for (const [name, target] of Object.entries(targets?.components ?? {})) this.#targets.set(name, target);
    }
  }

  /** What applies to a component; undefined: nothing. Names of policies that there are not have no effect. */
  of(component: string, block: BlockName, direction: Direction): PolicySettings | undefined {
    const target = this.#targets.get(component);
    // The defaults are for components that no target names.
    const names = target ? (target[direction] ?? {}) : this.#defaultNames(block, direction);
    const timeoutMs = this.#timeouts.get(names.timeout ?? "");
    const retry = this.#retries.get(names.retry ?? "");
    const breaker = this.#breakers.get(names.circuitBreaker ?? "");
    if (!timeoutMs && !retry && !breaker) return undefined;
    return {
      timeoutMs: timeoutMs || undefined,
      retry: retry && retryOf(retry),
      breaker: breaker && breakerOf(breaker),
    };
  }

  /** Policies whose names say what they are for; of several, the one that says most. */
  #defaultNames(block: BlockName, direction: Direction): Names {
    const way = direction === "inbound" ? "Inbound" : "Outbound";
    const levels = [`${blockWords[block]}Component${way}`, `Component${way}`, "Component", ""];
    const find = (kind: PolicyKind, policies: ReadonlyMap<string, unknown>) =>
      levels.map((level) => `Default${level}${kindWords[kind]}Policy`).find((name) => policies.has(name));
    return {
      timeout: find("timeout", this.#timeouts),
      retry: find("retry", this.#retries),
      circuitBreaker: find("circuitBreaker", this.#breakers),
    };
  }
}

function retryOf(given: Policies["retries"][string]): RetrySettings {
  const { policy = "constant", maxRetries = -1, matching } = given;
  return {
    policy,
    durationMs: given.duration ?? (policy === "constant" ? defaults.constantMs : defaults.exponentialMs),
    maxIntervalMs: given.maxInterval ?? defaults.maxIntervalMs,
    maxRetries: maxRetries < 0 ? Number.POSITIVE_INFINITY : maxRetries,
    matching: matching && { http: matching.httpStatusCodes, grpc: matching.gRPCStatusCodes },
  };
}

function breakerOf(given: Policies["circuitBreakers"][string]): BreakerSettings {
  return {
    maxRequests: given.maxRequests || 1,
    intervalMs: given.interval ?? 0,
    timeoutMs: given.timeout || defaults.openMs,
    trip: given.trip ?? usualTrip,
  };
}

/** Where a resource says what is not used: targets that are not there yet. */
export function unusedOf({ targets }: ResiliencySpec): readonly (readonly string[])[] {
  const blocks = (["apps", "actors"] as const).filter(
    (each) => Object.keys(targets?.[each] ?? {}).length > 0,
  );
  return blocks.map((each) => ["spec", "targets", each]);
}
