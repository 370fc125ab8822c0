import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EventSchema, Outcome } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { DriverSubscription, PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import type { StateDriver } from "../../../src/blocks/state/driver.ts";
import { openMemory } from "../state/state-client.ts";
import { changedDriver, changedSubscription } from "./changed-driver.ts";
import { refusalOf, type Sidecar, type Stream, startSidecar } from "./sidecar.ts";

let store: StateDriver;
let sidecar: Sidecar;
beforeEach(async () => {
  store = await openMemory();
  sidecar = await startSidecar({ store });
});
afterEach(() => sidecar.close());

const open = { topic: "t", inbox: { window: { seconds: 3600n } } };
const lag = async () => (await [...sidecar.bus.subscriptions][0]!.lag())?.events;
const publish = (id: string, source = "shop") => sidecar.send("t", { event: { id, source } });

async function take(stream: Stream): Promise<string> {
  const delivery = await stream.delivery();
  stream.ack(delivery);
  return delivery.event!.id;
}

describe("a subscription with an inbox", () => {
  it("settles a copy of what was acknowledged without delivering it", async () => {
    const stream = sidecar.stream();
    const agreed = await stream.open(open);
    expect(agreed.inbox).toMatchObject({ store: "", window: { seconds: 3600n } });
    await publish("a");
    expect(await take(stream)).toBe("a");
    await expect.poll(lag).toBe(0);
    await publish("a");
    await publish("b");
    expect(await take(stream)).toBe("b");
    await expect.poll(lag).toBe(0);
    expect(await sidecar.telemetry.metrics.text()).toMatch(/deliveries_total\{.*outcome="duplicate"\} 1$/m);
  });

  it("knows an event by its source and its id together", async () => {
    const stream = sidecar.stream();
    await stream.open(open);
    await publish("a", "shop");
    expect(await take(stream)).toBe("a");
    await publish("a", "warehouse");
    expect(await take(stream)).toBe("a");
  });

  it("delivers again what was not acknowledged", async () => {
    const stream = sidecar.stream();
    await stream.open(open);
    await publish("a");
    stream.settle(Outcome.RETRY, [await stream.delivery()], { delayMs: 0 });
    const second = await stream.delivery();
    expect(second.attempt).toBe(2);
    await stream.vanish();
    const next = sidecar.stream();
    await next.open(open);
    expect((await next.delivery()).attempt).toBe(3);
  });

  it("delivers a redriven event again: it was given up, not handled", async () => {
    const stream = sidecar.stream();
    await stream.open({ ...open, deadLetterTopic: "dead" });
    await publish("a");
    stream.settle(Outcome.REJECT, [await stream.delivery()]);
    await expect.poll(lag).toBe(0);
    await publish("a");
    expect(await take(stream)).toBe("a");
  });

  it("does not deliver a copy while its twin is being handled, and not afterwards either", async () => {
    const stream = sidecar.stream();
    await stream.open(open);
    await publish("a");
    const twin = await stream.delivery();
    await publish("a");
    expect(await stream.quiet(sidecar)).toBe(true);
    stream.ack(twin);
    await expect.poll(lag, { timeout: 5000 }).toBe(0);
    expect(await stream.quiet(sidecar)).toBe(true);
  });

  it("has each group remember for itself", async () => {
    const stream = sidecar.stream();
    await stream.open({ ...open, subscription: 1, group: "one" });
    await stream.open({ ...open, subscription: 2, group: "two" });
    await publish("a");
    const both = await stream.deliveries(2);
    expect(both.map(({ subscription }) => subscription).sort()).toEqual([1, 2]);
  });

  it("remembers before the broker is told: a sidecar that dies in between delivers nothing twice", async () => {
    await sidecar.close();
    store = await openMemory();
    let broker: PubSubDriver | undefined;
    // The first sidecar dies before the broker hears of the acknowledgement.
    const dies = (real: DriverSubscription): DriverSubscription =>
      changedSubscription(real, {
        settle: (settlements, call) =>
          settlements.some(({ kind }) => kind === "done")
            ? Promise.resolve()
            : real.settle(settlements, call),
      });
    sidecar = await startSidecar({
      store,
      wrap: (real) => {
        broker = real;
        return changedDriver(real, {
          open: async (spec, call) => dies(await real.open(spec, call)),
          close: async () => {},
        });
      },
    });
    const stream = sidecar.stream();
    await stream.open(open);
    await publish("a");
    expect(await take(stream)).toBe("a");
    await expect.poll(async () => (await store.list!(everything, { signal })).items.length).toBe(1);
    await stream.vanish();
    await sidecar.close();

    sidecar = await startSidecar({ store, wrap: () => broker! });
    const next = sidecar.stream();
    await next.open(open);
    expect(await next.quiet(sidecar)).toBe(true);
  });

  it("forgets when the window has passed", async () => {
    const stream = sidecar.stream();
    await stream.open({ topic: "t", inbox: { window: { seconds: 1n } } });
    await publish("a");
    expect(await take(stream)).toBe("a");
    await expect
      .poll(async () => (await store.list!(everything, { signal })).items.length, { timeout: 5000 })
      .toBe(0);
    await publish("a");
    expect(await take(stream)).toBe("a");
  });

  it.each([
    ["a window that is too short", { inbox: { window: { nanos: 5 } } }, "open.inbox.window"],
    ["a window that is too long", { inbox: { window: { seconds: 40_000_000n } } }, "open.inbox.window"],
    ["raw", { raw: true, inbox: {} }, "open.inbox"],
    ["broadcast", { broadcast: true, inbox: {} }, "open.inbox"],
  ])("is refused with %s", async (_, given, field) => {
    const refusal = await refusalOf(sidecar.stream().open({ topic: "t", ...given }));
    expect([refusal.reason, refusal.message]).toEqual(["INVALID_REQUEST", expect.stringContaining(field)]);
  });

  it("is refused where its store is not there, or another stream of the group has it otherwise", async () => {
    const missing = await refusalOf(sidecar.stream().open({ topic: "t", inbox: { store: "elsewhere" } }));
    expect(missing.reason).toBe("COMPONENT_NOT_FOUND");
    await sidecar.stream().open(open);
    const other = await refusalOf(sidecar.stream().open({ topic: "t" }));
    expect(other.reason).toBe("SUBSCRIPTION_CONFLICT");
  });
});

const signal = new AbortController().signal;
const everything = { prefix: "", after: undefined, limit: 10, keysOnly: true };

describe("a record that is no CloudEvent", () => {
  /** A broker to which somebody else writes: what is received is no CloudEvent. */
  const foreign = (real: PubSubDriver): PubSubDriver =>
    changedDriver(real, {
      open: async (spec, call) => {
        const opened = await real.open(spec, call);
        if (spec.topic !== "t") return opened;
        return changedSubscription(opened, {
          receive: async (max, receiving) =>
            (await opened.receive(max, receiving)).map((received) => ({
              ...received,
              event: create(EventSchema, { data: received.event.data }),
              notCloudEvent: "it is not JSON",
            })),
        });
      },
    });

  it("is delivered with its bytes, unless it is configured otherwise", async () => {
    const other = await startSidecar({ wrap: foreign });
    const stream = other.stream();
    await stream.open({ topic: "t", deadLetterTopic: "dead" });
    await other.publish("t", "bytes");
    expect(Buffer.from((await stream.delivery()).event!.data).toString()).toBe("bytes");
    await other.close();
  });

  it("goes to the dead-letter topic where that is configured, with the reason", async () => {
    const other = await startSidecar({ wrap: foreign, settings: { nonCloudEvents: "deadLetter" } });
    const stream = other.stream();
    await stream.open({ subscription: 1, topic: "t", deadLetterTopic: "dead" });
    await stream.open({ subscription: 2, topic: "dead" });
    await other.publish("t", "bytes");
    const letter = await stream.delivery();
    expect(letter.subscription).toBe(2);
    expect(letter.event!.extensions).toMatchObject({
      deadletterreason: "nocloudevent",
      deadletterdetail: "it is not JSON",
    });
    await other.close();
  });

  it("is delivered, and not lost, where there is no dead-letter topic", async () => {
    const other = await startSidecar({ wrap: foreign, settings: { nonCloudEvents: "deadLetter" } });
    const stream = other.stream();
    await stream.open({ topic: "t" });
    await other.publish("t", "bytes");
    expect((await stream.delivery()).attempt).toBe(1);
    await other.close();
  });
});
