import { Client } from "pg";
import { afterEach, beforeEach, expect, it } from "vitest";
import { outgoing, PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { describeWith } from "../servers/require.ts";
import { Schema } from "./postgresql-schema.ts";

describeWith("postgresql", "PostgreSQL does what it is asked to when nobody waits for it any more", () => {
  let schema: Schema;
  let pubsub: PubSubFixture;
  const frozen = new Set<number>();

  /** With one connection for everything that is asked, and another sidecar beside it. */
  beforeEach(async () => {
    schema = await Schema.make();
    pubsub = new PubSubFixture();
    const url = new URL(schema.url);
    url.searchParams.set("application_name", schema.name);
    const fields = { connectionString: url.href, listenConnectionString: schema.url, timeout: "1s" };
    pubsub.use(await schema.pubsub({ ...fields, maxConns: "1" }), await schema.pubsub());
  });
  afterEach(async () => {
    for (const pid of frozen) thaw(pid);
    await pubsub.close();
  });

  /** Stops the process that serves the connection: what it is asked now, it does after `thaw`. */
  const freeze = async (): Promise<number> => {
    const [row] = await schema.sql<{ pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE application_name = $1",
      schema.name,
    );
    process.kill(row!.pid, "SIGSTOP");
    frozen.add(row!.pid);
    return row!.pid;
  };
  const thaw = (pid: number) => {
    process.kill(pid, "SIGCONT");
    frozen.delete(pid);
  };
  /** Resolves when it has done what it was asked, and has seen that its client is gone. */
  const ended = (pid: number) =>
    expect
      .poll(() => schema.sql("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid), { timeout: 10_000 })
      .toEqual([]);
  const keyed = (...texts: string[]) => texts.map((text) => outgoing(text, { key: "k" }));

  it("a settlement that arrives late does not concern what the member has received again since", async () => {
    const subscription = await pubsub.open("topic", { ordered: true });
    await pubsub.publish("topic", keyed("first", "second"));
    const held = await pubsub.take(subscription, 1);
    const pid = await freeze();
    await pubsub.again(subscription, held);
    const again = await pubsub.take(subscription, 1);
    expect(again.map((one) => [textOf(one), one.attempt])).toEqual([["first", 2]]);
    thaw(pid);
    await ended(pid);
    expect(await pubsub.rest(subscription)).toEqual([]);
    await pubsub.done(subscription, again);
    expect(await pubsub.takeTexts(subscription, 1)).toEqual(["second"]);
  });

  it("a claim that arrives late takes nothing", async (context) => {
    const other = pubsub.second(context);
    const subscription = await pubsub.open("topic", { ordered: true });
    await pubsub.publish("topic", keyed("first"), other);
    const pid = await freeze();
    await pubsub.done(subscription, await pubsub.take(subscription, 1));
    await pubsub.publish("topic", keyed("second"), other);
    thaw(pid);
    await ended(pid);
    expect(await pubsub.takeTexts(subscription, 1)).toEqual(["second"]);
  });

  it("what a lost claim took is given back, and not what is being settled", async (context) => {
    const subscription = await pubsub.open("topic", { ordered: true }, pubsub.second(context));
    await pubsub.publish("topic", keyed("first", "second"));
    const held = await pubsub.take(subscription, 1);
    await using blocker = await blocking();
    const settling = pubsub.done(subscription, held);
    const taking = pubsub.take(subscription, 1);
    await expect.poll(() => blocker.waiting("claim"), { timeout: 5000, interval: 10 }).toBe(1);
    await blocker.terminate("claim");
    // The settlement is sent again and again, and arrives after the lost claim was given back.
    await expect
      .poll(
        async () => {
          await blocker.terminate("settle");
          return (await blocker.waiting("settle")) === 0 && (await blocker.waiting("return_lost")) === 1;
        },
        { timeout: 8000, interval: 10 },
      )
      .toBe(true);
    await blocker[Symbol.asyncDispose]();
    await settling;
    expect((await taking).map(textOf)).toEqual(["second"]);
  });

  it("a member that cannot leave while the server is away leaves when it is back", async () => {
    const subscription = await pubsub.open("topic", { group: "g" });
    await pubsub.publish("topic", ["event"]);
    await pubsub.take(subscription, 1);
    {
      await using blocker = await blocking();
      await expect(pubsub.closeSubscription(subscription)).rejects.toThrow();
      expect(await blocker.waiting("leave")).toBeGreaterThan(0);
      await blocker.terminate("leave");
    }
    const next = await pubsub.open("topic", { group: "g" });
    expect((await pubsub.take(next, 1)).map((one) => [textOf(one), one.attempt])).toEqual([["event", 1]]);
  });

  /** Holds up whatever concerns a group. */
  const blocking = async () => {
    const client = new Client({ connectionString: schema.url });
    await client.connect();
    await client.query("BEGIN");
    await client.query(`SELECT 1 FROM ${schema.name}.outrider_groups FOR UPDATE`);
    const waiting = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
    const named = (name: string) => `%${schema.name}%outrider_${name}"(%`;
    let over = false;
    return {
      waiting: async (name: string) => (await schema.sql(`SELECT 1 ${waiting}`, named(name))).length,
      terminate: (name: string) => schema.sql(`SELECT pg_terminate_backend(pid) ${waiting}`, named(name)),
      async [Symbol.asyncDispose]() {
        if (over) return;
        over = true;
        await client.query("ROLLBACK");
        await client.end();
      },
    };
  };
});
