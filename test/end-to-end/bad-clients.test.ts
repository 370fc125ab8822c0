/** Clients that nobody wants, over the real gRPC port: the sidecar lives on in bounded memory, and nobody loses anything. */
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Delivery, Outcome } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { WatchRequestSchema } from "../../gen/outrider/state/v1/state_pb.ts";
import { Outrider } from "../outrider.ts";
import { connected, framed, open, watchPath } from "../server/raw-call.ts";
import { Application, Outbox } from "./application.ts";
import { RawStream, Way } from "./raw-stream.ts";
import { Witness } from "./witness.ts";

let witness: Witness;
let app: Application;
beforeEach(async () => {
  witness = await Witness.start();
  app = new Application(witness.sidecar.grpcPort);
});
afterEach(async () => {
  app?.[Symbol.dispose]();
  await witness?.[Symbol.asyncDispose]();
});

const ms = (count: number) => ({ seconds: BigInt(Math.floor(count / 1000)), nanos: (count % 1000) * 1e6 });
const textOf = ({ event }: Delivery) => Buffer.from(event!.data).toString();
const numbers = (count: number) => Array.from({ length: count }, (_, index) => String(index));

/** Publishes events of a megabyte each, as fast as they are taken. */
async function publishMegabytes(topic: string, count: number): Promise<void> {
  const outbox = new Outbox<{ topic: string; outgoing: { event: { id: string; data: Uint8Array } }[] }>();
  const data = new Uint8Array(1024 * 1024);
  for (let index = 0; index < count; index++) {
    outbox.send({ topic, outgoing: [{ event: { id: String(index), data } }] });
  }
  outbox.end();
  let settledThrough = 0n;
  for await (const answer of app.pubsub.publishStream(outbox)) {
    expect(answer.failures).toEqual([]);
    settledThrough = answer.settledThrough;
  }
  expect(settledThrough).toBe(BigInt(count));
}

describe("a client that reads nothing", () => {
  it("has no more of 250 MB kept for it than its share, and another one of its group gets everything", async () => {
    const topic = "unread";
    const ids = new Set<string>();
    const peak = await witness.peakMegabytes(async () => {
      using stuck = new RawStream(witness.sidecar.grpcPort);
      stuck.send({ case: "open", value: { subscription: 1, topic, maxInFlight: 65_536, maxBatch: 1024 } });
      await publishMegabytes(topic, 250);
      await witness.expectUndisturbed();
      using other = app.subscribe([{ topic }], (deliveries) => {
        for (const { event } of deliveries) ids.add(event!.id);
        other.settle(deliveries);
      });
      await expect.poll(() => ids.size, { timeout: 60_000 }).toBeGreaterThan(200);
      stuck.reset();
      await expect.poll(() => ids.size, { timeout: 60_000 }).toBe(250);
    });
    // Twice what publishing alone takes, and less than what was published.
    expect(peak).toBeLessThan(400);
  }, 150_000);
});

describe("a client that watches items and reads nothing", () => {
  it("has no more kept for it than its share, and one that reads is told of everything", async () => {
    const watch = toBinary(
      WatchRequestSchema,
      create(WatchRequestSchema, { selector: { case: "prefix", value: "w/" } }),
    );
    const count = 200;
    const keys = new Set<string>();
    const peak = await witness.peakMegabytes(async () => {
      const session = await connected(witness.sidecar.grpcPort);
      const leaving = new AbortController();
      try {
        open(session, { ":path": watchPath }).end(framed(watch));
        const reading = (async () => {
          const request = { selector: { case: "prefix" as const, value: "w/" } };
          for await (const { changes } of app.state.watch(request, { signal: leaving.signal }))
            for (const { key } of changes) keys.add(key);
        })().catch(() => {});
        const value = new Uint8Array(1024 * 1024);
        for (let index = 0; index < count; index++) await app.state.set({ key: `w/${index}`, value });
        await expect.poll(() => keys.size, { timeout: 60_000 }).toBe(count);
        await witness.expectUndisturbed();
        leaving.abort();
        await reading;
      } finally {
        session.destroy();
      }
    });
    expect(peak).toBeLessThan(400);
  }, 150_000);
});

