/** Subscriptions by streams. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { TopicEventResponse_TopicEventResponseStatus as Status } from "../../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { SubscribeTopicEventsRequestAlpha1Schema } from "../../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import { Daprd, inMemory } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { TopicStream } from "../topic-stream.ts";
import { errorOf } from "./grpc-errors.ts";
import { DATA } from "./payloads.ts";

describe("a stream that cannot be", () => {
  type Sent = MessageInitShape<typeof SubscribeTopicEventsRequestAlpha1Schema>;
  const initial = (pubsubName: string, topic: string): Sent => ({
    subscribeTopicEventsRequestType: { case: "initialRequest", value: { pubsubName, topic } },
  });
  const processed: Sent = { subscribeTopicEventsRequestType: { case: "eventProcessed", value: { id: "1" } } };

  it("ends with Dapr's words, and without a code of its own", async () => {
    await using daprd = await Daprd.start({ resources: inMemory("mypub", { allowedTopics: "a,b" }) });
    const refused = (...requests: readonly Sent[]) => {
      async function* sent() {
        for (const request of requests) yield create(SubscribeTopicEventsRequestAlpha1Schema, request);
        await new Promise(() => {});
      }
      const answers = daprd.grpc.subscribeTopicEventsAlpha1(sent(), { timeoutMs: 10_000 });
      const listening = async () => {
        for await (const _ of answers);
      };
      return errorOf(listening());
    };
    for (const [message, ...requests] of [
      ["pubsubName is required", initial("", "a")],
      ["topic is required", initial("mypub", "")],
      ["initial request is required", processed],
      ["pubsub other is not found", initial("other", "a")],
      ["subscription to topic 'c' on pubsub 'mypub' is not allowed", initial("mypub", "c")],
      ["duplicate initial request received", initial("mypub", "a"), initial("mypub", "a")],
    ] as const)
      expect(await refused(...requests)).toEqual({ code: "Unknown", message, count: 0 });
  });
});

describe("subscriptions/stream", () => {
  it.each([
    ["basic", true],
    ["no-app", false],
  ])("subscriptions/stream/%s", async (_name, withApp) => {
    await using app = await GrpcApp.start();
    const at = { port: app.port, protocol: "grpc" };
    await using daprd = await Daprd.start({ resources: inMemory(), ...(withApp && { app: at }) });
    using stream = await TopicStream.open(daprd, "a");
    expect((await daprd.metadata()).subscriptions).toEqual([
      { pubsubname: "mypub", topic: "a", rules: [{ path: "/" }], type: "STREAMING" },
    ]);
    await daprd.publishEvent("a", DATA, "application/json");
    const event = await stream.event();
    expect(event).toMatchObject({ topic: "a", pubsubName: "mypub", path: "/" });
    expect(Buffer.from(event.data).toString()).toBe(DATA);
    stream.settle(event.id, Status.SUCCESS);
    stream.halfClose();
  });

  it("subscriptions/stream/multi", async () => {
    await using app = await GrpcApp.start();
    await using daprd = await Daprd.start({
      resources: inMemory(),
      app: { port: app.port, protocol: "grpc" },
    });
    using stack = new DisposableStack();
    const topics = ["a", "b", "c"];
    const streams = await Promise.all(topics.map((topic) => TopicStream.open(daprd, topic)));
    for (const stream of streams) stack.use(stream);
    const { subscriptions } = await daprd.metadata();
    expect([...subscriptions!].sort((one, other) => one.topic.localeCompare(other.topic))).toEqual(
      topics.map((topic) => ({
        ...{ pubsubname: "mypub", topic, type: "STREAMING" },
        rules: [{ path: "/" }],
      })),
    );
    for (const [index, topic] of topics.entries()) {
      await daprd.publishEvent(topic, DATA);
      expect((await streams[index]!.event()).topic).toBe(topic);
    }
    const more = await Promise.all([1, 2, 3].map(() => TopicStream.open(daprd, "new")));
    for (const stream of more) stack.use(stream);
    const taken = more.map(async (stream) => {
      const data: string[] = [];
      for (let count = 0; count < 100; count++) {
        const event = await stream.event();
        data.push(Buffer.from(event.data).toString());
        stream.settle(event.id, Status.SUCCESS);
      }
      return data;
    });
    const sent = Array.from({ length: 100 }, (_, index) => `${index}`);
    for (const data of sent) await daprd.publishEvent("new", data);
    expect(await Promise.all(taken)).toEqual([sent, sent, sent]);
  });

  it("subscriptions/stream/ordering", { timeout: 45_000 }, async () => {
    await using app = await GrpcApp.start();
    await using daprd = await Daprd.start({
      resources: inMemory(),
      app: { port: app.port, protocol: "grpc" },
    });
    using stream = await TopicStream.open(daprd, "ordered");
    const sent = Array.from({ length: 1000 }, (_, index) => `${index}`);
    const publishing = (async () => {
      for (const data of sent) await daprd.publishEvent("ordered", data, "text/plain");
    })();
    const received: string[] = [];
    while (received.length < sent.length) {
      const event = await stream.event();
      received.push(Buffer.from(event.data).toString());
      stream.settle(event.id, Status.SUCCESS);
    }
    expect(received).toEqual(sent);
    await publishing;
  });

  it("subscriptions/stream/retry", async () => {
    const resources = `${inMemory()}---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata:
  name: myresiliency
spec:
  policies:
    retries:
      pubsub:
        policy: constant
        duration: 10ms
        maxRetries: 4
  targets:
    components:
      mypub:
        inbound:
          retry: pubsub
`;
    await using daprd = await Daprd.start({ resources });
    using stream = await TopicStream.open(daprd, "a");
    const publish = () => daprd.publishEvent("a", DATA, "application/json");
    await publish();
    const first = await stream.event();
    for (const answer of [Status.RETRY, Status.RETRY]) {
      stream.settle(first.id, answer);
      expect((await stream.event()).id).toBe(first.id);
    }
    stream.settle(first.id, Status.DROP);
    await publish();
    const second = await stream.event();
    expect(second.id).not.toBe(first.id);
    stream.settle(second.id, Status.SUCCESS);
    await publish();
    const third = await stream.event();
    expect([first.id, second.id]).not.toContain(third.id);
    stream.settle(third.id, Status.DROP);
    await publish();
    const fourth = await stream.event();
    stream.settle(fourth.id, Status.RETRY);
    expect((await stream.event()).id).toBe(fourth.id);
    stream.halfClose();
    daprd.signal("SIGINT");
    expect(await daprd.exitCode()).toBe(0);
  });
});
