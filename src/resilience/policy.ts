/** A call under the policies of its target: retries around a circuit breaker around a timeout, as Dapr nests them. */
import { Code } from "@connectrpc/connect";
import { fault } from "../faults.ts";
import { pause } from "../pause.ts";
import { type BreakerSettings, CircuitBreaker, CircuitOpen } from "./circuit-breaker.ts";
import { type RetrySettings, waitBefore } from "./retry.ts";
import { httpStatusOf } from "./status-codes.ts";

/** What applies to a target; nothing, where something is left out. */
export interface PolicySettings {
  /** More than 0. */
  readonly timeoutMs?: number | undefined;
  readonly retry?: RetrySettings | undefined;
  readonly breaker?: BreakerSettings | undefined;
}

/** How failures of a call are told apart. */
export interface FailureKinds {
  /** Whose status codes `matching` is about; undefined: failures have none. */
  readonly protocol?: "http" | "grpc" | undefined;
  /** The HTTP status that a target answered with itself; undefined: it did not, and what has a status has a gRPC one. */
  httpStatusOf?(error: unknown): number | undefined;
  /** What would fail again, and says nothing of the target's health. */
  isFinal(error: unknown): boolean;
}

/** The policies of one target, and what its breaker has counted. */
export class Policy {
  readonly #settings: PolicySettings;
  readonly #breaker: CircuitBreaker | undefined;

  constructor(settings: PolicySettings) {
    this.#settings = settings;
    this.#breaker = settings.breaker && new CircuitBreaker(settings.breaker);
  }

  /** Makes a call, perhaps several times. Throws what the last of them threw, or the fault COMPONENT_UNAVAILABLE. */
  async run<T>(
    call: (signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
    kinds: FailureKinds,
  ): Promise<T> {
    const { retry } = this.#settings;
    const startedAt = performance.now();
    for (let retries = 1; ; retries++) {
      try {
        return await this.#guarded(call, signal, kinds);
      } catch (error) {
        if (!retry || signal.aborted || !isWorthRetrying(error, retry, kinds)) throw told(error);
        const waitMs = waitBefore(retries, retry, performance.now() - startedAt);
        if (waitMs === undefined) throw told(error);
        await pause(waitMs, signal);
        if (signal.aborted) throw told(error);
      }
    }
  }

  #guarded<T>(call: (signal: AbortSignal) => Promise<T>, signal: AbortSignal, kinds: FailureKinds) {
    if (!this.#breaker) return this.#timed(call, signal);
    return this.#breaker.run(
      () => this.#timed(call, signal),
      (error) => !signal.aborted && !kinds.isFinal(error),
    );
  }

  async #timed<T>(call: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const { timeoutMs } = this.#settings;
    if (timeoutMs === undefined) return call(signal);
    const late = AbortSignal.timeout(timeoutMs);
    // Who does not listen to its signal is not waited for.
    const passed = new Promise<never>((_, reject) => {
      late.addEventListener("abort", () => reject(new TimedOut()), { once: true });
    });
    passed.catch(() => {});
    try {
      return await Promise.race([call(AbortSignal.any([signal, late])), passed]);
    } catch (error) {
      throw late.aborted && !signal.aborted ? new TimedOut(error) : error;
    }
  }
}

/** The target did not answer in the time that its policy gives it. */
class TimedOut extends Error {
  override readonly name = "TimedOut";

  constructor(cause?: unknown) {
    super("context deadline exceeded", { cause });
  }
}

/** What a policy itself says is a fault; what the target threw stays what it is. */
function told(error: unknown): unknown {
  if (!(error instanceof CircuitOpen || error instanceof TimedOut)) return error;
  return fault("COMPONENT_UNAVAILABLE", error.message, { cause: error });
}

function isWorthRetrying(error: unknown, { matching }: RetrySettings, kinds: FailureKinds): boolean {
  if (error instanceof CircuitOpen || kinds.isFinal(error)) return false;
  if (!matching || !kinds.protocol || error instanceof TimedOut) return true;
  const answered = kinds.httpStatusOf?.(error);
  if (answered !== undefined) return matching.http?.(answered) ?? true;
  const code = statusOf(error);
  if (code === undefined) return true;
  if (kinds.protocol === "grpc") return matching.grpc?.(code) ?? true;
  return matching.http?.(httpStatusOf(code)) ?? true;
}

/** The status that the target itself gave, which may be wrapped: the innermost one. */
function statusOf(error: unknown): Code | undefined {
  let found: Code | undefined;
  for (let at = error; typeof at === "object" && at !== null; at = (at as { cause?: unknown }).cause) {
    const { code } = at as { code?: unknown };
    if (typeof code === "number" && code in Code) found = code;
  }
  return found;
}
