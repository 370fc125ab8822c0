import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, expect, it } from "vitest";
import { outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { type NatsAddress, sharedNats, startNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import { serverFolder } from "../servers/run-folder.ts";
import { openProxy } from "../servers/toxiproxy.ts";
import { done, Opened, publish, spec, take, within } from "./jetstream-fixture.ts";

const opened = new Opened();
const fresh = (name: string) => opened.fresh(name);
const open = (natsURL: string, metadata?: Record<string, string>) => opened.driver(natsURL, metadata);
afterEach(() => opened.closeAll());

describeWith(["nats", "toxiproxy"], "pubsub.jetstream when something dies", () => {
  let nats: NatsAddress;
  beforeAll(async () => {
    nats = await sharedNats();
  });

  it("gives what a killed sidecar held to another one, as the second attempt", async () => {
    const [topic, group] = [fresh("killed"), fresh("group")];
    const driver = await open(nats.url);
    await publish(driver, topic, ["held"]);
    const holder = opened.holder(nats.url, topic, group, { ordered: false, takes: 1 });
    await holder.holds("held");
    const staying = await driver.open(spec(topic, group), within(5000));
    await holder.signal("SIGKILL");
    const [event] = await take(staying, 1, 15_000);
    expect([textOf(event!), event!.attempt]).toEqual(["held", 2]);
  }, 40_000);

  it("does not give an event to another member while it is handled, however long that takes", async () => {
    const [topic, group] = [fresh("slow"), fresh("group")];
    const metadata = { ackWait: "1s" };
    const [one, other] = [await open(nats.url, metadata), await open(nats.url, metadata)];
    const holding = await one.open(spec(topic, group), within(5000));
    await publish(one, topic, ["slow"]);
    const held = await take(holding, 1);
    const waiting = await other.open(spec(topic, group), within(5000));
    expect(await waiting.receive(1, within(4000))).toEqual([]);
    await done(holding, held);
    expect(await waiting.receive(1, within(1500))).toEqual([]);
  }, 20_000);

  it("goes on after the server was killed and started again, and publishes wait for it", async () => {
    await using server = await startNats();
    const [topic, group] = [fresh("restart"), fresh("group")];
    const driver = await open(server.url);
    const subscription = await driver.open(spec(topic, group), within(5000));
    await publish(driver, topic, ["before", "held"]);
    const received = await take(subscription, 2);
    await done(subscription, received.slice(0, 1));
    await server.kill();
    const waiting = subscription.receive(10, within(30_000));
    const publishing = publish(driver, topic, ["meanwhile 1", "meanwhile 2"]);
    await server.restart();
    await publishing;
    const texts = (await waiting).map(textOf);
    while (texts.length < 2) texts.push(...(await take(subscription, 1)).map(textOf));
    expect(texts.filter((text) => text.startsWith("meanwhile"))).toEqual(["meanwhile 1", "meanwhile 2"]);
    // The server itself forgets what was settled in the moments before it is killed.
    expect(texts).not.toContain("before");
    await done(subscription, received.slice(1));
    expect(await subscription.receive(10, within(500))).toEqual([]);
  }, 60_000);

  it("settles what the server has forgotten that it delivered, although nobody asks for more", async () => {
    const folder = serverFolder("forgetful");
    const [store, before] = [join(folder, "store"), join(folder, "before")];
    await using server = await startNats("", store);
    const [topic, group] = [fresh("forgotten"), fresh("group")];
    const driver = await open(server.url);
    const subscription = await driver.open(spec(topic, group), within(5000));
    await publish(driver, topic, ["held"]);
    await server.kill();
    await cp(store, before, { recursive: true });
    await server.restart();
    const received = await take(subscription, 1);
    // As a server finds it that is killed before it has written down what it delivers.
    await server.kill();
    await rm(store, { recursive: true });
    await cp(before, store, { recursive: true });
    await server.restart();
    await expect
      .poll(() => done(subscription, received).then(() => "settled", String), { timeout: 30_000 })
      .toBe("settled");
    expect(await subscription.receive(1, within(1500))).toEqual([]);
    await expect
      .poll(async () => (await subscription.lag!(within(5000))).events, { timeout: 10_000 })
      .toBe(0);
  }, 60_000);

  it("gives up a publish when its call ends, or after ten seconds, while the server is frozen", async () => {
    await using server = await startNats();
    const topic = fresh("stopped");
    const driver = await open(server.url);
    await publish(driver, topic, ["before"]);
    await server.freeze();
    await expect(driver.publish(topic, [outgoing("short")], within(300))).rejects.toMatchObject({
      name: "TimeoutError",
    });
    const [result] = await driver.publish(topic, [outgoing("long")], within(60_000));
    expect(result).toBeInstanceOf(Error);
    expect(driver.classify(result)).toBe("unavailable");
    server.thaw();
    await expect
      .poll(() => publish(driver, topic, ["after"]).then(() => "published"), { timeout: 20_000 })
      .toBe("published");
  }, 60_000);

  it("stores each event once and in order although the connection is cut again and again", async () => {
    await using proxy = await openProxy(nats.port);
    const topic = fresh("cut");
    const cutOff = await open(`nats://${proxy.host}:${proxy.port}`);
    const direct = await open(nats.url);
    const subscription = await direct.open(spec(topic, fresh("group")), within(5000));
    const publishes: Promise<void>[] = [];
    for (let round = 0; round < 4; round++) {
      for (let i = 0; i < 50; i++) publishes.push(publish(cutOff, topic, [String(round * 50 + i)]));
      await proxy.cut();
      await proxy.mend();
      await publishes.at(-1);
    }
    await Promise.all(publishes);
    const texts = (await take(subscription, 200)).map(textOf);
    expect(texts).toEqual(Array.from({ length: 200 }, (_, index) => String(index)));
    expect(await subscription.receive(10, within(300))).toEqual([]);
  }, 60_000);

  it("looks for a topic's stream again when the connection is lost before the answer has come", async () => {
    await using proxy = await openProxy(nats.port);
    const driver = await open(`nats://${proxy.host}:${proxy.port}`);
    await proxy.poison({ type: "timeout", timeout: 0 });
    const publishing = publish(driver, fresh("unanswered"), ["event"]);
    await proxy.cut();
    await proxy.mend();
    await publishing;
  }, 30_000);

  it("makes a group's consumer again that somebody deleted, and loses nothing", async () => {
    const [topic, group] = [fresh("deleted"), fresh("group")];
    const driver = await open(nats.url);
    const subscription = await driver.open(spec(topic, group), within(5000));
    await publish(driver, topic, ["settled", "held"]);
    const received = await take(subscription, 2);
    await done(subscription, received.slice(0, 1));
    const manager = await opened.manager(nats.url);
    const stream = await manager.streams.find(topic);
    const [consumer] = await manager.consumers.list(stream).next();
    // A server that does not say that the consumer is gone is found to be silent, within 20 s.
    const waiting = subscription.receive(10, within(40_000));
    await manager.consumers.delete(stream, consumer!.name);
    await publish(driver, topic, ["after"]);
    expect((await waiting).map(textOf)).toEqual(["after"]);
    await done(subscription, received.slice(1));
  }, 60_000);

  it("makes a stream again that somebody deleted, for publishers and subscribers", async () => {
    const [topic, group] = [fresh("vanished"), fresh("group")];
    const driver = await open(nats.url);
    const subscription = await driver.open(spec(topic, group), within(5000));
    await publish(driver, topic, ["before"]);
    await done(subscription, await take(subscription, 1));
    // Also here.
    const waiting = subscription.receive(10, within(40_000));
    const manager = await opened.manager(nats.url);
    await manager.streams.delete(await manager.streams.find(topic));
    await publish(driver, topic, ["after"]);
    expect((await waiting).map(textOf)).toEqual(["after"]);
  }, 60_000);

  it("gives an event up that was delivered maxDeliver times, and says so", async () => {
    const [topic, group] = [fresh("poison"), fresh("group")];
    const driver = await open(nats.url, { maxDeliver: "2" });
    const subscription = await driver.open(spec(topic, group), within(5000));
    await publish(driver, topic, ["poison"]);
    for (const attempt of [1, 2]) {
      const [event] = await take(subscription, 1);
      expect(event!.attempt).toBe(attempt);
      await subscription.settle([{ receipt: event!.receipt, kind: "again", delayMs: 0 }], within(5000));
    }
    expect(await subscription.receive(1, within(500))).toEqual([]);
    expect((await subscription.lag!(within(5000))).events).toBe(0);
  }, 20_000);
});
