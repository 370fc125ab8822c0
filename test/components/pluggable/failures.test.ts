/** Components that are not there, not well, or not what they should be. */
import { writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ComponentStatus } from "../../../src/blocks/component-status.ts";
import type { Received } from "../../../src/blocks/pubsub/driver.ts";
import { EtagMismatch } from "../../../src/blocks/state/driver.ts";
import { PluggablePubSub } from "../../../src/components/pluggable/pubsub.ts";
import { PluggableState } from "../../../src/components/pluggable/state.ts";
import { outgoing, textOf } from "../../conformance/pubsub/fixture.ts";
import { deleteOf, setOf } from "../../conformance/state/fixture.ts";
import { openContext } from "../open-context.ts";
import { memoryStore } from "./memory-store.ts";
import { PushBroker, SocketsFolder } from "./node-component.ts";
import { describeWithPython, PythonComponent } from "./python-component.ts";

const call = () => ({ signal: AbortSignal.timeout(20_000) });
const all = ["ETAG", "TRANSACTIONAL", "TTL"];

function openState(folder: string, socket = "store", signal = AbortSignal.timeout(5000)) {
  const options = { folder: { path: folder, named: true }, socket, properties: {} };
  return PluggableState.open(options, openContext({ signal }));
}

function openPubSub(folder: string, socket = "broker") {
  const options = { folder: { path: folder, named: true }, socket, properties: {} };
  return PluggablePubSub.open(options, openContext());
}

describe("opening a component", () => {
  it("says which socket is missing, and in which folder", async () => {
    await using sockets = await SocketsFolder.make();
    await expect(openState(sockets.path)).rejects.toThrow(`there is no socket "store" in ${sockets.path}`);
    await expect(openState(join(sockets.path, "no-folder"))).rejects.toThrow('there is no socket "store"');
    await writeFile(join(sockets.path, "store.sock"), "a file, and no socket");
    await expect(openState(sockets.path)).rejects.toThrow('there is no socket "store"');
  });

  it("finds the socket whatever its extension and the case of its name", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("My.Store", memoryStore(all));
    const driver = await openState(sockets.path, "my.store");
    await driver.ping(call());
    await driver.close();
  });

  it.each(["v1", "v1alpha"] as const)(
    "asks a server for its services that has reflection %s",
    async (version) => {
      await using sockets = await SocketsFolder.make();
      await sockets.serve("store", memoryStore(all), version);
      const driver = await openState(sockets.path);
      expect(driver.supports).toMatchObject({ transactions: true, timeToLive: true, etags: true });
      await driver.close();
    },
  );

  it("says what it found where the service is missing, or reflection", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("broker", { pubsub: {} });
    await expect(openState(sockets.path, "broker")).rejects.toThrow(
      /does not serve dapr\.proto\.components\.v1\.StateStore; it serves: dapr\.proto\.components\.v1\.PubSub/,
    );
    await sockets.serve("silent", memoryStore(all), "none");
    await expect(openState(sockets.path, "silent")).rejects.toThrow(
      "does not tell its services by reflection",
    );
  });

  it("passes on why the component refuses its settings", async () => {
    await using sockets = await SocketsFolder.make();
    const init = () => {
      throw new ConnectError("connectionString is missing", Code.InvalidArgument);
    };
    await sockets.serve("store", { state: { init } });
    await expect(openState(sockets.path)).rejects.toThrow(
      '"store" could not be initialized: connectionString is missing',
    );
  });

  it("gives up when nobody answers within the time that it has", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("store", { state: { init: () => new Promise(() => {}) } });
    await expect(openState(sockets.path, "store", AbortSignal.timeout(300))).rejects.toThrow();
  });

  it.each([
    ["hangs up", (socket: { end(): void }) => socket.end()],
    ["says nothing", () => {}],
    ["talks nonsense", (socket: { write(text: string): void }) => socket.write("SSH-2.0-OpenSSH_9.6\r\n")],
  ] as const)("fails where somebody listens who %s", async (_what, answer) => {
    await using sockets = await SocketsFolder.make();
    await using _ = await listen(join(sockets.path, "store.sock"), answer);
    await expect(openState(sockets.path, "store", AbortSignal.timeout(500))).rejects.toThrow(
      "nobody answers at",
    );
  });
});

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

