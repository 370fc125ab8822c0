/** Streams whose component or declared subscription is replaced while they are open. */
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PublishStreamRequestSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Bus } from "../../../src/blocks/pubsub/bus.ts";
import type { DeclaredSubscription } from "../../../src/blocks/pubsub/options.ts";
import { pubSubService } from "../../../src/blocks/pubsub/service.ts";
import { SubscribeStreams } from "../../../src/blocks/pubsub/subscribe-streams.ts";
import { fault } from "../../../src/faults.ts";
import { quietTelemetry } from "../../telemetry/quiet-telemetry.ts";
import { changedDriver } from "./changed-driver.ts";
import { contextWith, type Sidecar, Stream, startSidecar, textOf } from "./sidecar.ts";

let before: Sidecar;
let after: Sidecar;
let bus: Bus | undefined;
const declared = new Map<string, DeclaredSubscription>();
let streams: SubscribeStreams;
let service: Sidecar["service"];

beforeEach(async () => {
  [before, after] = await Promise.all([startSidecar(), startSidecar()]);
  bus = before.bus;
  declared.clear();
  const busOf = () => {
    if (bus) return bus;
    throw fault("COMPONENT_NOT_FOUND", "there is none");
  };
  const telemetry = quietTelemetry();
  streams = new SubscribeStreams(telemetry);
  service = pubSubService({ busOf, declared, streams, telemetry });
});

afterEach(async () => {
  for (const session of streams) session.giveBack();
  await Promise.all([before.close(), after.close()]);
});

/** Puts another component, or none, in the place of the one that there is. */
async function replaceWith(next: Bus | undefined): Promise<void> {
  bus = next;
  await streams.reconcile();
}

describe("a subscription whose component is replaced", () => {
  it("has no more in flight than it wants, from both together", async () => {
    const stream = new Stream(service);
    await stream.open({ topic: "t", maxInFlight: 3, maxBatch: 1 });
    await before.publish("t", "a", "b");
    const held = await stream.deliveries(2);
    await after.publish("t", "c", "d");
    await replaceWith(after.bus);
    const [third] = await stream.deliveries(1);
    expect(textOf(third!)).toBe("c");
    const [session] = streams;
    expect(session!.held).toBe(3);
    stream.ack(held[0]!);
    expect(textOf(await stream.delivery())).toBe("d");
    expect(session!.held).toBe(3);
  });

  it("gives back what the application has not got, and the old component is left when the rest is settled", async () => {
    const stream = new Stream(service);
    await stream.open({ topic: "t", group: "g", maxInFlight: 4, maxBatch: 1 });
    await before.publish("t", "a", "b", "c");
    const first = await stream.delivery();
    await replaceWith(after.bus);
    let left = false;
    void before.bus.idle().then(() => {
      left = true;
    });
    const other = before.stream();
    await other.open({ topic: "t", group: "g" });
    expect((await other.deliveries(2)).map(textOf)).toEqual(["b", "c"]);
    await other.vanish();
    expect(left).toBe(false);
    stream.ack(first);
    await expect.poll(() => left).toBe(true);
  });

  it("waits while there is none, can be closed meanwhile, and opened again under the same number", async () => {
    const stream = new Stream(service);
    await stream.open({ topic: "t" });
    await replaceWith(undefined);
    stream.say({ case: "close", value: { subscription: 1 } });
    expect(await stream.answer("closed")).toMatchObject({ subscription: 1, code: 0 });
    await expect(stream.open({ topic: "t" })).rejects.toThrow("there is none");
    await replaceWith(after.bus);
    await stream.open({ topic: "t" });
    await after.publish("t", "a");
    expect(textOf(await stream.delivery())).toBe("a");
  });

  it("is the same for what it holds when the stream ends", async () => {
    const stream = new Stream(service);
    await stream.open({ topic: "t", group: "g" });
    await before.publish("t", "a");
    await stream.delivery();
    await replaceWith(after.bus);
    await stream.vanish();
    const other = before.stream();
    await other.open({ topic: "t", group: "g" });
    expect(await other.delivery()).toMatchObject({ attempt: 2 });
  });

  it("that could not be opened yet is opened in the new one", async () => {
    const away = await startSidecar();
    const { promise: never } = Promise.withResolvers<never>();
    bus = Object.assign(Object.create(away.bus), {
      name: "pubsub",
      defaultGroup: "app",
      checkOpen: () => {},
      subscribe: (_shared: unknown, _consumer: unknown, signal: AbortSignal) =>
        Promise.race([
          never,
          new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
        ]),
    }) as Bus;
    const stream = new Stream(service);
    const opening = stream.open({ topic: "t" });
    await expect.poll(() => [...[...streams][0]!.memberships].length).toBe(1);
    await replaceWith(after.bus);
    await opening;
    await after.publish("t", "a");
    expect(textOf(await stream.delivery())).toBe("a");
    await away.close();
  });

  it("gets a broadcast from the new one as soon as there is no other", async () => {
    const stream = new Stream(service);
    await stream.open({ topic: "t", broadcast: true });
    await before.publish("t", "a");
    expect(textOf(await stream.delivery())).toBe("a");
    await replaceWith(after.bus);
    await after.publish("t", "b");
    expect(textOf(await stream.delivery())).toBe("b");
    expect([...before.bus.subscriptions].map(({ held }) => held)).toEqual([1]);
  });

  it("gets what was taken of a broadcast from the old one, for nobody else could get it", async () => {
    const stream = new Stream(service);
    await stream.open({ topic: "t", broadcast: true, maxBatch: 1 });
    await before.publish("t", "a", "b", "c");
    const [first] = await stream.deliveries(1);
    await replaceWith(after.bus);
    await after.publish("t", "d");
    await replaceWith(undefined);
    const rest = await stream.deliveries(3);
    expect(rest.map(textOf)).toEqual(["b", "c", "d"]);
    stream.ack(first!, ...rest);
    await Promise.all([before.bus.idle(), after.bus.idle()]);
  });
});

