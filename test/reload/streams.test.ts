/** Streams that stay open while what they are open on is replaced. */
import { describe, expect, it } from "vitest";
import type { Delivery } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { TopicStream } from "../api/dapr/topic-stream.ts";
import type { Stream } from "../end-to-end/application.ts";
import { component, Project, subscription } from "./project.ts";

const textOf = ({ event }: Delivery) => Buffer.from(event!.data).toString();
const texts = (stream: Stream) => stream.deliveries.map(textOf);
/** Deliveries of all groups that were settled as done. */
async function acknowledged(project: Project): Promise<number> {
  const counts = (await project.metrics()).matchAll(
    /^outrider_pubsub_deliveries_total\{.*outcome="ack"\} (\d+)$/gm,
  );
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

const memory = component("pubsub", "pubsub.in-memory");
const sqlite = component("pubsub", "pubsub.sqlite");

describe("a stream whose pub/sub component is replaced", () => {
  it("gets its events from the new one, on the same subscription, and settles what it holds with the old one", async () => {
    await using project = await Project.start({ "pubsub.yaml": memory });
    using stream = project.app.subscribe([{ topic: "a", group: "g" }]);
    await stream.heard("opened");
    await project.app.publish("a", "one");
    const [held] = await stream.delivered(1);
    await project.apply("pubsub.yaml", sqlite);
    expect(await project.components()).toMatchObject({ pubsub: "pubsub.sqlite" });
    await project.app.publish("a", "two");
    await stream.delivered(2);
    expect(texts(stream)).toEqual(["one", "two"]);
    expect(stream.deliveries[1]!.subscription).toBe(held!.subscription);
    const closed = () => project.sidecar.stderr.includes("what was replaced or removed is closed");
    expect(closed()).toBe(false);
    stream.settle(stream.deliveries);
    await expect.poll(closed, { timeout: 10_000 }).toBe(true);
    expect(await acknowledged(project)).toBe(2);
    expect(stream.said.map(({ case: what }) => what)).toEqual(["opened"]);
  });

  it("waits while there is none, and goes on when there is one again", async () => {
    await using project = await Project.start({
      "pubsub.yaml": sqlite,
      "other.yaml": component("other", "pubsub.in-memory"),
    });
    using stream = project.app.subscribe([{ component: "pubsub", topic: "a", group: "g" }]);
    await stream.heard("opened");
    await project.apply("pubsub.yaml", "");
    await expect(
      project.app.pubsub.publish({ component: "pubsub", topic: "a", outgoing: { event: {} } }),
    ).rejects.toThrow(/no pub\/sub component "pubsub": there are "other"/);
    await project.apply("pubsub.yaml", sqlite);
    await project.app.pubsub.publish({
      component: "pubsub",
      topic: "a",
      outgoing: { event: { data: Buffer.from("one") } },
    });
    await stream.delivered(1);
    expect(texts(stream)).toEqual(["one"]);
    expect(stream.said.map(({ case: what }) => what)).toEqual(["opened"]);
  });

  it("is told why when the new one may not serve it", async () => {
    await using project = await Project.start({ "pubsub.yaml": memory });
    using stream = project.app.subscribe([
      { topic: "secret", group: "g" },
      { topic: "open", group: "g" },
    ]);
    await expect.poll(() => stream.said.length).toBe(2);
    await project.apply("pubsub.yaml", component("pubsub", "pubsub.in-memory", { allowedTopics: "open" }));
    const { value } = await stream.heard("closed");
    expect(value).toMatchObject({ subscription: 1, reason: "TOPIC_FORBIDDEN" });
    await project.app.publish("open", "one");
    await stream.delivered(1);
  });

  it("goes on publishing on the stream on which it publishes", async () => {
    await using project = await Project.start({ "pubsub.yaml": memory });
    const next = Promise.withResolvers<void>();
    const requests = async function* () {
      yield { topic: "a", outgoing: [{ event: { data: Buffer.from("one") } }] };
      await next.promise;
      yield { outgoing: [{ event: { data: Buffer.from("two") } }] };
    };
    const answers = project.app.pubsub.publishStream(requests())[Symbol.asyncIterator]();
    expect((await answers.next()).value).toMatchObject({ settledThrough: 1n, failures: [] });
    await project.apply("pubsub.yaml", sqlite);
    next.resolve();
    expect((await answers.next()).value).toMatchObject({ settledThrough: 2n, failures: [] });
    using stream = project.app.subscribe([{ topic: "a", group: "g" }]);
    expect((await stream.delivered(1)).map(textOf)).toEqual(["two"]);
  });

  it("goes on over Dapr's API as well", async () => {
    await using project = await Project.start({ "pubsub.yaml": memory });
    using stream = await TopicStream.open(project.dapr, "a", "pubsub");
    await project.app.publish("a", "one");
    const one = await stream.event();
    await project.apply("pubsub.yaml", sqlite);
    await project.app.publish("a", "two");
    const two = await stream.event();
    expect([one, two].map(({ data }) => Buffer.from(data).toString())).toEqual(["one", "two"]);
    stream.settle(one.id, 0);
    stream.settle(two.id, 0);
    await expect.poll(() => acknowledged(project), { timeout: 10_000 }).toBe(2);
  });
});

describe("a declared subscription", () => {
  it("has its new routes and topic on streams that have it open, and leads nowhere while it is not there", async () => {
    const files = { "pubsub.yaml": memory, "orders.yaml": subscription("orders", "pubsub", "orders", "old") };
    await using project = await Project.start(files);
    using stream = project.app.subscribe([{ declared: "orders" }]);
    await stream.heard("opened");
    await project.app.publish("orders", "one");
    await stream.delivered(1);
    // What is held keeps the group with the old routes open.
    const changing = project.apply("orders.yaml", subscription("orders", "pubsub", "orders", "new"));
    stream.settle(stream.deliveries);
    await changing;
    await project.app.publish("orders", "two");
    await stream.delivered(2);
    expect(stream.deliveries.map(({ route }) => route)).toEqual(["old", "new"]);
    stream.settle(stream.deliveries.slice(1));
    await project.apply("orders.yaml", undefined);
    await project.app.publish("orders", "three");
    await project.apply("orders.yaml", subscription("orders", "pubsub", "orders", "newer"));
    await stream.delivered(3);
    expect(stream.deliveries.map(({ route }) => route)).toEqual(["old", "new", "newer"]);
    await project.apply("orders.yaml", subscription("orders", "pubsub", "returns", "r"));
    await project.app.publish("orders", "four");
    await project.app.publish("returns", "five");
    await stream.delivered(4);
    expect(texts(stream)).toEqual(["one", "two", "three", "five"]);
  });
});
