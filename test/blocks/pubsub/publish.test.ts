import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type OutgoingSchema,
  PublishBatchRequestSchema,
  type PublishStreamRequest,
  PublishStreamRequestSchema,
  type PublishStreamResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import { reasonOf } from "../../../src/faults.ts";
import { changedDriver } from "./changed-driver.ts";
import { contextWith, Pushable, type Sidecar, startSidecar, textOf } from "./sidecar.ts";

let sidecar: Sidecar;
beforeEach(async () => {
  sidecar = await startSidecar();
});
afterEach(() => sidecar.close());

const event = (text: string) => ({ event: { id: text, data: new TextEncoder().encode(text) } });
const refused = (topic: string, outgoing: MessageInitShape<typeof OutgoingSchema>) =>
  sidecar.send(topic, outgoing).then(
    () => expect.fail("it was accepted"),
    (error: unknown) => [reasonOf(error), ConnectError.from(error).rawMessage].join(" "),
  );

describe("a publish", () => {
  it("completes what the event leaves out", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    const id = await sidecar.send("t", { event: {} });
    const { event } = await stream.delivery();
    expect(event).toMatchObject({ id, source: "app", type: "dev.outrider.event" });
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(Number(event!.time!.seconds)).toBeGreaterThan(1_700_000_000);
  });

  it("gives an event the trace of its call, unless it has one", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const headers = new Headers({ traceparent, tracestate: "a=1", baggage: "b=2" });
    await sidecar.send("t", { event: {} }, headers);
    const own = traceparent.replace("0af7", "1bf8");
    await sidecar.send("t", { event: { extensions: { traceparent: own } } }, headers);
    await sidecar.send("t", { event: {} }, new Headers({ baggage: "b=2" }));
    const [given, kept, carried] = await stream.deliveries(3);
    expect(carried!.event!.extensions).toEqual({ baggage: "b=2" });
    expect(given!.event!.extensions).toEqual({ traceparent, tracestate: "a=1", baggage: "b=2" });
    expect(kept!.event!.extensions).toEqual({ traceparent: own });
  });

  it("later than now is delivered when it is due, and not before", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    const sentAt = Date.now();
    await sidecar.send("t", { ...event("later"), deliverAfter: { nanos: 150_000_000 } });
    await sidecar.send("t", event("now"));
    const [now, later] = await stream.deliveries(2);
    expect([textOf(now!), textOf(later!)]).toEqual(["now", "later"]);
    expect(Date.now() - sentAt).toBeGreaterThanOrEqual(145);
  });

  it("of a structured CloudEvent publishes the event that it is", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    const json = { specversion: "1.0", id: "7", source: "/s", type: "x.y", tenant: "blue", data: { a: 1 } };
    const data = new TextEncoder().encode(JSON.stringify(json));
    await sidecar.send("t", { event: { dataContentType: "application/cloudevents+json", data } });
    const delivery = await stream.delivery();
    expect(delivery.event).toMatchObject({
      id: "7",
      source: "/s",
      type: "x.y",
      extensions: { tenant: "blue" },
    });
    expect(JSON.parse(textOf(delivery))).toEqual({ a: 1 });
  });
});

describe("a publish is refused", () => {
  it.each([
    ["without a topic", "", {}, "INVALID_REQUEST topic"],
    ["with a topic of 250 bytes", "t".repeat(250), {}, "INVALID_REQUEST topic"],
    ["with a control character in the topic", "a\nb", {}, "INVALID_REQUEST topic"],
    ["to a pattern", "orders.*", {}, "INVALID_REQUEST topic"],
    ["with a key of 1,025 bytes", "t", { key: "k".repeat(1025) }, "INVALID_REQUEST outgoing.key"],
    [
      "with a negative delay",
      "t",
      { deliverAfter: { seconds: -1n } },
      "INVALID_REQUEST outgoing.deliver_after",
    ],
    [
      "with two delays",
      "t",
      { deliverAfter: { seconds: 1n }, deliverAt: { seconds: 1n } },
      "INVALID_REQUEST outgoing.deliver_after",
    ],
    ["with a time to live of zero", "t", { timeToLive: {} }, "INVALID_REQUEST outgoing.time_to_live"],
    [
      "with a time to live that no clock can add",
      "t",
      { timeToLive: { seconds: 2n ** 62n } },
      "INVALID_REQUEST outgoing.time_to_live",
    ],
    [
      "with a bad extension name",
      "t",
      { event: { extensions: { "Bad-Name": "x" } } },
      "INVALID_REQUEST outgoing.event",
    ],
    [
      "with malformed CloudEvents JSON",
      "t",
      { event: { dataContentType: "application/cloudevents+json", data: new TextEncoder().encode("{") } },
      "INVALID_REQUEST outgoing.event.data",
    ],
    [
      "with 65 headers",
      "t",
      { headers: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`h${i}`, ""])) },
      "INVALID_REQUEST outgoing.headers",
    ],
    [
      "with more data than can be delivered",
      "t",
      { event: { data: new Uint8Array((1 << 20) + 1) } },
      "TOO_LARGE",
    ],
  ])("%s", async (_name, topic, outgoing, expected) => {
    expect(
      await refused(topic, { event: {}, ...outgoing } as MessageInitShape<typeof OutgoingSchema>),
    ).toContain(expected);
  });

  it("without an event", async () => {
    expect(await refused("t", {})).toContain("INVALID_REQUEST outgoing.event");
  });

  it("by the scopes of the component", async () => {
    await sidecar.close();
    sidecar = await startSidecar({ settings: { publishingScopes: "app=open", protectedTopics: "closed" } });
    expect(await refused("closed", { event: {} })).toContain("TOPIC_FORBIDDEN");
    await sidecar.send("open", { event: {} });
  });

  it("and what is exactly at the limits is not", async () => {
    await sidecar.send("t".repeat(249), { key: "k".repeat(1024), event: { data: new Uint8Array(1 << 20) } });
  });
});

