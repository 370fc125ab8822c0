import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { Policy, type PolicySettings } from "../../src/resilience/policy.ts";
import { type RetrySettings, waitBefore } from "../../src/resilience/retry.ts";
import { httpStatusOf, parseStatusCodes } from "../../src/resilience/status-codes.ts";
import { compileTrip } from "../../src/resilience/trip.ts";

const never = new AbortController().signal;
const retry = (more: Partial<RetrySettings> = {}): RetrySettings => ({
  ...{ policy: "constant", durationMs: 1, maxIntervalMs: 1000, maxRetries: 3 },
  ...more,
});

/** How often a call that fails is made, and with what it fails. */
async function attempts(settings: PolicySettings, error: unknown, kinds = {}, signal = never) {
  let calls = 0;
  const policy = new Policy(settings);
  const failure = await policy
    .run(
      () => {
        calls++;
        return Promise.reject(error);
      },
      signal,
      { isFinal: () => false, ...kinds },
    )
    .catch((thrown: unknown) => thrown);
  return { calls, failure };
}

describe("retries", () => {
  it("are made so often, and the last failure is told", async () => {
    const error = new Error("no");
    expect(await attempts({ retry: retry() }, error)).toEqual({ calls: 4, failure: error });
    expect(await attempts({ retry: retry({ maxRetries: 0 }) }, error)).toMatchObject({ calls: 1 });
  });

  it("are not made for what would fail again, or when nobody waits any more", async () => {
    expect(await attempts({ retry: retry() }, new Error("x"), { isFinal: () => true })).toMatchObject({
      calls: 1,
    });
    expect(await attempts({ retry: retry() }, new Error("x"), {}, AbortSignal.abort())).toMatchObject({
      calls: 1,
    });
  });

  it("are made for the codes that match, by the status of the protocol and the innermost error", async () => {
    const matching = {
      http: parseStatusCodes("429,500-599", [100, 599]),
      grpc: parseStatusCodes("8", [0, 16]),
    };
    const settings = { retry: retry({ matching }) };
    const wrapped = (code: Code) => new ConnectError("failed", Code.Internal, undefined, undefined, { code });
    const calls = async (code: Code, protocol: "http" | "grpc" | undefined) =>
      (await attempts(settings, wrapped(code), { protocol })).calls;
    expect(await calls(Code.Unavailable, "http")).toBe(4);
    expect(await calls(Code.FailedPrecondition, "http")).toBe(1);
    expect(await calls(Code.ResourceExhausted, "grpc")).toBe(4);
    expect(await calls(Code.Unavailable, "grpc")).toBe(1);
    expect(await calls(Code.Unavailable, undefined)).toBe(4);
    expect((await attempts(settings, new Error("no status"), { protocol: "http" })).calls).toBe(4);
  });

  it("wait longer each time, but not longer than they may, nor longer than a quarter of an hour in all", () => {
    const growing = retry({ policy: "exponential", durationMs: 100, maxIntervalMs: 300, maxRetries: 1e9 });
    for (const [number, middle] of [
      [1, 100],
      [2, 150],
      [3, 225],
      [9, 300],
    ] as const) {
      const waitMs = waitBefore(number, growing, 0)!;
      expect(waitMs).toBeGreaterThanOrEqual(middle / 2);
      expect(waitMs).toBeLessThanOrEqual(middle * 1.5);
    }
    expect(waitBefore(2, growing, 15 * 60_000 + 1)).toBeUndefined();
    expect(waitBefore(2, retry({ maxRetries: Number.POSITIVE_INFINITY }), 1e9)).toBe(1);
  });
});

describe("a timeout", () => {
  it("ends each attempt, also of who does not listen to its signal", async () => {
    let calls = 0;
    const policy = new Policy({ timeoutMs: 5, retry: retry({ maxRetries: 1 }) });
    const signals: AbortSignal[] = [];
    const hanging = (signal: AbortSignal) => {
      calls++;
      signals.push(signal);
      return new Promise<never>(() => {});
    };
    await expect(policy.run(hanging, never, { isFinal: () => false })).rejects.toThrow(
      "context deadline exceeded",
    );
    expect(calls).toBe(2);
    expect(signals.every(({ aborted }) => aborted)).toBe(true);
  });
});

describe("policies together", () => {
  it("end retries when the breaker opens", async () => {
    const breaker = {
      ...{ maxRequests: 1, intervalMs: 0, timeoutMs: 60_000 },
      trip: compileTrip("consecutiveFailures > 1"),
    };
    const { calls, failure } = await attempts({ breaker, retry: retry({ maxRetries: 9 }) }, new Error("no"));
    expect(calls).toBe(2);
    expect(failure).toMatchObject({ rawMessage: "circuit breaker is open" });
  });
});

describe("a list of status codes", () => {
  it("has codes and ranges, within what there is", () => {
    const codes = parseStatusCodes("1, 3-5", [0, 16])!;
    expect([0, 1, 2, 3, 4, 5, 6].filter(codes)).toEqual([1, 3, 4, 5]);
    for (const list of ["a", "17", "5-3", "1,,2", "-1", "1-2-3"])
      expect(parseStatusCodes(list, [0, 16])).toBeUndefined();
  });

  it("is about HTTP's statuses where gRPC's codes are", () => {
    expect([Code.Unavailable, Code.ResourceExhausted, Code.FailedPrecondition].map(httpStatusOf)).toEqual([
      503, 429, 400,
    ]);
  });
});
