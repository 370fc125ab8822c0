/** What of the Resiliency resources is used: how often deliveries of a pub/sub component are repeated. */
import type * as z from "zod";
import type { resiliency } from "./kinds/later.ts";

/** A retry policy, with Dapr's defaults in. */
export interface RetrySettings {
  /** Constant: the same wait before each. Exponential: longer each time. */
  readonly policy: "constant" | "exponential";
  /** Before the first retry, in milliseconds. */
  readonly durationMs: number;
  /** The longest wait, in milliseconds. */
  readonly maxIntervalMs: number;
  /** Infinity: without end. */
  readonly maxRetries: number;
}

/** A Resiliency resource that has been checked. */
export type ResiliencySpec = z.output<typeof resiliency>["spec"];

const defaults = { constantMs: 5000, exponentialMs: 500, maxIntervalMs: 60_000 } as const;

/** `targets.components.<name>.inbound.retry`, by component. Names of policies that there are not have no effect. */
export function inboundRetries({ policies, targets }: ResiliencySpec): ReadonlyMap<string, RetrySettings> {
  const retries = new Map<string, RetrySettings>();
  for (const [component, { inbound }] of Object.entries(targets?.components ?? {})) {
    const given = policies?.retries[inbound?.retry ?? ""];
    if (!given) continue;
    const policy = given.policy ?? "constant";
    const { maxRetries = -1 } = given;
    retries.set(component, {
      policy,
      durationMs: given.duration ?? (policy === "constant" ? defaults.constantMs : defaults.exponentialMs),
      maxIntervalMs: given.maxInterval ?? defaults.maxIntervalMs,
      maxRetries: maxRetries < 0 ? Number.POSITIVE_INFINITY : maxRetries,
    });
  }
  return retries;
}
