/** pubsub.jetstream's ordered groups when whoever reads for one dies, freezes or loses what it held. */
import { DeliverPolicy } from "@nats-io/jetstream";
import { createInbox } from "@nats-io/transport-node";
import { afterEach, beforeAll, expect, it } from "vitest";
import { textOf } from "../conformance/pubsub/fixture.ts";
import { type NatsAddress, sharedNats, startNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import { HoldingProxy } from "./holding-proxy.ts";
import { done, Opened, publish, spec, take, within } from "./jetstream-fixture.ts";
import { openPubSub } from "./jetstream-server.ts";

const opened = new Opened();
const fresh = (name: string) => opened.fresh(name);
const open = (natsURL: string, metadata?: Record<string, string>) => opened.driver(natsURL, metadata);
afterEach(() => opened.closeAll());

describeWith("nats", "an ordered group of pubsub.jetstream", () => {
  let nats: NatsAddress;
  beforeAll(async () => {
    nats = await sharedNats();
  });

  it("keeps the order of a key when the sidecar that led an ordered group is killed", async () => {
    const [topic, group] = [fresh("led"), fresh("group")];
    const driver = await open(nats.url);
    await publish(driver, topic, ["a0", "a1"], "a");
    await publish(driver, topic, ["b0", "b1"], "b");
    const holder = opened.holder(nats.url, topic, group, { ordered: true, takes: 10 });
    await holder.holds("a0", "b0");
    const staying = await driver.open(spec(topic, group, true), within(5000));
    await publish(driver, topic, ["a2"], "a");
    await holder.signal("SIGKILL");
    const order: string[] = [];
    while (order.length < 5) {
      const [event] = await take(staying, 1, 25_000);
      order.push(`${textOf(event!)} attempt ${event!.attempt}`);
      await done(staying, [event!]);
    }
    // What waited for its turn in the sidecar that was killed was no attempt.
    const a = ["a0 attempt 2", "a1 attempt 1", "a2 attempt 1"];
    expect(order.filter((text) => text.startsWith("a"))).toEqual(a);
    expect(order.filter((text) => text.startsWith("b"))).toEqual(["b0 attempt 2", "b1 attempt 1"]);
  }, 60_000);

  it("keeps the order of a key when the sidecar that led freezes, and gives nothing to it when it thaws", async () => {
    const [topic, group] = [fresh("frozen"), fresh("group")];
    const driver = await open(nats.url);
    await publish(driver, topic, ["a0"], "a");
    const holder = opened.holder(nats.url, topic, group, { ordered: true, takes: 10 });
    await holder.holds("a0");
    const staying = await driver.open(spec(topic, group, true), within(5000));
    await holder.signal("SIGSTOP");
    // Goes to the requests of the frozen one, which the server still has.
    await publish(driver, topic, ["a1", "a2"], "a");
    const order: string[] = [];
    while (order.length < 3) {
      const [event] = await take(staying, 1, 30_000);
      order.push(textOf(event!));
      await done(staying, [event!]);
      if (order.length === 1) await publish(driver, topic, ["a3"], "a");
    }
    expect(order).toEqual(["a0", "a1", "a2"]);
    await holder.signal("SIGCONT");
    const [last] = await take(staying, 1, 30_000);
    expect(textOf(last!)).toBe("a3");
    expect(holder.received).toEqual(["a0"]);
  }, 90_000);

  it("goes on with an ordered group when somebody deleted the bucket that says who leads", async () => {
    await using own = await startNats();
    const url = `nats://127.0.0.1:${own.port}`;
    const driver = await open(url);
    const [topic, group] = [fresh("leaderless"), fresh("group")];
    const subscription = await driver.open(spec(topic, group, true), within(5000));
    await publish(driver, topic, ["before"], "key");
    await done(subscription, await take(subscription, 1));
    const manager = await opened.manager(url);
    await manager.streams.delete("KV_outrider_leases");
    // Whoever leads believes in it for a while.
    await expect
      .poll(
        async () => (await manager.streams.info("KV_outrider_leases").catch(() => undefined))?.state.messages,
        {
          timeout: 25_000,
        },
      )
      .toBe(1);
    await publish(driver, topic, ["after"], "key");
    expect((await take(subscription, 1)).map(textOf)).toEqual(["after"]);
    await opened.closeAll();
  }, 60_000);

  it("leaves an ordered group at once when the server is gone", async () => {
    const own = await startNats();
    opened.closing(async () => own[Symbol.asyncDispose]());
    const driver = await openPubSub({ natsURL: `nats://127.0.0.1:${own.port}` });
    const [topic, group] = [fresh("gone"), fresh("group")];
    const subscription = await driver.open(spec(topic, group, true), within(5000));
    const receiving = subscription.receive(1, within(60_000));
    await own.kill();
    await expect(driver.ping(within(20_000))).rejects.toThrow();
    await expect
      .poll(() => driver.ping(within(20_000)).catch(String), { timeout: 20_000 })
      .toContain("is lost");
    await driver.close();
    expect(await receiving).toEqual([]);
  }, 40_000);

  it("gives what a killed sidecar held to another one without waiting until nobody has kept it alive", async () => {
    const [topic, group] = [fresh("soon"), fresh("group")];
    const driver = await open(nats.url, { ackWait: "10m" });
    const members = [await driver.open(spec(topic, group, true), within(5000))];
    await publish(driver, topic, ["a0", "a1"], "a");
    await publish(driver, topic, ["b0"], "b");
    await members[0]!.close();
    const holder = opened.holder(nats.url, topic, group, { ordered: true, takes: 10 });
    await holder.holds("a0", "b0");
    const staying = await driver.open(spec(topic, group, true), within(5000));
    await holder.signal("SIGKILL");
    const texts = (await take(staying, 2, 60_000)).map(textOf);
    expect(texts).toEqual(["a0", "b0"]);
  }, 90_000);

  it("does not settle what it has lost while it was frozen", async () => {
    const [topic, group] = [fresh("fenced"), fresh("group")];
    const driver = await open(nats.url);
    await publish(driver, topic, ["a0"], "a");
    const holder = opened.holder(nats.url, topic, group, { ordered: true, takes: 10, settleAfterMs: 1500 });
    await holder.holds("a0");
    await holder.signal("SIGSTOP");
    const staying = await driver.open(spec(topic, group, true), within(5000));
    const [event] = await take(staying, 1, 30_000);
    await holder.signal("SIGCONT");
    await expect.poll(() => holder.settled, { timeout: 20_000 }).toHaveLength(1);
    expect((await staying.lag!(within(5000))).events).toBe(1);
    await done(staying, [event!]);
    expect((await staying.lag!(within(5000))).events).toBe(0);
  }, 60_000);

  it("goes on when the consumer was deleted while the sidecar that led was dead", async () => {
    const [topic, group] = [fresh("deleted"), fresh("group")];
    const driver = await open(nats.url);
    await publish(driver, topic, ["a0", "a1"], "a");
    const holder = opened.holder(nats.url, topic, group, { ordered: true, takes: 10 });
    await holder.holds("a0");
    const staying = await driver.open(spec(topic, group, true), within(5000));
    await holder.signal("SIGKILL");
    const manager = await opened.manager(nats.url);
    const stream = await manager.streams.find(topic);
    const [consumer] = await manager.consumers.list(stream).next();
    await manager.consumers.delete(stream, consumer!.name);
    for (const text of ["a0", "a1"]) {
      const events = await take(staying, 1, 30_000);
      expect(events.map(textOf)).toEqual([text]);
      await done(staying, events);
    }
  }, 60_000);

  it.each([true, false])(
    "settles what it holds after the consumer was deleted, ordered %s",
    async (ordered) => {
      const [topic, group] = [fresh("unasked"), fresh("group")];
      const driver = await open(nats.url, { ackWait: "1s" });
      const subscription = await driver.open(spec(topic, group, ordered), within(5000));
      await publish(driver, topic, ["held"], "a");
      const held = await take(subscription, 1);
      const manager = await opened.manager(nats.url);
      const stream = await manager.streams.find(topic);
      const [consumer] = await manager.consumers.list(stream).next();
      await manager.consumers.delete(stream, consumer!.name);
      const receiving = subscription.receive(1, within(30_000));
      // As the engine does it.
      await expect
        .poll(() => done(subscription, held).then(() => "settled", String), { timeout: 25_000 })
        .toBe("settled");
      await publish(driver, topic, ["next"], "a");
      expect((await receiving).map(textOf)).toEqual(["next"]);
    },
    60_000,
  );

  it("goes on when its requests are lost while it asks the server whether all is here", async () => {
    await using proxy = await HoldingProxy.open(nats.port);
    const [topic, group] = [fresh("between"), fresh("group")];
    const driver = await open(`nats://127.0.0.1:${proxy.port}`);
    const direct = await open(nats.url);
    const subscription = await driver.open(spec(topic, group, true), within(5000));
    await publish(direct, topic, ["first"], "a");
    await done(subscription, await take(subscription, 1));
    const receiving = subscription.receive(1, within(40_000));
    const manager = await opened.manager(nats.url);
    const stream = await manager.streams.find(topic);
    const [consumer] = await manager.consumers.list(stream).next();
    // Somebody else takes one of three events, which is a gap in what comes here.
    const stranger = await opened.connection(nats.url);
    const inbox = createInbox();
    stranger.subscribe(inbox);
    stranger.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer!.name}`, "1", { reply: inbox });
    await stranger.flush();
    proxy.holdFrom("CONSUMER.INFO");
    await publish(direct, topic, ["b0", "b1", "b2"]);
    await expect.poll(() => proxy.isHolding, { timeout: 20_000 }).toBe(true);
    await manager.consumers.delete(stream, consumer!.name);
    await expect.poll(() => proxy.answers, { timeout: 20_000 }).toContain("Consumer Deleted");
    const { opt_start_seq: _seq, ...config } = consumer!.config;
    await manager.consumers.add(stream, { ...config, deliver_policy: DeliverPolicy.New });
    proxy.release();
    await receiving;
    await publish(direct, topic, ["after"], "a");
    const texts: string[] = [];
    while (!texts.includes("after")) {
      const events = await take(subscription, 1, 30_000);
      texts.push(...events.map(textOf));
      await done(subscription, events);
    }
  }, 60_000);

  it("goes on with a key after an event of it that was given up at maxDeliver", async () => {
    const [topic, group] = [fresh("given-up"), fresh("group")];
    const driver = await open(nats.url, { maxDeliver: "2" });
    const subscription = await driver.open(spec(topic, group, true), within(5000));
    await publish(driver, topic, ["poison", "next"], "a");
    for (const attempt of [1, 2]) {
      const [event] = await take(subscription, 1);
      expect([textOf(event!), event!.attempt]).toEqual(["poison", attempt]);
      await subscription.settle([{ receipt: event!.receipt, kind: "again", delayMs: 0 }], within(5000));
    }
    expect((await take(subscription, 1)).map(textOf)).toEqual(["next"]);
  }, 30_000);

  it("goes on with a key when an event that is to come again has gone from the stream", async () => {
    const [topic, group] = [fresh("removed"), fresh("group")];
    const driver = await open(nats.url, { ackWait: "1s" });
    const subscription = await driver.open(spec(topic, group, true), within(5000));
    await publish(driver, topic, ["removed", "next"], "a");
    const [event] = await take(subscription, 1);
    const manager = await opened.manager(nats.url);
    await manager.streams.deleteMessage(await manager.streams.find(topic), Number(event!.position));
    await subscription.settle([{ receipt: event!.receipt, kind: "again", delayMs: 0 }], within(5000));
    expect((await take(subscription, 1)).map(textOf)).toEqual(["next"]);
  }, 30_000);

  it("holds no more events than before when many were out at a takeover", async () => {
    const [topic, group] = [fresh("window"), fresh("group")];
    const driver = await open(nats.url);
    const many = Array.from({ length: 6000 }, (_, index) => String(index));
    await publish(driver, topic, many, "a");
    const holder = opened.holder(nats.url, topic, group, { ordered: true, takes: 10 });
    await holder.holds("0");
    const manager = await opened.manager(nats.url);
    const stream = await manager.streams.find(topic);
    const out = async () => (await manager.consumers.list(stream).next())[0]!.num_ack_pending;
    await expect.poll(out, { timeout: 20_000 }).toBe(4096);
    const staying = await driver.open(spec(topic, group, true), within(5000));
    await holder.signal("SIGKILL");
    expect((await take(staying, 1, 30_000)).map(textOf)).toEqual(["0"]);
    expect(await out()).toBe(4096);
  }, 60_000);
});