describe("a client that never settles", () => {
  it("holds no more than it asked for, and gets it again after each deadline until it is given up", async () => {
    const topic = "unsettled";
    const limits = {
      topic,
      maxInFlight: 10,
      settleWithin: ms(200),
      retry: { maxAttempts: 3, initialDelay: ms(10) },
      deadLetterTopic: "unsettled.dead",
    };
    await app.publish(topic, ...numbers(30));
    using dead = app.subscribe([{ topic: "unsettled.dead" }]);
    using idle = app.subscribe([limits]);
    const attempts = (await idle.delivered(90)).map((delivery) => `${textOf(delivery)} ${delivery.attempt}`);
    expect(new Set(attempts).size).toBe(90);
    expect((await dead.delivered(30)).map(textOf).toSorted()).toEqual(numbers(30).toSorted());
    await witness.expectUndisturbed();
  });
});

describe("a client that opens nothing", () => {
  it("may keep its stream as long as it likes, and open something then", async () => {
    await app.publish("late", "x");
    using silent = new RawStream(witness.sidecar.grpcPort).read();
    await expect.poll(() => witness.metric("outrider_pubsub_subscribe_streams")).toBe(2);
    await witness.expectUndisturbed();
    silent.send({ case: "open", value: { subscription: 1, topic: "late" } });
    await expect.poll(() => silent.deliveries.map(textOf)).toEqual(["x"]);
  });
});

describe("a client that vanishes", () => {
  it("in the middle of its deliveries has them delivered to another, with the next attempt", async () => {
    const topic = "vanished";
    using gone = new RawStream(witness.sidecar.grpcPort).read();
    gone.send({ case: "open", value: { subscription: 1, topic, maxInFlight: 100 } });
    await app.publish(topic, ...numbers(200));
    await expect.poll(() => gone.deliveries.length).toBe(100);
    gone.send({ case: "settle", value: { deliveries: [{ first: 1n, last: 20n }], outcome: Outcome.ACK } });
    await expect.poll(() => gone.deliveries.length).toBe(120);
    gone.reset();
    using next = app.subscribe([{ topic }]);
    const deliveries = await next.delivered(180);
    expect(new Set(deliveries.map(textOf))).toEqual(new Set(numbers(200).slice(20)));
    const held = new Set(gone.deliveries.map(textOf));
    for (const delivery of deliveries) expect(delivery.attempt).toBe(held.has(textOf(delivery)) ? 2 : 1);
    await witness.expectUndisturbed();
  });

  it("because its process was killed has no stream and holds nothing any more, at once", async () => {
    const topic = "killed";
    const { sidecar, directory } = witness;
    const words = ["subscribe", topic, "--hold", "--grpc-port", String(sidecar.grpcPort)];
    await using client = new Outrider(words, { cwd: directory });
    await app.publish(topic, "held");
    await client.said(/held/, "stdout");
    const streams = "outrider_pubsub_subscribe_streams";
    const inFlight = "outrider_pubsub_in_flight";
    expect(await witness.metric(streams)).toBe(2);
    expect(await witness.metric(inFlight, topic)).toBe(1);
    client.kill("SIGKILL");
    await client.ended;
    await expect.poll(() => witness.metric(streams), { timeout: 3000 }).toBe(1);
    expect(await witness.metric(inFlight, topic)).toBe(0);
    const { subscribeStreams, subscriptions } = await app.runtime.getMetadata({});
    expect(subscribeStreams).toBe(1);
    expect(subscriptions.map((each) => each.topic)).not.toContain(topic);
  });

  it("because its process stands still is noticed, and what it held is delivered to another", async () => {
    const topic = "stopped";
    const { sidecar, directory } = witness;
    const words = ["subscribe", topic, "--hold", "--grpc-port", String(sidecar.grpcPort)];
    await using client = new Outrider(words, { cwd: directory });
    await app.publish(topic, "held");
    await client.said(/held/, "stdout");
    client.kill("SIGSTOP");
    using next = app.subscribe([{ topic }]);
    // A ping after 10 seconds, whose answer may take 5.
    await expect.poll(() => next.deliveries.length, { timeout: 25_000 }).toBe(1);
    expect(next.deliveries[0]!.attempt).toBe(2);
    await witness.expectUndisturbed();
  });

  it("behind a network that is gone without a trace is noticed as well", async () => {
    const topic = "half-open";
    using way = await Way.to(witness.sidecar.grpcPort);
    using gone = new RawStream(way.port).read();
    gone.send({ case: "open", value: { subscription: 1, topic } });
    await app.publish(topic, "held");
    await expect.poll(() => gone.deliveries.length).toBe(1);
    way.freeze();
    using next = app.subscribe([{ topic }]);
    await expect.poll(() => next.deliveries.length, { timeout: 25_000 }).toBe(1);
    expect(next.deliveries[0]!.attempt).toBe(2);
  });
});