describe("a broker", () => {
  const event = (id: string) => ({ topicName: "t", id, data: Buffer.from(`{"text":"${id}"}`) });
  const raw = { topic: "t", group: "g", start: { at: "earliest" }, ordered: false, raw: true } as const;

  it("is asked for messages as they are wanted, and is not answered for one that is to come again", async () => {
    await using sockets = await SocketsFolder.make();
    const broker = new PushBroker();
    await sockets.serve("broker", { pubsub: broker.implementation });
    const driver = await openPubSub(sockets.path);
    const subscription = await driver.open(raw, call());
    for (const id of ["1", "2", "3"]) broker.push(event(id));
    const [first] = await subscription.receive(1, call());
    await subscription.settle([{ receipt: first!.receipt, kind: "again", delayMs: 0 }], call());
    const more: Received[] = [];
    while (more.length < 3) more.push(...(await subscription.receive(3, call())));
    expect(more.map(({ attempt }) => attempt).sort()).toEqual([1, 1, 2]);
    expect(broker.answers).toEqual([]);
    await subscription.settle(
      more.map(({ receipt }) => ({ receipt, kind: "done" })),
      call(),
    );
    await expect
      .poll(() => broker.answers.map(({ ackMessageId }) => ackMessageId).sort())
      .toEqual(["1", "2", "3"]);
    await driver.close();
  });

  it("that gives a message of which we have not said anything yet is not heard twice", async () => {
    await using sockets = await SocketsFolder.make();
    const broker = new PushBroker();
    await sockets.serve("broker", { pubsub: broker.implementation });
    const driver = await openPubSub(sockets.path);
    const subscription = await driver.open(raw, call());
    for (const id of ["1", "1", "2"]) broker.push(event(id));
    const got: string[] = [];
    while (got.length < 2) got.push(...(await subscription.receive(5, call())).map(textOf));
    expect(got).toEqual(['{"text":"1"}', '{"text":"2"}']);
    await driver.close();
  });

  it("that ends a stream is subscribed to again, and what it gave before is its own to give again", async () => {
    await using sockets = await SocketsFolder.make();
    const broker = new PushBroker();
    const component = await sockets.serve("broker", { pubsub: broker.implementation });
    const driver = await openPubSub(sockets.path);
    const subscription = await driver.open(raw, call());
    broker.push(event("1"));
    const [held] = await subscription.receive(1, call());
    const waiting = subscription.receive(1, call());
    component.disconnect();
    await expect.poll(() => broker.topics.length).toBe(2);
    // An answer for it would mean nothing on the new stream.
    await subscription.settle([{ receipt: held!.receipt, kind: "done" }], call());
    await expect.poll(() => broker.push(event("2"))).toBe(true);
    const [next] = await waiting;
    expect(textOf(next!)).toBe('{"text":"2"}');
    await subscription.settle([{ receipt: next!.receipt, kind: "done" }], call());
    await expect.poll(() => broker.answers.map(({ ackMessageId }) => ackMessageId)).toEqual(["2"]);
    await driver.close();
  });

  it("without BulkPublish gets one event after the other, and its refusals concern one each", async () => {
    await using sockets = await SocketsFolder.make();
    const got: string[] = [];
    await sockets.serve("broker", {
      pubsub: {
        publish: ({ data }) => {
          const text = Buffer.from(data).toString();
          if (text === "bad") throw new ConnectError("not this one", Code.InvalidArgument);
          got.push(text);
          return {};
        },
      },
    });
    const driver = await openPubSub(sockets.path);
    const events = ["1", "bad", "2"].map((text) => outgoing(text, { raw: true }));
    const results = await driver.publish("t", events, call());
    expect(got).toEqual(["1", "2"]);
    expect(results.map((result) => result instanceof Error)).toEqual([false, true, false]);
    expect(driver.classify(results[1])).toBe("refused");
    await driver.close();
  });

  it("with BulkPublish says which events it refuses", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("broker", {
      pubsub: { bulkPublish: () => ({ failedEntries: [{ entryId: "1", error: "too long" }] }) },
    });
    const driver = await openPubSub(sockets.path);
    const results = await driver.publish("t", [outgoing("0"), outgoing("1"), outgoing("2")], call());
    expect(results.map((result) => (result instanceof Error ? result.message : "published"))).toEqual([
      "published",
      "too long",
      "published",
    ]);
    expect(driver.classify(results[1])).toBe("refused");
    await driver.close();
  });

  it("that does not answer a publish keeps nobody longer than the call's time", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("broker", { pubsub: { publish: () => new Promise(() => {}) } });
    const driver = await openPubSub(sockets.path);
    const [result] = await driver.publish("t", [outgoing("event")], { signal: AbortSignal.timeout(200) });
    expect(driver.classify(result)).toBe("cancelled");
    await driver.close();
  });

  it("that refuses a subscription fails it, with its own words", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("broker", {
      pubsub: {
        // biome-ignore lint/correctness/useYield: it has nothing to give.
        async *pullMessages() {
          throw new ConnectError("no such topic", Code.NotFound);
        },
      },
    });
    const driver = await openPubSub(sockets.path);
    const error = await driver.open(raw, call()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ message: "no such topic" });
    expect(driver.classify(error)).toBe("refused");
    await driver.close();
  });
});

