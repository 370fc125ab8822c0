import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { PositionExpired, type StateDriver } from "../../../src/blocks/state/driver.ts";
import { stateSettings } from "../../../src/blocks/state/settings.ts";
import { StateStore } from "../../../src/blocks/state/store.ts";
import { fault } from "../../../src/faults.ts";
import type { Span, Tracing } from "../../../src/telemetry/tracing.ts";
import { quietTelemetry } from "../../telemetry/quiet-telemetry.ts";
import { all, bytesOf, failureOf, openMemory, openState, storeOn, textOf } from "./state-client.ts";

const call = { signal: new AbortController().signal };
const set = (key: string, value = "v") =>
  ({
    kind: "set",
    key,
    value: bytesOf(value),
    contentType: "",
    metadata: {},
    timeToLiveMs: undefined,
    precondition: undefined,
  }) as const;

const keysIn = async (driver: StateDriver) => {
  const page = await driver.list!({ prefix: "", after: undefined, limit: 1000, keysOnly: true }, call);
  return page.items.map(({ key }) => key);
};

describe("what is put before a key", () => {
  it.each([
    [undefined, "app||k"],
    ["", "app||k"],
    ["appid", "app||k"],
    ["AppID", "app||k"],
    ["name", "state||k"],
    ["none", "k"],
    ["namespace", "default.app||k"],
    ["Shared-Orders", "shared-orders||k"],
  ])("is Dapr's, for keyPrefix %s", async (keyPrefix, stored) => {
    const { driver, client } = await openState({ settings: keyPrefix === undefined ? {} : { keyPrefix } });
    await client.set({ key: "k", value: bytesOf("v") });
    expect(await keysIn(driver)).toEqual([stored]);
    expect((await client.get({ key: "k" })).item?.key).toBe("k");
    expect((await client.list({})).items.map(({ key }) => key)).toEqual(["k"]);
  });

  it("has the namespace that it is given", async () => {
    const driver = await openMemory();
    const connection = {
      component: "s",
      type: "state.in-memory",
      current: () => driver,
      ready: async () => driver,
    };
    const settings = stateSettings.parse({ keyPrefix: "namespace" });
    const options = { connection, settings, telemetry: quietTelemetry(), appId: "app", namespace: "shop" };
    await new StateStore(options).set(set("k"), call);
    expect(await keysIn(driver)).toEqual(["shop.app||k"]);
  });

  it("keeps applications that share a store apart", async () => {
    const driver = await openMemory();
    const mine = storeOn(driver, stateSettings.parse({ keyPrefix: "mine" }));
    const yours = storeOn(driver, stateSettings.parse({ keyPrefix: "yours" }));
    await mine.set(set("k", "mine"), call);
    await yours.set(set("k", "yours"), call);
    expect(textOf((await mine.get("k", call))?.value)).toBe("mine");
    const query = { prefix: "", after: undefined, limit: 10, keysOnly: false, maxBytes: 1000 };
    expect((await yours.list(query, call)).items.map(({ key, value }) => [key, textOf(value)])).toEqual([
      ["k", "yours"],
    ]);
  });
});

describe("the component's time to live", () => {
  const expiresInMs = async (settings: Record<string, string>, timeToLiveMs?: number) => {
    const { store } = await openState({ settings });
    await store.set({ ...set("k"), timeToLiveMs }, call);
    const expiresAtMs = (await store.get("k", call))?.expiresAtMs;
    return expiresAtMs && Math.round((expiresAtMs - Date.now()) / 1000);
  };

  it("is for items that say nothing of it", async () => {
    expect(await expiresInMs({ ttlInSeconds: "60" })).toBe(60);
    expect(await expiresInMs({ ttlInSeconds: "60" }, 10_000)).toBe(10);
  });

  it("of 0 or -1 is none, as without one", async () => {
    for (const settings of [{}, { ttlInSeconds: "0" }, { ttlInSeconds: "-1" }] as Record<string, string>[]) {
      expect(await expiresInMs(settings)).toBeUndefined();
    }
  });

  it("is for chunks and transactions too", async () => {
    const { store } = await openState({ settings: { ttlInSeconds: "60" } });
    await store.transact([set("a")], call);
    await store.write(set("b"), (async function* () {})(), call);
    const items = await store.getAll(["a", "b"], call);
    expect(items.map((item) => item?.expiresAtMs !== undefined)).toEqual([true, true]);
  });
});

