/** A cluster whose slots move from node to node under load, as `redis-cli --cluster reshard` has them. */
import { expect, it } from "vitest";
import type { DriverSubscription } from "../../src/blocks/pubsub/driver.ts";
import { slotOf } from "../../src/components/redis/slots.ts";
import { outgoing, PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { startRedisCluster } from "../servers/redis-cluster.ts";
import { describeWith } from "../servers/require.ts";
import type { Server } from "../servers/server.ts";
import { ask } from "./redis-ask.ts";
import { hostOf, openPubSub } from "./redis-drivers.ts";

const events = 1000;
const keys = 7;
/** Publishes that are under way at once. */
const inFlight = 8;

const call = () => ({ signal: AbortSignal.timeout(30_000) });
const idOf = async (node: Server) => String(await ask(node, "CLUSTER", "MYID"));

/** Who has a slot. */
async function ownerOf(slot: number, nodes: readonly Server[]): Promise<Server> {
  const slots = (await ask(nodes[0]!, "CLUSTER", "SLOTS")) as [number, number, [string, number]][];
  const [, , [, port]] = slots.find(([first, last]) => first <= slot && slot <= last)!;
  return nodes.find((node) => node.port === port)!;
}

/** Moves a slot, key by key. */
async function move(slot: number, from: Server, to: Server, nodes: readonly Server[]): Promise<void> {
  const [source, target] = await Promise.all([idOf(from), idOf(to)]);
  const setSlot = (node: Server, ...words: string[]) =>
    ask(node, "CLUSTER", "SETSLOT", String(slot), ...words);
  await setSlot(to, "IMPORTING", source);
  await setSlot(from, "MIGRATING", target);
  for (;;) {
    const found = (await ask(from, "CLUSTER", "GETKEYSINSLOT", String(slot), "1")) as string[];
    if (found.length === 0) break;
    await ask(from, "MIGRATE", to.host, String(to.port), "", "0", "5000", "KEYS", ...found);
  }
  await setSlot(to, "NODE", target);
  for (const node of nodes) if (node !== to) await setSlot(node, "NODE", target);
}

describeWith("redis", "pubsub.redis on a cluster whose slots move", () => {
  it("loses nothing, and keeps the order of keys", { timeout: 120_000 }, async () => {
    await using cluster = await startRedisCluster();
    const { nodes } = cluster;
    const pubsub = new PubSubFixture();
    pubsub.use(await openPubSub(nodes.map(hostOf).join(","), { redisType: "cluster" }), undefined);
    const [topic, group] = [pubsub.topic(), pubsub.group()];
    const received = new Map<string, number[]>();
    let left = events;
    const consume = async (member: DriverSubscription) => {
      while (left > 0) {
        const some = await member.receive(10, { signal: AbortSignal.timeout(1000) });
        for (const one of some) {
          const numbers = received.get(one.key) ?? [];
          received.set(one.key, numbers);
          if (!numbers.includes(Number(textOf(one)))) left -= 1;
          numbers.push(Number(textOf(one)));
        }
        await pubsub.done(member, some);
      }
    };
    const publish = async () => {
      const underWay: Promise<unknown>[] = [];
      for (let number = 0; number < events; number += 1) {
        underWay.push(pubsub.publish(topic, [outgoing(`${number}`, { key: `${number % keys}` })]));
        if (underWay.length >= inFlight) await underWay.shift();
      }
      await Promise.all(underWay);
    };
    const members = [
      await pubsub.open(topic, { group, ordered: true }),
      await pubsub.open(topic, { group, ordered: true }),
    ];
    const all = Promise.all([publish(), ...members.map(consume)]);
    let moves = 0;
    while (left > 0) {
      const slot = slotOf(topic);
      const owner = await ownerOf(slot, nodes);
      await move(slot, owner, nodes[(nodes.indexOf(owner) + 1) % nodes.length]!, nodes);
      moves += 1;
      const before = left;
      // So that it is at work where it was moved to.
      await expect.poll(() => left < Math.max(before - 20, 1), { timeout: 30_000 }).toBe(true);
    }
    await all;
    expect(moves).toBeGreaterThan(3);
    for (const numbers of received.values()) expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    await expect.poll(async () => (await members[0]!.lag!(call())).events, { timeout: 10_000 }).toBe(0);
    await pubsub.close();
  });
});
