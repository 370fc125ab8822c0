import { afterEach, expect, it } from "vitest";
import { Outcome } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Outgoing, PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import { changedDriver } from "./changed-driver.ts";
import { type Sidecar, type Stream, startSidecar } from "./sidecar.ts";

/** What a broker says that has no room for an event. */
class Refusal extends Error {}

let sidecar: Sidecar;
afterEach(() => sidecar.close());

/** A sidecar whose broker refuses what it is told to. */
async function start(refuses: (letter: Outgoing) => boolean): Promise<void> {
  const publish =
    (driver: PubSubDriver): PubSubDriver["publish"] =>
    async (topic, events, call) => {
      if (topic === "dead" && events.some(refuses)) throw new Refusal("secret");
      return await driver.publish(topic, events, call);
    };
  sidecar = await startSidecar({
    wrap: (driver) =>
      changedDriver(driver, {
        publish: publish(driver),
        classify: (error) => (error instanceof Refusal ? "refused" : driver.classify(error)),
      }),
  });
}

async function rejectFirst(stream: Stream): Promise<void> {
  stream.settle(Outcome.REJECT, [await stream.delivery()], { reason: "poison" });
}

it("that are refused as they are go in the form that takes least room, and still say why and where from", async () => {
  await start(({ compact }) => compact !== true);
  const stream = sidecar.stream();
  await stream.open({ subscription: 1, topic: "t", deadLetterTopic: "dead" });
  await stream.open({ subscription: 2, topic: "dead" });
  await sidecar.send("t", { key: "k", headers: { h: "v" }, event: { id: "1", extensions: { tenant: "a" } } });
  await rejectFirst(stream);
  const letter = await stream.delivery();
  expect(letter).toMatchObject({ key: "k", headers: { h: "v" }, event: { id: "1" } });
  expect(letter.event!.extensions).toEqual({
    tenant: "a",
    deadletterreason: "rejected",
    deadlettertopic: "t",
    deadlettergroup: "app",
  });
});

it("that are refused in any form keep their event, tell so, and hold up no other key", async () => {
  let refuse = true;
  await start(() => refuse);
  const stream = sidecar.stream();
  await stream.open({ subscription: 1, topic: "t", deadLetterTopic: "dead", ordered: true, maxInFlight: 1 });
  await stream.open({ subscription: 2, topic: "dead" });
  for (const [key, id] of ["k1", "k2", "l1", "m1"].map((each) => [each[0]!, each] as const))
    await sidecar.send("t", { key, event: { id } });
  await rejectFirst(stream);
  for (const id of ["l1", "m1"]) {
    const delivery = await stream.delivery();
    expect(delivery.event!.id).toBe(id);
    stream.ack(delivery);
  }
  const waiting = async () =>
    /dead_letters_waiting\{[^}]*topic="t"[^}]*\} (\d+)/.exec(await sidecar.telemetry.metrics.text())?.[1];
  expect(await waiting()).toBe("1");
  expect(sidecar.bus.trouble).toBe(
    '"dead" does not take a dead letter of "t": pub/sub component "pubsub" failed',
  );
  refuse = false;
  const delivered = [await stream.delivery(), await stream.delivery()].map(({ event }) => event!.id);
  expect(delivered.sort()).toEqual(["k1", "k2"]);
  await expect.poll(waiting).toBe("0");
  expect(sidecar.bus.trouble).toBe("");
});

it("that are refused do not keep a group from being opened in another way when everybody has left", async () => {
  await start(() => true);
  const first = sidecar.stream();
  await first.open({ topic: "t", deadLetterTopic: "dead" });
  await sidecar.send("t", { event: { id: "1" } });
  await rejectFirst(first);
  await expect.poll(() => sidecar.bus.trouble).not.toBe("");
  first.halfClose();
  const second = sidecar.stream();
  await second.open({ subscription: 1, topic: "t", deadLetterTopic: "elsewhere" });
  await second.open({ subscription: 2, topic: "elsewhere" });
  await rejectFirst(second);
  expect(await second.delivery()).toMatchObject({ subscription: 2, event: { id: "1" } });
});