describe("an error of the driver", () => {
  /** What a client gets for an error of the driver, which classifies it as given. */
  const failureFor = async (
    error: unknown,
    kind?: ReturnType<StateDriver["classify"]>,
    signal = call.signal,
  ) => {
    const { store, driver } = await openState();
    driver.get = () => Promise.reject(error);
    driver.classify = () => kind;
    return failureOf(store.get("k", { signal }));
  };

  it("says to try again when the store is away, and keeps the library's words to itself", async () => {
    const failure = await failureFor(new Error("ECONNREFUSED 10.0.0.1:6379 password=x"), "unavailable");
    expect(failure).toMatchObject({
      code: "Unavailable",
      reason: "COMPONENT_UNAVAILABLE",
      metadata: { component: "state" },
    });
    expect(failure.message).not.toContain("10.0.0.1");
  });

  it("says not to try again when the store refused, or nobody knows the error", async () => {
    for (const kind of ["refused", undefined] as const) {
      const failure = await failureFor(new Error("secret words"), kind);
      expect(failure).toMatchObject({ code: "Internal", reason: "COMPONENT_FAILED" });
      expect(failure.message).not.toContain("secret");
    }
  });

  it("says why the call ended when it did", async () => {
    const ended = (reason: unknown) => failureFor(reason, "cancelled", AbortSignal.abort(reason));
    const timeout = new DOMException("time is up", "TimeoutError");
    expect((await ended(timeout)).reason).toBe("DEADLINE_EXCEEDED");
    expect((await ended(new ConnectError("late", Code.DeadlineExceeded))).reason).toBe("DEADLINE_EXCEEDED");
    expect((await ended(new ConnectError("left", Code.Canceled))).reason).toBe("CANCELLED");
    expect((await ended(new ConnectError("bye", Code.Unavailable))).reason).toBe("SHUTTING_DOWN");
    expect((await ended(fault("SHUTTING_DOWN", "bye"))).reason).toBe("SHUTTING_DOWN");
    expect((await failureFor(timeout, undefined, AbortSignal.abort(timeout))).reason).toBe(
      "DEADLINE_EXCEEDED",
    );
  });

  it("is a fault already when the component is not open", async () => {
    const unavailable = fault("COMPONENT_UNAVAILABLE", "it is being opened", { retryAfterMs: 100 });
    const current = (): StateDriver => {
      throw unavailable;
    };
    const connection = { component: "s", type: "state.redis", current, ready: async () => current() };
    const telemetry = quietTelemetry();
    const store = new StateStore({ connection, settings: stateSettings.parse({}), telemetry, appId: "app" });
    await expect(store.get("k", call)).rejects.toBe(unavailable);
    await expect(store.set(set("k"), call)).rejects.toBe(unavailable);
    await expect(all(store.read("k", call))).rejects.toBe(unavailable);
    await expect(all(store.watch({ kind: "key", key: "k", resumeAfter: undefined }, call))).rejects.toBe(
      unavailable,
    );
  });

  it("of a position that is too old is POSITION_EXPIRED", async () => {
    const { store, driver } = await openState();
    driver.watch = () =>
      // biome-ignore lint/correctness/useYield: a watch that fails before it tells anything.
      (async function* () {
        throw new PositionExpired();
      })();
    const watch = all(store.watch({ kind: "key", key: "k", resumeAfter: undefined }, call));
    expect(await failureOf(watch)).toMatchObject({ code: "OutOfRange", reason: "POSITION_EXPIRED" });
  });

  it("is not made of a watch that the store ended without one: that says to try again", async () => {
    const { store, driver } = await openState();
    driver.watch = () => (async function* () {})();
    const watch = all(store.watch({ kind: "key", key: "k", resumeAfter: undefined }, call));
    expect(await failureOf(watch)).toMatchObject({ reason: "COMPONENT_UNAVAILABLE" });
  });
});

