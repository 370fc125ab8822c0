import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterEach, beforeAll, expect, it } from "vitest";
import type { DriverSubscription, PubSubDriver, Received } from "../../src/blocks/pubsub/driver.ts";
import { outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { type NatsAddress, sharedNats, startNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import { openProxy } from "../servers/toxiproxy.ts";
import { openPubSub } from "./jetstream-server.ts";

const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });
const run = `${process.pid}-${Date.now().toString(36)}`;
let count = 0;
const fresh = (name: string) => `${name}-${run}-${++count}`;

/** What a test opens, closed after it. */
const opened: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

async function open(natsURL: string, metadata: Record<string, string> = {}): Promise<PubSubDriver> {
  const driver = await openPubSub({ natsURL, ...metadata });
  opened.push(() => driver.close());
  return driver;
}

const spec = (topic: string, group: string, ordered = false) =>
  ({ topic, group, start: { at: "earliest" }, ordered, raw: false }) as const;

async function take(
  subscription: DriverSubscription,
  events: number,
  withinMs = 20_000,
): Promise<Received[]> {
  const taken: Received[] = [];
  const call = within(withinMs);
  while (taken.length < events && !call.signal.aborted) {
    taken.push(...(await subscription.receive(events - taken.length, call)));
  }
  expect(taken).toHaveLength(events);
  return taken;
}

async function done(subscription: DriverSubscription, received: readonly Received[]): Promise<void> {
  await subscription.settle(
    received.map(({ receipt }) => ({ receipt, kind: "done" })),
    within(10_000),
  );
}

async function publish(
  driver: PubSubDriver,
  topic: string,
  texts: readonly string[],
  key = "",
): Promise<void> {
  const results = await driver.publish(
    topic,
    texts.map((text) => outgoing(text, { key })),
    within(10_000),
  );
  for (const result of results) if (result instanceof Error) throw result;
}

/** A sidecar in another process that takes events and holds them. */
class Holder {
  readonly #child: ChildProcess;
  readonly received: string[] = [];

  constructor(natsURL: string, topic: string, group: string, ordered: boolean, takes: number) {
    const child = new URL("jetstream-child.ts", import.meta.url).pathname;
    const words = [child, natsURL, topic, group, ordered ? "ordered" : "", String(takes)];
    this.#child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      const said = JSON.parse(line) as { received?: string };
      if (said.received !== undefined) this.received.push(said.received);
    });
    opened.push(() => this.signal("SIGKILL"));
  }

  async holds(...texts: string[]): Promise<void> {
    await expect.poll(() => this.received, { timeout: 20_000 }).toEqual(texts);
  }

  async signal(name: NodeJS.Signals): Promise<void> {
    this.#child.kill(name);
    if (name !== "SIGKILL") return;
    if (this.#child.exitCode === null && this.#child.signalCode === null)
      await new Promise((resolve) => this.#child.once("exit", resolve));
  }
}

describeWith(["nats", "toxiproxy"], "pubsub.jetstream when something dies", () => {
  let nats: NatsAddress;
  beforeAll(async () => {
    nats = await sharedNats();
  });

  it("gives what a killed sidecar held to another one, as the second attempt", async () => {
    const [topic, group] = [fresh("killed"), fresh("group")];
    const driver = await open(nats.url);
    await publish(driver, topic, ["held"]);
    const holder = new Holder(nats.url, topic, group, false, 1);
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

  it("keeps the order of a key when the sidecar that led an ordered group is killed", async () => {
    const [topic, group] = [fresh("led"), fresh("group")];
    const driver = await open(nats.url);
    await publish(driver, topic, ["a0", "a1"], "a");
    await publish(driver, topic, ["b0", "b1"], "b");
    const holder = new Holder(nats.url, topic, group, true, 10);
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
    const holder = new Holder(nats.url, topic, group, true, 10);
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
    const connection = await connect({ servers: nats.url });
    opened.push(() => connection.close());
    const manager = await jetstreamManager(connection);
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
    const connection = await connect({ servers: nats.url });
    opened.push(() => connection.close());
    const manager = await jetstreamManager(connection);
    await manager.streams.delete(await manager.streams.find(topic));
    await publish(driver, topic, ["after"]);
    expect((await waiting).map(textOf)).toEqual(["after"]);
  }, 60_000);

  it("goes on with an ordered group when somebody deleted the bucket that says who leads", async () => {
    await using own = await startNats();
    const url = `nats://127.0.0.1:${own.port}`;
    const driver = await open(url);
    const [topic, group] = [fresh("leaderless"), fresh("group")];
    const subscription = await driver.open(spec(topic, group, true), within(5000));
    await publish(driver, topic, ["before"], "key");
    await done(subscription, await take(subscription, 1));
    const connection = await connect({ servers: url });
    const manager = await jetstreamManager(connection);
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
    await connection.close();
    await driver.close();
  }, 60_000);

  it("leaves an ordered group at once when the server is gone", async () => {
    const own = await startNats();
    opened.push(async () => own[Symbol.asyncDispose]());
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