describe("a publish stream whose component is replaced", () => {
  it("publishes by the new one when what is on its way by the old one has arrived", async () => {
    const release = Promise.withResolvers<void>();
    const slow = await startSidecar({
      wrap: (driver) =>
        changedDriver(driver, { publish: (...args) => release.promise.then(() => driver.publish(...args)) }),
    });
    bus = slow.bus;
    const request = (text: string) => {
      const outgoing = [{ event: { data: Buffer.from(text) } }];
      return create(PublishStreamRequestSchema, { topic: "t", outgoing });
    };
    const handedOver = Promise.withResolvers<void>();
    const replaced = Promise.withResolvers<void>();
    async function* requests() {
      yield request("1");
      handedOver.resolve();
      await replaced.promise;
      yield request("2");
    }
    const answers = service.publishStream(requests(), contextWith()) as AsyncIterable<unknown>;
    const settled = answers[Symbol.asyncIterator]();
    const first = settled.next();
    await handedOver.promise;
    await replaceWith(after.bus);
    replaced.resolve();
    const watching = new Stream(service);
    await watching.open({ topic: "t" });
    expect(await watching.quiet(after)).toBe(true);
    release.resolve();
    expect((await first).value).toMatchObject({ settledThrough: 1n });
    const second = settled.next();
    expect(textOf(await watching.delivery())).toBe("2");
    expect((await second).value).toMatchObject({ settledThrough: 2n });
    await slow.close();
  });
});

describe("a publish stream", () => {
  it("keeps its component from being left while it has read events and not published them", async () => {
    let published = false;
    const watched = await startSidecar({
      wrap: (driver) =>
        changedDriver(driver, {
          publish: async (...args) => {
            const results = await driver.publish(...args);
            published = true;
            return results;
          },
        }),
    });
    bus = watched.bus;
    const idle = Promise.withResolvers<boolean>();
    async function* requests() {
      yield create(PublishStreamRequestSchema, { topic: "t", outgoing: [{ event: {} }] });
      idle.resolve(watched.bus.idle().then(() => published));
    }
    const answers = service.publishStream(requests(), contextWith()) as AsyncIterable<unknown>;
    for await (const answer of answers) expect(answer).toMatchObject({ settledThrough: 1n });
    expect(await idle.promise).toBe(true);
    await watched.close();
  });
});

describe("a declared subscription that has changed", () => {
  const orders: DeclaredSubscription = {
    name: "orders",
    component: "pubsub",
    topic: "t",
    routes: [],
    defaultRoute: "old",
    deadLetterTopic: "",
    raw: false,
  };

  it("is open with its new routes as soon as what has the old ones is settled, on every stream", async () => {
    declared.set("orders", orders);
    const both = [new Stream(service), new Stream(service)];
    for (const stream of both) await stream.open({ declared: "orders", maxInFlight: 1 });
    await before.publish("t", "a", "b");
    const held = await Promise.all(both.map((stream) => stream.delivery()));
    expect(held.map(({ route }) => route)).toEqual(["old", "old"]);
    declared.set("orders", { ...orders, defaultRoute: "new" });
    const reconciled = streams.reconcile();
    await before.publish("t", "c", "d");
    for (const [index, stream] of both.entries()) stream.ack(held[index]!);
    await reconciled;
    const next = await Promise.all(both.map((stream) => stream.delivery()));
    expect(next.map(({ route }) => route)).toEqual(["new", "new"]);
    expect(next.map(textOf).toSorted()).toEqual(["c", "d"]);
  });

  it("stays as it is when something else has", async () => {
    declared.set("orders", orders);
    const stream = new Stream(service);
    await stream.open({ declared: "orders" });
    const [subscription] = before.bus.subscriptions;
    declared.set("other", { ...orders, name: "other" });
    await streams.reconcile();
    expect([...before.bus.subscriptions]).toEqual([subscription]);
  });
});