describe("a batch", () => {
  const batch = (...entries: MessageInitShape<typeof PublishBatchRequestSchema>["entries"] & unknown[]) =>
    sidecar.service.publishBatch(create(PublishBatchRequestSchema, { topic: "t", entries }), contextWith());

  it("gives each entry an outcome of its own", async () => {
    const { outcomes } = await batch(
      { entryId: "a", outgoing: event("a") },
      { entryId: "b", outgoing: { key: "k".repeat(2000), event: {} } },
      { entryId: "c", outgoing: event("c") },
    );
    expect(outcomes).toMatchObject([
      { entryId: "a", outcome: { case: "published", value: { id: "a" } } },
      {
        entryId: "b",
        outcome: { case: "failure", value: { code: 3, reason: "INVALID_REQUEST", retryable: false } },
      },
      { entryId: "c", outcome: { case: "published" } },
    ]);
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    expect((await stream.deliveries(2)).map(textOf)).toEqual(["a", "c"]);
  });

  it("with a duplicate entry id is refused whole", async () => {
    await expect(
      batch({ entryId: "a", outgoing: event("a") }, { entryId: "a", outgoing: event("b") }),
    ).rejects.toThrow("entries[1].entry_id");
    const stream = sidecar.stream();
    await stream.open({ topic: "t" });
    expect(await stream.quiet(sidecar)).toBe(true);
  });

  it("without entries, or with 1,001, is refused", async () => {
    await expect(batch()).rejects.toThrow("entries");
    await expect(batch(...Array.from({ length: 1001 }, () => ({ outgoing: event("a") })))).rejects.toThrow(
      "entries",
    );
  });
});

