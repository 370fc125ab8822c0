import { afterEach, beforeEach, expect, it } from "vitest";
import { PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { sharedPooler } from "../servers/pgbouncer.ts";
import { describeWith } from "../servers/require.ts";
import { Child } from "./child.ts";
import { Schema } from "./postgresql-schema.ts";

describeWith("postgresql", "processes that share a log on PostgreSQL", () => {
  let schema: Schema;
  let children: Child[];
  let pubsub: PubSubFixture;
  const child = (...args: string[]) => {
    const started = new Child(
      "postgresql-child.ts",
      JSON.stringify({ connectionString: schema.url, schema: schema.name }),
      ...args,
    );
    children.push(started);
    return started;
  };
  /** Receives a number of events, for as long as the dead are waited for. */
  const takeLate = async (
    subscription: Awaited<ReturnType<PubSubFixture["open"]>>,
    count: number,
    limitMs: number,
  ) => {
    const signal = AbortSignal.timeout(limitMs);
    const taken = [];
    while (taken.length < count && !signal.aborted)
      taken.push(...(await subscription.receive(count, { signal })));
    return taken;
  };

  beforeEach(async () => {
    schema = await Schema.make();
    children = [];
    pubsub = new PubSubFixture();
    pubsub.use(await schema.pubsub(), undefined);
  });
  afterEach(async () => {
    await Promise.all(children.map((started) => started.kill()));
    await pubsub.close();
  });

  it("compete for the events of a group: each goes to one of them", async () => {
    const consumers = [child("consume", "work", "g"), child("consume", "work", "g")];
    for (const consumer of consumers) await consumer.said("joined");
    const texts = Array.from({ length: 2000 }, (_, i) => String(i));
    for (let i = 0; i < texts.length; i += 50) await pubsub.publish("work", texts.slice(i, i + 50));
    const received = () =>
      consumers.flatMap(({ lines }) => lines.flatMap((line) => (line.received ? [line.received] : [])));
    await expect.poll(() => received().length, { timeout: 20_000 }).toBeGreaterThanOrEqual(texts.length);
    expect(received().toSorted()).toEqual(texts.toSorted());
  });

  it("give back within seconds what a killed one held, with the attempt counted", async () => {
    await pubsub.publish("held", ["a", "b", "c"]);
    const holder = child("hold", "held", "g");
    await holder.said("received", 3);
    const subscription = await pubsub.open("held", { group: "g" });
    await holder.kill();
    const received = await takeLate(subscription, 3, 5000);
    expect(received.map((event) => [textOf(event), event.attempt])).toEqual([
      ["a", 2],
      ["b", 2],
      ["c", 2],
    ]);
  });

  it("give back what one held that stopped for too long, which begins anew when it goes on", async () => {
    await pubsub.publish("held", ["a"]);
    const holder = child("hold", "held", "g");
    await holder.said("received", 1);
    const subscription = await pubsub.open("held", { group: "g" });
    holder.signal("SIGSTOP");
    expect((await takeLate(subscription, 1, 28_000)).map(textOf)).toEqual(["a"]);
    holder.signal("SIGCONT");
    const sidecars = () => schema.sql("SELECT id FROM outrider_sidecars");
    await expect.poll(async () => (await sidecars()).length, { timeout: 5000 }).toBe(2);
  }, 60_000);

  it("do not take from one that lives, even when all its connections are ended", async () => {
    await pubsub.publish("held", ["a"]);
    const holder = child("hold", "held", "g");
    await holder.said("received", 1);
    const subscription = await pubsub.open("held", { group: "g" });
    await schema.sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'outrider%' AND datname = current_database()",
    );
    expect(await takeLate(subscription, 1, 4000)).toEqual([]);
    await holder.kill();
    expect((await takeLate(subscription, 1, 5000)).map(textOf)).toEqual(["a"]);
  });

  it("forget the broadcast group of a killed one", async () => {
    const listener = child("hold", "news");
    await listener.said("joined");
    const groups = async () => (await schema.sql("SELECT id FROM outrider_groups")).length;
    expect(await groups()).toBe(1);
    await listener.kill();
    await expect.poll(groups, { timeout: 10_000 }).toBe(0);
  });

  it("lose nothing that was acknowledged when they are killed in the middle, and keep the order of keys", async () => {
    const acknowledged = new Set<string>();
    const subscription = await pubsub.open("log", { group: "reader", ordered: true });
    const texts: string[] = [];
    const stop = new AbortController();
    const reading = (async () => {
      while (!stop.signal.aborted || (await subscription.lag!(pubsub.call())).events > 0) {
        const received = await subscription.receive(50, { signal: AbortSignal.timeout(500) });
        texts.push(...received.map(textOf));
        await pubsub.done(subscription, received);
      }
    })();
    // Two at a time on one topic, so that their transactions meet.
    for (let round = 0; round < 3; round += 1) {
      const publishers = [child("publish", "log", `r${round}a-`), child("publish", "log", `r${round}b-`)];
      for (const publisher of publishers) await publisher.said("acknowledged", 200);
      for (const publisher of publishers) await publisher.kill();
      for (const { lines } of publishers)
        for (const line of lines) if (line.acknowledged) acknowledged.add(line.acknowledged);
    }
    stop.abort();
    await reading;
    expect(new Set(texts).size).toBe(texts.length);
    expect([...acknowledged].filter((text) => !texts.includes(text))).toEqual([]);
    const last = new Map<string, number>();
    for (const text of texts) {
      const [publisher = "", number = ""] = text.split(":");
      expect(Number(number)).toBe((last.get(publisher) ?? -1) + 1);
      last.set(publisher, Number(number));
    }
  }, 120_000);
});