await describeWithPython("a component in Python that is killed", () => {
  let component: PythonComponent;
  beforeAll(async () => {
    component = await PythonComponent.make("store");
    await component.start();
  }, 60_000);
  afterAll(() => component[Symbol.asyncDispose]());

  it("loses nothing that was answered, and its clients go on by themselves", {
    timeout: 60_000,
  }, async () => {
    const driver = await openState(component.folder);
    const written: string[] = [];
    let unknown = 0;
    for (let round = 0; round < 3; round += 1) {
      const writing = Array.from({ length: 50 }, async (_, index) => {
        const key = `${round}/${index}`;
        await driver.write([setOf(key, key)], call(), false).then(
          () => written.push(key),
          (error: unknown) => {
            // Whether it was written nobody knows.
            expect(driver.classify(error)).toBe("unavailable");
            unknown += 1;
          },
        );
      });
      await expect.poll(() => written.length, { interval: 1 }).toBeGreaterThan(round * 2);
      await component.kill();
      await component.start();
      await Promise.all(writing);
    }
    expect(written.length + unknown).toBe(150);
    const items = await driver.get(written, call());
    expect(items.map((item) => item?.key)).toEqual(written);
    await driver.close();
  });

  it("gives every event that was published, at least once", { timeout: 60_000 }, async () => {
    const driver = await openPubSub(component.folder, "store");
    const subscription = await driver.open(
      { topic: "killed", group: "g", start: { at: "earliest" }, ordered: false, raw: true },
      call(),
    );
    const published = new Set<string>();
    const settled = new Set<string>();
    const total = 300;
    const publish = async () => {
      for (let index = 0; index < total; index += 1) {
        const [result] = await driver
          .publish("killed", [outgoing(`${index}`, { raw: true })], call())
          .catch((error: unknown) => [error]);
        if (!(result instanceof Error)) published.add(`${index}`);
      }
    };
    const over = new AbortController();
    const consume = async () => {
      while (!over.signal.aborted) {
        const received = await subscription.receive(10, { signal: over.signal });
        for (const each of received) settled.add(textOf(each));
        await subscription.settle(
          received.map(({ receipt }) => ({ receipt, kind: "done" })),
          call(),
        );
      }
    };
    const [publishing, consuming] = [publish(), consume()];
    for (const reached of [50, 100]) {
      await expect.poll(() => published.size, { interval: 1, timeout: 20_000 }).toBeGreaterThan(reached);
      await component.kill();
      await component.start();
    }
    await publishing;
    await expect
      .poll(() => [...published].filter((text) => !settled.has(text)), { timeout: 20_000 })
      .toEqual([]);
    over.abort();
    await consuming;
    await driver.close();
  });
});

/** Listens on a socket, and does that with whoever comes. */
async function listen(path: string, answer: (socket: never) => void): Promise<AsyncDisposable> {
  const open = new Set<{ destroy(): void }>();
  const server: Server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => {});
    answer(socket as never);
  });
  await new Promise<void>((listening) => server.listen(path, listening));
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise((done) => server.close(done));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
