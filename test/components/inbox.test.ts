/** Inboxes in the stores that are servers, over the brokers that are. */
import { randomUUID } from "node:crypto";
import { expect, it, onTestFinished } from "vitest";
import { Outcome } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import { startSidecar } from "../blocks/pubsub/sidecar.ts";
import { sharedNats } from "../servers/nats.ts";
import { sharedRedis } from "../servers/redis.ts";
import { sharedRedisCluster } from "../servers/redis-cluster.ts";
import { describeWith, type Need } from "../servers/require.ts";
import { openState as openBucket, openPubSub as openJetStream } from "./jetstream-server.ts";
import { Schema } from "./postgresql-schema.ts";
import { hostOf, openPubSub as openRedis, openState as openRedisState } from "./redis-drivers.ts";

interface Backend {
  readonly need: Need;
  store(): Promise<StateDriver>;
  broker(): Promise<PubSubDriver>;
}

const cluster = async () => (await sharedRedisCluster()).nodes.map(hostOf).join(",");

const backends: Record<string, Backend> = {
  "state.redis": {
    need: "redis",
    store: async () => openRedisState(await sharedRedis()),
    broker: async () => openRedis(await sharedRedis()),
  },
  "state.redis, a cluster": {
    need: "redis",
    store: async () => openRedisState(await cluster(), { redisType: "cluster" }),
    broker: async () => openRedis(await cluster(), { redisType: "cluster" }),
  },
  "state.postgresql v1": {
    need: "postgresql",
    store: async () => (await Schema.make()).state("v1"),
    broker: async () => (await Schema.make()).pubsub(),
  },
  "state.postgresql v2": {
    need: "postgresql",
    store: async () => (await Schema.make()).state("v2"),
    broker: async () => (await Schema.make()).pubsub(),
  },
  "state.jetstream": {
    need: "nats",
    store: async () => openBucket({ natsURL: (await sharedNats()).url, bucket: `inbox-${randomUUID()}` }),
    broker: async () => openJetStream({ natsURL: (await sharedNats()).url }),
  },
};

/** A sidecar that leaves its store and broker open when it ends: there is another after it. */
function sidecarOn(store: StateDriver, broker: PubSubDriver) {
  const kept = new Proxy(broker, {
    get(target, name) {
      if (name === "close") return async () => {};
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return startSidecar({ store, wrap: () => kept });
}

for (const [type, backend] of Object.entries(backends)) {
  describeWith(backend.need, `an inbox in ${type}`, () => {
    it("is known to the next sidecar", { timeout: 60_000 }, async () => {
      const [store, broker] = await Promise.all([backend.store(), backend.broker()]);
      onTestFinished(async () => void (await Promise.allSettled([store.close(), broker.close()])));
      const topic = `inbox-${randomUUID()}`;
      const open = { topic, group: topic, inbox: { window: { seconds: 3600n } } };
      const first = await sidecarOn(store, broker);
      const stream = first.stream();
      await stream.open(open);
      await first.send(topic, { event: { id: "a", source: "shop" } });
      await first.send(topic, { event: { id: "again", source: "shop" } });
      const held = await stream.deliveries(2);
      expect(held.map(({ event }) => event!.id).sort()).toEqual(["a", "again"]);
      const [again, done] = held[0]!.event!.id === "again" ? held : [held[1]!, held[0]!];
      stream.ack(done!);
      stream.settle(Outcome.RETRY, [again!], { delayMs: 0 });
      stream.ack(await stream.delivery());
      const lag = async () => (await [...first.bus.subscriptions][0]!.lag())?.events;
      await expect.poll(lag, { timeout: 20_000 }).toBe(0);
      await stream.vanish();
      await first.close();

      const next = await sidecarOn(store, broker);
      onTestFinished(() => next.close());
      const other = next.stream();
      await other.open(open);
      const publish = async (...ids: string[]) => {
        for (const id of ids) await next.send(topic, { event: { id, source: "shop" } });
      };
      await publish("a", "again", "b");
      expect((await other.delivery()).event!.id).toBe("b");
    });

    it("forgets when the window has passed", { timeout: 60_000 }, async () => {
      const [store, broker] = await Promise.all([backend.store(), backend.broker()]);
      onTestFinished(async () => void (await Promise.allSettled([store.close(), broker.close()])));
      const topic = `inbox-${randomUUID()}`;
      const sidecar = await sidecarOn(store, broker);
      onTestFinished(() => sidecar.close());
      const stream = sidecar.stream();
      await stream.open({ topic, group: topic, inbox: { window: { seconds: 1n } } });
      let delivered = 0;
      const taking = (async () => {
        for (; delivered < 2; delivered += 1) stream.ack(await stream.delivery());
      })();
      const publish = async () => {
        await sidecar.send(topic, { event: { id: "a", source: "shop" } });
        return delivered;
      };
      await expect.poll(publish, { timeout: 30_000, interval: 200 }).toBe(2);
      await taking;
    });
  });
}
