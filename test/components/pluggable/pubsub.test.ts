/** Brokers that lack something, fail, or go away. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { OpenSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { Bus } from "../../../src/blocks/pubsub/bus.ts";
import type { Received } from "../../../src/blocks/pubsub/driver.ts";
import { parseOpen } from "../../../src/blocks/pubsub/options.ts";
import { pubSubSettings } from "../../../src/blocks/pubsub/settings.ts";
import type { Consumer } from "../../../src/blocks/pubsub/subscription.ts";
import { outgoing, textOf } from "../../conformance/pubsub/fixture.ts";
import { quietTelemetry } from "../../telemetry/quiet-telemetry.ts";
import { call, openPubSub } from "./drivers.ts";
import { PushBroker, SocketsFolder } from "./node-component.ts";

/** For machines with much to do. */
const patient = { timeout: 10_000 };

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
      .poll(() => broker.answers.map(({ ackMessageId }) => ackMessageId).sort(), patient)
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
    await expect.poll(() => broker.topics.length, patient).toBe(2);
    // An answer for it would mean nothing on the new stream.
    await subscription.settle([{ receipt: held!.receipt, kind: "done" }], call());
    await expect.poll(() => broker.push(event("2")), patient).toBe(true);
    const [next] = await waiting;
    expect(textOf(next!)).toBe('{"text":"2"}');
    await subscription.settle([{ receipt: next!.receipt, kind: "done" }], call());
    const answered = () => broker.answers.map(({ ackMessageId }) => ackMessageId);
    await expect.poll(answered, patient).toEqual(["2"]);
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

  it("has one group: others, broadcasts and starting at the latest event are refused", async () => {
    await using sockets = await SocketsFolder.make();
    const broker = new PushBroker();
    await sockets.serve("broker", { pubsub: broker.implementation });
    const driver = await openPubSub(sockets.path);
    const bus = new Bus({
      connection: {
        component: "bus",
        type: "pubsub.broker",
        current: () => driver,
        ready: () => Promise.resolve(driver),
      },
      settings: pubSubSettings.parse({}),
      telemetry: quietTelemetry(),
      appId: "shop",
      maxEventBytes: 1024,
      inboxMemoryOf: () => {
        throw new Error("there is no inbox");
      },
    });
    const consumer: Consumer = { free: () => 0, deliver: () => {} };
    const subscribe = (open: MessageInitShape<typeof OpenSchema>) => {
      const { shared } = parseOpen(create(OpenSchema, { topic: "t", ...open }), bus.defaultGroup);
      return bus.subscribe(shared, consumer, call().signal);
    };
    for (const open of [
      { group: "other" },
      { broadcast: true },
      { start: { at: { case: "latest", value: true } } },
    ] as const)
      await expect(subscribe(open)).rejects.toThrow('has not the capability "groups"');
    const subscription = await subscribe({});
    expect(broker.topics.map(({ name }) => name)).toEqual(["t"]);
    subscription.leave(consumer);
    await bus.close();
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
