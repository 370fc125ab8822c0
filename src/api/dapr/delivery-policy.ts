/** Deliveries to an application under the policies of their component. */
import type { Code } from "@connectrpc/connect";
import type { FailureKinds, Policy } from "../../resilience/policy.ts";

/** The status of an application's answer, which `matching` is about: it has one of the two, or none. */
export interface AppStatus {
  readonly httpStatus?: number | undefined;
  readonly code?: Code | undefined;
}

/** The application has not taken it, and is to get it again. */
export class DeliveryFailed extends Error {
  override readonly name = "DeliveryFailed";
  readonly httpStatus: number | undefined;
  /** The name is what a gRPC status is looked for by. */
  readonly code: Code | undefined;

  constructor(message: string, { httpStatus, code }: AppStatus = {}) {
    super(message);
    this.httpStatus = httpStatus;
    this.code = code;
  }
}

/** The application was not reached, which says nothing of the event: it waits, and no policy is about it. */
export class AppAway extends Error {
  override readonly name = "AppAway";
}

/** What would be the next attempt is one for another policy. */
class PolicyChanged extends Error {
  override readonly name = "PolicyChanged";
}

const failures: FailureKinds = {
  protocol: "grpc",
  httpStatusOf: (error) => (error instanceof DeliveryFailed ? error.httpStatus : undefined),
  isFinal: (error) => error instanceof AppAway || error instanceof PolicyChanged,
};

/**
 * Makes a delivery under the policy that holds: when that changes, the next attempt is under the other. Throws what the
 * last attempt threw, and the fault COMPONENT_UNAVAILABLE for one that took too long or was not made.
 */
export async function deliverUnderPolicy<T>(
  policyOf: () => Policy | undefined,
  attempt: (signal: AbortSignal) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (;;) {
    const policy = policyOf();
    if (!policy) return attempt(signal);
    const unlessChanged = async (until: AbortSignal) => {
      if (policyOf() !== policy) throw new PolicyChanged();
      return attempt(until);
    };
    try {
      return await policy.run(unlessChanged, signal, failures);
    } catch (error) {
      if (!(error instanceof PolicyChanged)) throw error;
    }
  }
}
