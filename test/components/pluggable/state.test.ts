/** Stores that lack something, fail, or go away. */
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ComponentStatus } from "../../../src/blocks/component-status.ts";
import { EtagMismatch } from "../../../src/blocks/state/driver.ts";
import { deleteOf, setOf } from "../../conformance/state/fixture.ts";
import { all, call, openState } from "./drivers.ts";
import { memoryStore } from "./memory-store.ts";
import { SocketsFolder } from "./node-component.ts";

describe("a store", () => {
  it("is refused what it does not say that it can, and keeps no etags then", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("store", memoryStore([]));
    const driver = await openState(sockets.path);
    expect(driver.supports).toMatchObject({ transactions: false, timeToLive: false, etags: false });
    expect(await driver.write([setOf("key", "value")], call())).toEqual([""]);
    await driver.close();
  });

  it("that lacks BulkGet is asked for one item after the other", async () => {
    await using sockets = await SocketsFolder.make();
    const services = memoryStore(all);
    const { bulkGet: _, ...state } = services.state!;
    await sockets.serve("store", { ...services, state });
    const driver = await openState(sockets.path);
    await driver.write([setOf("a", "1")], call());
    await driver.write([setOf("b", "2")], call());
    const items = await driver.get(["a", "none", "b"], call());
    expect(items.map((item) => item && Buffer.from(item.value!).toString())).toEqual(["1", undefined, "2"]);
    await driver.close();
  });

  it("gives an etag that never matches to a writer whose value was overwritten before it was read", async () => {
    await using sockets = await SocketsFolder.make();
    const services = memoryStore(all);
    const set = services.state!.set!;
    await sockets.serve("store", {
      ...services,
      state: {
        ...services.state,
        // Somebody else is quicker.
        set: async (request, context) => {
          await set(request, context);
          return set({ ...request, value: Buffer.from("of somebody else") }, context);
        },
      },
    });
    const driver = await openState(sockets.path);
    const [etag] = await driver.write([setOf("key", "mine")], call());
    const again = setOf("key", "again", { precondition: { kind: "etag", etag: etag! } });
    await expect(driver.write([again], call())).rejects.toBeInstanceOf(EtagMismatch);
    await driver.close();
  });

  it("that says of an etag only that something was wrong is looked into", async () => {
    await using sockets = await SocketsFolder.make();
    const services = memoryStore(all);
    // As Dapr's SDK for Go does it.
    const plainly =
      <Args extends readonly unknown[], Answer>(work: (...given: Args) => Answer) =>
      (...given: Args): Answer => {
        try {
          return work(...given);
        } catch (error) {
          throw new ConnectError(ConnectError.from(error).rawMessage, Code.Unknown);
        }
      };
    await sockets.serve("store", {
      ...services,
      state: { ...services.state, set: plainly(services.state!.set!) },
      transactional: { transact: plainly(services.transactional!.transact!) },
    });
    const driver = await openState(sockets.path);
    await driver.write([setOf("key", "there")], call());
    const stale = setOf("key", "again", { precondition: { kind: "etag", etag: "stale" } });
    await expect(driver.write([stale], call())).rejects.toBeInstanceOf(EtagMismatch);
    await expect(driver.write([deleteOf("other"), stale], call())).rejects.toMatchObject({ key: "key" });
    await driver.close();
  });

  it("that fails a write for another reason says so, also when the write had a precondition", async () => {
    await using sockets = await SocketsFolder.make();
    const services = memoryStore(all);
    const set = services.state!.set!;
    await sockets.serve("store", {
      ...services,
      state: {
        ...services.state,
        set: async (request, context) => {
          await set(request, context);
          throw new ConnectError("the answer got lost", Code.Internal);
        },
      },
    });
    const driver = await openState(sockets.path);
    const first = setOf("key", "value", { precondition: { kind: "absent" } });
    await expect(driver.write([first], call())).rejects.toThrow("the answer got lost");
    await driver.close();
  });

  it("that writes JSON in its own way gives the etag all the same", async () => {
    await using sockets = await SocketsFolder.make();
    const services = memoryStore(all);
    const set = services.state!.set!;
    await sockets.serve("store", {
      ...services,
      state: {
        ...services.state,
        set: (request, context) => set({ ...request, value: Buffer.from('{"a":1,"b":2}') }, context),
      },
    });
    const driver = await openState(sockets.path);
    const json = setOf("key", '{ "b": 2, "a": 1 }', { contentType: "application/json" });
    const [etag] = await driver.write([json], call());
    expect((await driver.get(["key"], call()))[0]!.etag).toBe(etag);
    await driver.close();
  });

  it("that writes several at once says when one of them does not match", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("store", memoryStore(all));
    const driver = await openState(sockets.path);
    await driver.writeEach([setOf("a"), setOf("b")], call());
    expect((await driver.get(["a", "b"], call())).filter(Boolean)).toHaveLength(2);
    const wrong = deleteOf("b", { kind: "etag", etag: "wrong" });
    await expect(driver.writeEach([deleteOf("a"), wrong], call())).rejects.toBeInstanceOf(EtagMismatch);
    await driver.close();
  });

  it("that does not answer fails the call when its time is over, and no other", async () => {
    await using sockets = await SocketsFolder.make();
    const services = memoryStore(all);
    const get: NonNullable<typeof services.state>["get"] = ({ key }, context) =>
      key === "hangs" ? new Promise(() => {}) : services.state!.get!({ key } as never, context);
    await sockets.serve("store", { ...services, state: { ...services.state, get } });
    const driver = await openState(sockets.path);
    const error = await driver
      .get(["hangs"], { signal: AbortSignal.timeout(200) })
      .catch((thrown: unknown) => thrown);
    expect(driver.classify(error)).toBe("cancelled");
    expect(await driver.get(["other"], call())).toEqual([undefined]);
    await driver.close();
  });

  it("passes its errors on by their kind", async () => {
    await using sockets = await SocketsFolder.make();
    const get = ({ key }: { key: string }) => {
      throw new ConnectError("as told", key === "busy" ? Code.Unavailable : Code.DataLoss);
    };
    await sockets.serve("store", { state: { get } });
    const driver = await openState(sockets.path);
    for (const [key, kind] of [
      ["busy", "unavailable"],
      ["broken", "refused"],
    ] as const) {
      const error = await driver.get([key], call()).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ComponentStatus);
      expect(driver.classify(error)).toBe(kind);
    }
    await driver.close();
  });

  it("is initialized again on every connection, before anything else is asked of it", async () => {
    await using sockets = await SocketsFolder.make();
    const services = memoryStore(all);
    const asked: string[] = [];
    const component = await sockets.serve("store", {
      ...services,
      state: {
        ...services.state,
        init: () => {
          asked.push("init");
          return {};
        },
        get: (request, context) => {
          asked.push("get");
          return services.state!.get!(request, context);
        },
      },
    });
    const driver = await openState(sockets.path);
    await driver.get(["key"], call());
    component.disconnect();
    // What reads is repeated, whether it finds out by itself or is told.
    await driver.get(["key"], call());
    expect(asked).toEqual(["init", "get", "init", "get"]);
    await driver.close();
  });

  it("that has gone is waited for, and what wrote meanwhile is told when the wait is over", async () => {
    await using sockets = await SocketsFolder.make();
    const component = await sockets.serve("store", memoryStore(all));
    const driver = await openState(sockets.path);
    await component.stop();
    const error = await driver
      .write([setOf("key")], { signal: AbortSignal.timeout(300) })
      .catch((thrown: unknown) => thrown);
    expect(driver.classify(error)).toBe("cancelled");
    const waiting = driver.get(["key"], call());
    await sockets.serve("store", memoryStore(all));
    expect(await waiting).toEqual([undefined]);
    await driver.close();
  });
});
