import { describe, expect, it } from "vitest";
import { CircuitBreaker } from "../../src/resilience/circuit-breaker.ts";
import { compileTrip, usualTrip } from "../../src/resilience/trip.ts";

const failing = () => Promise.reject(new Error("no"));
const passing = () => Promise.resolve("yes");

/** A breaker with a clock, and what becomes of calls. */
function make(settings: Partial<ConstructorParameters<typeof CircuitBreaker>[0]> = {}) {
  const clock = { ms: 0 };
  const all = { maxRequests: 1, intervalMs: 0, timeoutMs: 1000, trip: usualTrip, ...settings };
  const breaker = new CircuitBreaker(all, () => clock.ms);
  const call = (make: () => Promise<unknown> = failing) =>
    breaker.run(make, () => true).catch((error: Error) => error.message);
  return { breaker, clock, call };
}

describe("a circuit breaker", () => {
  it("opens after more than five failures in a row, and makes no call then", async () => {
    const { breaker, call } = make();
    for (let i = 0; i < 5; i++) expect(await call()).toBe("no");
    expect(await call(passing)).toBe("yes");
    for (let i = 0; i < 6; i++) expect(await call()).toBe("no");
    expect(breaker.state).toBe("open");
    expect(await call(passing)).toBe("circuit breaker is open");
  });

  it("lets so many calls through when its time is over, and closes when they went well", async () => {
    const { breaker, clock, call } = make({ maxRequests: 2, trip: compileTrip("consecutiveFailures >= 1") });
    await call();
    clock.ms = 999;
    expect(await call(passing)).toBe("circuit breaker is open");
    clock.ms = 1000;
    expect(breaker.state).toBe("half-open");
    let release = (_: string) => {};
    const slow = [1, 2].map(() =>
      call(() => new Promise<string>((resolve) => (release = chain(release, resolve)))),
    );
    expect(await call(passing)).toBe("too many requests");
    release("yes");
    expect(await Promise.all(slow)).toEqual(["yes", "yes"]);
    expect(breaker.state).toBe("closed");
  });

  it("opens again when a call fails that was let through", async () => {
    const { breaker, clock, call } = make({ trip: compileTrip("totalFailures > 0") });
    await call();
    clock.ms = 1000;
    await call();
    expect(breaker.state).toBe("open");
    clock.ms = 1999;
    expect(breaker.state).toBe("open");
  });

  it("forgets after its interval what it has counted", async () => {
    const { breaker, clock, call } = make({ intervalMs: 100, trip: compileTrip("totalFailures > 1") });
    await call();
    clock.ms = 100;
    await call();
    expect(breaker.state).toBe("closed");
    await call();
    expect(breaker.state).toBe("open");
  });

  it("does not count a call that ends in another state than it began in", async () => {
    const { breaker, clock, call } = make({ trip: compileTrip("totalFailures > 0") });
    let fail = () => {};
    const slow = call(() => new Promise((_, reject) => (fail = () => reject(new Error("late")))));
    await call();
    clock.ms = 1000;
    expect(breaker.state).toBe("half-open");
    fail();
    await slow;
    expect(breaker.state).toBe("half-open");
  });
});

describe("the condition of a circuit breaker", () => {
  const counts = {
    ...{ requests: 4, totalSuccesses: 2, totalFailures: 2 },
    ...{ consecutiveSuccesses: 0, consecutiveFailures: 1 },
  };

  it("is CEL over what was counted", () => {
    expect(compileTrip("requests > 3 && totalFailures * 2 >= requests")(counts)).toBe(true);
    expect(compileTrip("consecutiveFailures > 5")(counts)).toBe(false);
    expect(compileTrip("totalFailures / consecutiveSuccesses > 1")(counts)).toBe(false);
  });

  it("is refused when it is none", () => {
    for (const condition of ["failures > 1", "requests", "1 +", "requests > 'a'"])
      expect(() => compileTrip(condition)).toThrow();
  });
});

function chain(first: (value: string) => void, second: (value: string) => void) {
  return (value: string) => {
    first(value);
    second(value);
  };
}
