import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import type { Open } from "../../src/component.ts";
import { Opening, type OpeningStatus } from "../../src/components/opening.ts";
import { reasonOf } from "../../src/faults.ts";
import { openContext } from "./open-context.ts";

class Driver {
  closed = 0;
  close(): Promise<void> {
    this.closed++;
    return Promise.resolve();
  }
}

function opening(open: Open<Driver>, onChange?: (status: OpeningStatus) => void, initTimeoutMs = 5000) {
  const context = openContext({ name: "store" });
  const options = { type: "state.test", open, context, initTimeoutMs, required: true };
  return new Opening<Driver>(onChange ? { ...options, onChange } : options);
}

const never = new AbortController().signal;

describe("a component being opened", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("serves as soon as it is open", async () => {
    const driver = new Driver();
    const component = opening(() => Promise.resolve(driver));
    expect(component.status.state).toBe("opening");
    component.start();
    expect(await component.ready(never)).toBe(driver);
    expect(component.current()).toBe(driver);
    expect(component.status).toMatchObject({ state: "ready", message: "" });
  });

  it("is opened once, however often it is started", async () => {
    const open = vi.fn(() => Promise.resolve(new Driver()));
    const component = opening(open);
    component.start();
    component.start();
    await component.ready(never);
    expect(open).toHaveBeenCalledTimes(1);
  });

  it("tells clients that it is unavailable, and when to try again", () => {
    const component = opening(() => new Promise(() => {}));
    component.start();
    const error = ConnectError.from(thrown(() => component.current()));
    expect(error.code).toBe(Code.Unavailable);
    expect(reasonOf(error)).toBe("COMPONENT_UNAVAILABLE");
    expect(error.findDetails(RetryInfoSchema)).toHaveLength(1);
  });

  it("tries again for ever, less and less often, and opens when its server is there", async () => {
    const driver = new Driver();
    const attempts: number[] = [];
    let away = true;
    const component = opening(() => {
      attempts.push(Date.now());
      return away ? Promise.reject(new Error("connection refused")) : Promise.resolve(driver);
    });
    component.start();
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect(component.status).toMatchObject({ state: "failed", message: "connection refused" });
    const gaps = attempts.slice(1).map((at, index) => at - attempts[index]!);
    expect(gaps[0]).toBeLessThanOrEqual(250);
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(15_000);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(30_000);
    away = false;
    await vi.advanceTimersByTimeAsync(30_000);
    expect(component.current()).toBe(driver);
  });

  it("tries again at once when what it needs has come, and soon after that", async () => {
    let attempts = 0;
    const open = () => {
      attempts += 1;
      return Promise.reject(new Error("nobody is there"));
    };
    let come = () => {};
    const comes = () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      come = resolve;
      return promise;
    };
    const context = openContext({ name: "store" });
    const component = new Opening<Driver>({
      ...{ type: "state.test", open, context, initTimeoutMs: 5000, required: true, comes },
    });
    component.start();
    // By now the pauses are long.
    await vi.advanceTimersByTimeAsync(300_000);
    const before = attempts;
    come();
    await vi.advanceTimersByTimeAsync(0);
    expect(attempts).toBe(before + 1);
    await vi.advanceTimersByTimeAsync(2000);
    expect(attempts).toBeGreaterThan(before + 2);
    await component.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  it("remembers since when it has failed, over all attempts", async () => {
    const component = opening(() => Promise.reject(new Error("away")));
    component.start();
    await vi.advanceTimersByTimeAsync(1);
    const since = component.status.sinceMs;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(component.status.sinceMs).toBe(since);
  });

  it("says in RetryInfo how long it is until the next attempt", async () => {
    let attempts = 0;
    const component = opening(() => {
      attempts++;
      return Promise.reject(new Error("away"));
    });
    component.start();
    await vi.advanceTimersByTimeAsync(60_000);
    const before = attempts;
    const error = ConnectError.from(thrown(() => component.current()));
    const delay = error.findDetails(RetryInfoSchema)[0]!.retryDelay!;
    const delayMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
    await vi.advanceTimersByTimeAsync(delayMs - 1);
    expect(attempts).toBe(before);
    await vi.advanceTimersByTimeAsync(2);
    expect(attempts).toBe(before + 1);
  });

  it("gives up an attempt after the init timeout, also of a library that heeds no signal", async () => {
    const late = new Driver();
    const first = Promise.withResolvers<Driver>();
    const open = vi.fn<Open<Driver>>().mockReturnValueOnce(first.promise).mockResolvedValue(new Driver());
    const seen: OpeningStatus[] = [];
    const component = opening(open, (status) => seen.push(status), 2000);
    component.start();
    await vi.advanceTimersByTimeAsync(2000);
    expect(seen.at(-1)).toMatchObject({ state: "failed", message: "no answer within 2000 ms" });
    await vi.advanceTimersByTimeAsync(1000);
    expect(component.status.state).toBe("ready");
    first.resolve(late);
    await vi.advanceTimersByTimeAsync(0);
    expect(late.closed).toBe(1);
    expect(component.current()).not.toBe(late);
  });

  it("keeps passwords out of its message", async () => {
    const component = opening(() =>
      Promise.reject(new Error("cannot reach redis://admin:hunter2@db:6379 with password=hunter2; bye")),
    );
    component.start();
    await vi.advanceTimersByTimeAsync(1);
    expect(component.status.message).toBe("cannot reach redis://***@db:6379 with password=***; bye");
  });

  it("stops waiting when the caller does", async () => {
    const component = opening(() => new Promise(() => {}));
    component.start();
    const caller = new AbortController();
    const waiting = component.ready(caller.signal);
    caller.abort();
    await expect(waiting).rejects.toSatisfy((error) => reasonOf(error) === "COMPONENT_UNAVAILABLE");
  });

  it("closes its driver, once, and is unavailable after that", async () => {
    const driver = new Driver();
    const component = opening(() => Promise.resolve(driver));
    component.start();
    await component.ready(never);
    await component.close();
    expect(driver.closed).toBe(1);
    expect(reasonOf(thrown(() => component.current()))).toBe("COMPONENT_UNAVAILABLE");
  });

  it("stops trying when it is closed, and leaves no timer behind", async () => {
    const open = vi.fn<Open<Driver>>(() => Promise.reject(new Error("away")));
    const component = opening(open);
    component.start();
    await vi.advanceTimersByTimeAsync(1);
    await component.close();
    const attempts = open.mock.calls.length;
    expect(vi.getTimerCount()).toBe(0);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(open).toHaveBeenCalledTimes(attempts);
  });

  it("closes also while an attempt is under way, and tells those who wait", async () => {
    const component = opening(
      ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", reject)),
    );
    component.start();
    const waiting = component.ready(never);
    await component.close();
    await expect(waiting).rejects.toSatisfy((error) => reasonOf(error) === "COMPONENT_UNAVAILABLE");
    expect(vi.getTimerCount()).toBe(0);
  });
});

function thrown(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}
