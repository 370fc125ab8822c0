/** Streams on real brokers, whose component is replaced again and again while events flow. */
import { expect, it } from "vitest";
import { sharedKafka } from "../servers/kafka.ts";
import { sharedNats } from "../servers/nats.ts";
import { sharedPostgresql } from "../servers/postgresql.ts";
import { sharedRedis } from "../servers/redis.ts";
import { describeWith, type Need } from "../servers/require.ts";
import { component, Project } from "./project.ts";

interface Broker {
  readonly need: Need;
  readonly type: string;
  settings(): Promise<Readonly<Record<string, string>>>;
}

const address = ({ host, port }: { readonly host: string; readonly port: number }) => `${host}:${port}`;

const brokers: readonly Broker[] = [
  {
    need: "redis",
    type: "pubsub.redis",
    settings: async () => ({ redisHost: address(await sharedRedis()) }),
  },
  {
    need: "postgresql",
    type: "pubsub.postgresql",
    settings: async () => ({ connectionString: (await sharedPostgresql()).url }),
  },
  {
    need: "nats",
    type: "pubsub.jetstream",
    settings: async () => ({ natsURL: (await sharedNats()).url }),
  },
  {
    need: "kafka",
    type: "pubsub.kafka",
    settings: async () => ({ brokers: address(await sharedKafka()), authType: "none" }),
  },
];

const events = 400;
const keys = 5;

for (const { need, type, settings } of brokers) {
  describeWith(need, `a stream whose ${type} gets other settings`, () => {
    it("loses nothing, and keeps the order of each key", { timeout: 120_000 }, async () => {
      const common = await settings();
      const yaml = (revision: number) =>
        component("pubsub", type, { ...common, publishTopic: `revision${revision}` });
      const topic = `reload-${process.pid}-${Date.now()}`;
      await using project = await Project.start({ "pubsub.yaml": yaml(0) });
      const handled: string[] = [];
      const held = new Map<string, number>();
      using stream = project.app.subscribe(
        [{ topic, group: `g-${topic}`, ordered: true, maxInFlight: 8 }],
        (deliveries) => {
          for (const delivery of deliveries) {
            const { event, key } = delivery;
            handled.push(`${key} ${Buffer.from(event!.data)}`);
            held.set(key, (held.get(key) ?? 0) + 1);
            expect.soft(held.get(key), `events of ${key} in hand`).toBe(1);
            // Some time in the hands of the application, so that some are there when the component changes.
            setTimeout(() => {
              held.set(key, held.get(key)! - 1);
              stream.settle([delivery]);
            }, 5);
          }
        },
      );
      await stream.heard("opened");
      const publishing = (async () => {
        for (let n = 0; n < events; n++) {
          const event = { data: Buffer.from(String(n).padStart(4, "0")) };
          await project.app.pubsub.publish({ topic, outgoing: { event, key: `k${n % keys}` } });
        }
      })();
      for (const revision of [1, 2, 3]) await project.apply("pubsub.yaml", yaml(revision));
      await publishing;
      const different = () => new Set(handled).size;
      await expect.poll(different, { timeout: 60_000 }).toBe(events);
      for (let key = 0; key < keys; key++) {
        const own = [...new Set(handled.filter((each) => each.startsWith(`k${key} `)))];
        expect(own).toEqual(own.toSorted());
      }
      expect(handled.length, "nothing is delivered twice").toBe(events);
    });
  });
}
