/** Load on pubsub.redis while its server is killed, frozen and cut off, and members come and go. */
import type { DriverSubscription, PubSubDriver, Received } from "../../src/blocks/pubsub/driver.ts";
import { outgoing, seeded, textOf } from "../conformance/pubsub/fixture.ts";
import { startRedis } from "../servers/redis.ts";
import { openProxy } from "../servers/toxiproxy.ts";
import { until } from "../servers/until.ts";
import { openPubSub } from "./redis-drivers.ts";

/** What happened. */
export interface Outcome {
  readonly acknowledged: number;
  readonly delivered: number;
  /** Deliveries of what had been settled already. */
  readonly duplicates: number;
  readonly disturbances: readonly string[];
  /** Acknowledged events that nobody settled. */
  readonly missing: readonly string[];
  /** Events that were settled before an earlier one of their key. */
  readonly outOfOrder: readonly string[];
}

const keys = 20;
const group = "chaos";

/** Publishes and consumes in order of keys for `forMs` milliseconds, then lets everything be consumed. */
export async function chaos(seed: number, forMs: number): Promise<Outcome> {
  const random = seeded(seed);
  await using server = await startRedis();
  await using proxy = await openProxy(server.port);
  const drivers = await Promise.all([openPubSub(server), openPubSub(proxy), openPubSub(proxy)]);
  const topic = `chaos-${seed}`;
  const acknowledged = new Set<string>();
  const settled = new Map<string, number>();
  const next = new Map<string, number>();
  const disturbances: string[] = [];
  const outOfOrder: string[] = [];
  let delivered = 0;
  let duplicates = 0;
  let publishing = true;
  let consuming = true;
  const signal = new AbortController().signal;

  const publish = async (driver: PubSubDriver, key: string) => {
    for (let number = 0; publishing; ) {
      const text = `${key}:${number}`;
      try {
        const [answer] = await driver.publish(topic, [outgoing(text, { key })], { signal });
        if (answer instanceof Error) continue;
        acknowledged.add(text);
        number += 1;
        await turn(5 * random());
      } catch {
        // The same event once more, as an application does.
      }
    }
  };

  const handle = async (member: DriverSubscription, received: Received) => {
    delivered += 1;
    const text = textOf(received);
    const [key, number] = [received.key, Number(text.split(":")[1])];
    const expected = next.get(key) ?? 0;
    if (number > expected) outOfOrder.push(`${text} before ${key}:${expected}`);
    if (number < expected) duplicates += 1;
    await turn(3 * random());
    if (random() < 0.05) {
      await member.settle([{ receipt: received.receipt, kind: "again", delayMs: 20 }], { signal });
      return;
    }
    if (number === expected) next.set(key, number + 1);
    settled.set(text, (settled.get(text) ?? 0) + 1);
    await member.settle([{ receipt: received.receipt, kind: "done" }], { signal });
  };

  const consume = async (driver: PubSubDriver) => {
    while (consuming) {
      const spec = { topic, group, start: { at: "earliest" }, ordered: true, raw: false } as const;
      const member = await driver.open(spec, { signal }).catch(() => undefined);
      if (!member) {
        await turn(50);
        continue;
      }
      const leaveAt = performance.now() + 1000 + random() * 5000;
      while (consuming && performance.now() < leaveAt) {
        const batch = await member.receive(5, { signal: AbortSignal.timeout(500) }).catch(() => []);
        await Promise.all(batch.map((received) => handle(member, received).catch(() => {})));
      }
      await member.close().catch(() => {});
    }
  };

  const disturb = async () => {
    while (publishing) {
      await turn(500 + random() * 1500);
      const dice = random();
      if (dice < 0.35) {
        disturbances.push("cut");
        await proxy.cut();
        await turn(200 + random() * 1500);
        await proxy.mend();
      } else if (dice < 0.7) {
        disturbances.push("freeze");
        await server.freeze();
        await turn(200 + random() * 2500);
        server.thaw();
      } else {
        disturbances.push("kill");
        await server.kill();
        await turn(random() * 1000);
        await server.restart();
      }
    }
  };

  const publishers = Array.from({ length: keys }, (_, key) =>
    publish(drivers[key % drivers.length]!, `${key}`),
  );
  const consumers = drivers.concat(drivers).map(consume);
  const disturbing = disturb();
  await turn(forMs);
  publishing = false;
  await Promise.all([...publishers, disturbing]);
  const missing = () => [...acknowledged].filter((text) => !settled.has(text));
  await until(() => missing().length === 0, "everything acknowledged is settled", 30_000).catch(() => {});
  consuming = false;
  await Promise.all(consumers);
  await Promise.all(drivers.map((driver) => driver.close().catch(() => {})));
  return {
    acknowledged: acknowledged.size,
    delivered,
    duplicates,
    disturbances,
    missing: missing(),
    outOfOrder,
  };
}

/** The pace of the load and of its disturbances; nothing is expected to be so after it. */
function turn(ms: number): Promise<void> {
  return new Promise((goOn) => {
    setTimeout(goOn, ms);
  });
}