describeWith(["postgresql", "pgbouncer"], "a pooler in transaction mode before PostgreSQL", () => {
  let schema: Schema;
  let pooler: string;
  let pubsub: PubSubFixture;
  const drivers: { close(): Promise<void> }[] = [];
  /** Another sidecar's driver. */
  const open = async (fields: Record<string, string>) => {
    const driver = await schema.pubsub(fields);
    drivers.push(driver);
    return driver;
  };

  beforeEach(async () => {
    schema = await Schema.make();
    pubsub = new PubSubFixture();
    pooler = (await sharedPooler()).url;
  });
  afterEach(async () => {
    await pubsub.closeSubscriptions();
    await Promise.all(drivers.splice(0).map((driver) => driver.close()));
  });

  it("keeps notifications away: events from elsewhere are found at an interval", async () => {
    const fields = { connectionString: pooler, pollInterval: "20ms" };
    pubsub.use(await open(fields), undefined);
    const subscription = await pubsub.open("topic");
    const there = await open(fields);
    for (const text of ["first", "second"]) {
      const waiting = pubsub.takeTexts(subscription, 1);
      await pubsub.publish("topic", [text], there);
      expect(await waiting).toEqual([text]);
    }
  });

  it("is passed by for notifications with listenConnectionString", async () => {
    // Looking at intervals would take longer than the test has.
    const fields = { connectionString: pooler, listenConnectionString: schema.url, pollInterval: "1h" };
    const [here, there] = [await open(fields), await open(fields)];
    pubsub.use(here, there);
    const subscription = await pubsub.open("topic");
    await pubsub.publish("topic", ["event"], there);
    expect(await pubsub.takeTexts(subscription, 1)).toEqual(["event"]);
  });

  it("carries state, transactions, watches and chunks", async () => {
    const state = await schema.state("v2", { connectionString: pooler, pollInterval: "20ms" });
    drivers.push(state);
    const call = pubsub.call();
    const item = { contentType: "text/plain", metadata: {}, expiresAtMs: undefined, precondition: undefined };
    const abort = new AbortController();
    const told: (string | undefined)[] = [];
    const write = (key: string, text: string) =>
      state.write([{ ...item, kind: "set", key, value: Buffer.from(text) }], call);
    for await (const { changes, snapshotComplete } of state.watch!(
      { kind: "prefix", prefix: "", resumeAfter: undefined },
      { signal: abort.signal },
    )) {
      if (snapshotComplete) await Promise.all(Array.from({ length: 20 }, (_, i) => write(`${i}`, `${i}`)));
      told.push(...changes.map(({ key }) => key));
      if (new Set(told).size === 20) abort.abort();
    }
    async function* large() {
      for (let i = 0; i < 80; i += 1) yield Buffer.alloc(250_000, i);
    }
    await state.writeChunks!({ ...item, key: "large" }, large(), call);
    expect((await state.get(["large"], call))[0]?.valueBytes).toBe(20_000_000);
  });
});