describe("a list", () => {
  it("reads from the store no more values than go into the page", async () => {
    const { store, driver } = await openState();
    for (let i = 0; i < 100; i++) await store.set(set(`${i}`, "x".repeat(6000)), call);
    const get = driver.get.bind(driver);
    const asked: string[] = [];
    driver.get = (keys, given) => {
      asked.push(...keys);
      return get(keys, given);
    };
    const query = { prefix: "", after: undefined, limit: 100, keysOnly: false, maxBytes: 20_000 };
    expect((await store.list(query, call)).items).toHaveLength(3);
    expect(asked).toHaveLength(3);
  });

  it("goes on when all keys of a page are gone by the time their values are read", async () => {
    const { store, driver } = await openState();
    for (const key of ["a", "b", "c"]) await store.set(set(key), call);
    const get = driver.get.bind(driver);
    driver.get = async (keys, given) => {
      for (const key of ["a", "b"]) await store.delete(key, undefined, call);
      return get(keys, given);
    };
    const query = { prefix: "", limit: 2, keysOnly: false, maxBytes: 10_000 };
    const first = await store.list({ ...query, after: undefined }, call);
    expect(first).toEqual({ items: [], after: "b" });
    const second = await store.list({ ...query, after: first.after }, call);
    expect(second.items.map(({ key }) => key)).toEqual(["c"]);
    expect(second.after).toBeUndefined();
  });

  it("stays under its limit when values grow between their sizes and themselves", async () => {
    const { store, driver } = await openState();
    for (const key of ["a", "b", "c"]) await store.set(set(key), call);
    const get = driver.get.bind(driver);
    driver.get = async (keys, given) => {
      await store.transact([set("a", "x".repeat(6000)), set("b", "x".repeat(6000))], call);
      driver.get = get;
      return get(keys, given);
    };
    const query = { prefix: "", limit: 10, keysOnly: false, maxBytes: 10_000 };
    const first = await store.list({ ...query, after: undefined }, call);
    expect(first.items.map(({ key, valueBytes }) => [key, valueBytes])).toEqual([["a", 6000]]);
    expect(first.after).toBe("a");
  });
});

describe("measures", () => {
  it("count operations by outcome, and time them", async () => {
    const { client, telemetry } = await openState();
    const { etag } = await client.set({ key: "k" });
    await client.set({ key: "k" });
    await failureOf(client.set({ key: "k", precondition: { condition: { case: "etag", value: etag } } }));
    await client.get({ key: "k" });
    const text = await telemetry.metrics.text();
    const count = (operation: string, outcome: string) =>
      new RegExp(
        `operations_total\\{component="state",operation="${operation}",outcome="${outcome}"\\} (\\d+)`,
      ).exec(text)?.[1];
    expect(count("set", "ok")).toBe("2");
    expect(count("set", "etag_mismatch")).toBe("1");
    expect(count("get", "ok")).toBe("1");
    expect(text).toMatch(/operation_duration_seconds_count\{component="state",operation="set"\} 3/);
  });
});

describe("spans", () => {
  it("are made of each operation under the call's own, where there is tracing", async () => {
    const spans: { name: string; parent: string; attributes: unknown; error: unknown }[] = [];
    const tracing: Tracing = {
      enabled: true,
      startSpan(name, kind, parent, attributes): Span {
        expect(kind).toBe("client");
        return {
          headers: parent,
          set: () => undefined,
          end: (error) => spans.push({ name, parent: parent.traceparent, attributes, error }),
        };
      },
    };
    const { client } = await openState({ telemetry: { ...quietTelemetry(), tracing } });
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await client.set({ key: "k" }, { headers: { traceparent } });
    await failureOf(client.delete({ key: "k", precondition: { condition: { case: "etag", value: "x" } } }));
    expect(spans).toMatchObject([
      {
        name: "set state",
        parent: traceparent,
        attributes: {
          "db.system.name": "in-memory",
          "db.operation.name": "set",
          "outrider.component": "state",
        },
        error: undefined,
      },
      { name: "delete state", parent: "", error: { code: Code.Aborted } },
    ]);
  });
});