describe("a publish stream", () => {
  const open = () => {
    const requests = new Pushable<PublishStreamRequest>();
    const responses = sidecar.service.publishStream(
      requests,
      contextWith(),
    ) as AsyncIterable<PublishStreamResponse>;
    return {
      say: (init: MessageInitShape<typeof PublishStreamRequestSchema>) =>
        requests.push(create(PublishStreamRequestSchema, init)),
      end: () => requests.end(),
      responses: responses[Symbol.asyncIterator](),
    };
  };
  const settled = async (stream: ReturnType<typeof open>, through: bigint) => {
    const all: PublishStreamResponse[] = [];
    while ((all.at(-1)?.settledThrough ?? 0n) < through) all.push((await stream.responses.next()).value);
    return all;
  };

  it("acknowledges everything, cumulatively, and keeps the order", async () => {
    const stream = open();
    stream.say({ topic: "t", outgoing: [event("a"), event("b")] });
    stream.say({ outgoing: [event("c")] });
    await settled(stream, 3n);
    stream.end();
    expect((await stream.responses.next()).done).toBe(true);
    const reader = sidecar.stream();
    await reader.open({ topic: "t" });
    expect((await reader.deliveries(3)).map(textOf)).toEqual(["a", "b", "c"]);
  });

  it("names the events that failed, and goes on", async () => {
    const stream = open();
    stream.say({ topic: "t", outgoing: [event("a"), { key: "k".repeat(2000), event: {} }, event("c")] });
    const failures = (await settled(stream, 3n)).flatMap((response) => response.failures);
    expect(failures).toMatchObject([{ sequence: 2n, failure: { reason: "INVALID_REQUEST" } }]);
  });

  it("names the events that failed by their place in their own request, however many come at once", async () => {
    const stream = open();
    stream.say({ topic: "t", outgoing: [event("a"), event("b")] });
    stream.say({ outgoing: [event("c"), { key: "k".repeat(2000), event: {} }] });
    stream.say({ outgoing: [event("e")] });
    const failures = (await settled(stream, 5n)).flatMap((response) => response.failures);
    expect(failures).toMatchObject([{ sequence: 4n }]);
    expect(failures[0]!.failure?.message).toContain("outgoing[1].key");
    const reader = sidecar.stream();
    await reader.open({ topic: "t" });
    expect((await reader.deliveries(4)).map(textOf)).toEqual(["a", "b", "c", "e"]);
  });

  it("publishes what came before a request that ends it", async () => {
    const stream = open();
    stream.say({ topic: "t", outgoing: [event("a")] });
    stream.say({ outgoing: Array.from({ length: 1001 }, () => event("b")) });
    expect((await stream.responses.next()).value).toMatchObject({ settledThrough: 1n });
    await expect(stream.responses.next()).rejects.toThrow("outgoing");
    const reader = sidecar.stream();
    await reader.open({ topic: "t" });
    expect(textOf(await reader.delivery())).toBe("a");
  });

  it("tells ids and positions when asked to", async () => {
    const stream = open();
    stream.say({ topic: "t", wantPublished: true, outgoing: [event("a"), event("b")] });
    const published = (await settled(stream, 2n)).flatMap((response) => response.published);
    expect(published.map(({ id }) => id)).toEqual(["a", "b"]);
    expect(published[0]!.position).not.toBe(published[1]!.position);
  });

  it("may change its topic", async () => {
    const stream = open();
    stream.say({ topic: "t", outgoing: [event("a")] });
    stream.say({ topic: "u", outgoing: [event("b")] });
    await settled(stream, 2n);
    const reader = sidecar.stream();
    await reader.open({ topic: "u" });
    expect(textOf(await reader.delivery())).toBe("b");
  });

  it("has parts of a long request acknowledged before the rest, where the broker works on several at once", async () => {
    const underWay: (() => void)[] = [];
    const wrap = (real: PubSubDriver): PubSubDriver =>
      changedDriver(real, {
        overlaps: true,
        async publish(topic, events, call) {
          const results = await real.publish(topic, events, call);
          await new Promise<void>((resolve) => underWay.push(resolve));
          return results;
        },
      });
    await sidecar.close();
    sidecar = await startSidecar({ wrap });
    const stream = open();
    // What the broker does is known when it has been published to.
    stream.say({ topic: "t", outgoing: [event("first")] });
    const first = settled(stream, 1n);
    await expect.poll(() => underWay.length).toBe(1);
    underWay[0]!();
    await first;
    const many = Array.from({ length: 100 }, (_, number) => ({ ...event(`${number}`), key: "" }));
    stream.say({ outgoing: many.with(70, { ...many[70]!, key: "k".repeat(2000) }) });
    const part = stream.responses.next();
    await expect.poll(() => underWay.length).toBeGreaterThan(2);
    underWay[1]!();
    const { settledThrough } = (await part).value;
    expect(settledThrough).toBeGreaterThan(1n);
    expect(settledThrough).toBeLessThan(101n);
    await expect.poll(() => underWay.length).toBe(5);
    for (const done of underWay) done();
    const failures = (await settled(stream, 101n)).flatMap((response) => response.failures);
    expect(failures).toMatchObject([{ sequence: 72n }]);
    expect(failures[0]!.failure?.message).toContain("outgoing[70].key");
    const reader = sidecar.stream();
    await reader.open({ topic: "t" });
    const there = ["first", ...many.map((_, number) => `${number}`)].filter((text) => text !== "70");
    expect((await reader.deliveries(100)).map(textOf)).toEqual(there);
  });

  it("that names no topic at first is ended with what is wrong", async () => {
    const stream = open();
    stream.say({ outgoing: [event("a")] });
    await expect(stream.responses.next()).rejects.toThrow("topic");
  });

  it("of thousands of events in hand is acknowledged to the last", async () => {
    const stream = open();
    const many = Array.from({ length: 1000 }, (_, i) => event(String(i)));
    for (let i = 0; i < 30; i++) stream.say({ topic: "t", outgoing: many });
    await settled(stream, 30_000n);
  });

  it.each([
    ["10,000 events", 1000, 0, 11],
    ["16 MiB of data", 1, 1 << 20, 17],
  ])(
    "is not read beyond %s while nobody reads its acknowledgements, and is acknowledged to the last when somebody does",
    async (_name, events, bytes, most) => {
      const total = 50;
      let heard = 0;
      async function* requests() {
        const outgoing = Array.from({ length: events }, () => ({ event: { data: new Uint8Array(bytes) } }));
        for (; heard < total; heard++) yield create(PublishStreamRequestSchema, { topic: "t", outgoing });
      }
      const responses = sidecar.service.publishStream(
        requests(),
        contextWith(),
      ) as AsyncIterable<PublishStreamResponse>;
      const answers = responses[Symbol.asyncIterator]();
      const first: PublishStreamResponse = (await answers.next()).value;
      await new Promise(setImmediate);
      expect(heard).toBeLessThanOrEqual(most);
      let last = first.settledThrough;
      while (last < BigInt(total * events)) last = (await answers.next()).value.settledThrough;
      expect(heard).toBe(total);
    },
  );
});
