/** A clock that is put forth and back by hours while events are published, handled and repeated. */
import { renameSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { type Delivery, Outcome } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { makeProject, removeProject, SidecarProcess } from "../outrider.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { sharedNats } from "../servers/nats.ts";
import { sharedPostgresql } from "../servers/postgresql.ts";
import { sharedRedis } from "../servers/redis.ts";
import { describeWith, type Need } from "../servers/require.ts";
import { Application } from "./application.ts";

const hourMs = 3_600_000;
/** Where the clock is put, one after the other, in milliseconds from where it should be. */
const shifts = [3 * hourMs, 0, -3 * hourMs, 2 * hourMs, 0];
/** Kafka takes no events from more than an hour ahead, and says so; a test of the component's own sees to that. */
const lesserShifts = shifts.map((shift) => Math.min(shift, hourMs * 0.9));
const eventsOfAShift = 60;

interface Case {
  readonly type: string;
  readonly needs: readonly Need[];
  readonly shifts?: readonly number[];
  fields(): Promise<Readonly<Record<string, string>>>;
}

const cases: readonly Case[] = [
  { type: "pubsub.in-memory", needs: [], fields: async () => ({}) },
  { type: "pubsub.sqlite", needs: [], fields: async () => ({}) },
  {
    type: "pubsub.kafka",
    needs: ["kafka"],
    shifts: lesserShifts,
    fields: async () => ({ brokers: `127.0.0.1:${(await sharedKafka()).port}` }),
  },
  {
    type: "pubsub.redis",
    needs: ["redis"],
    fields: async () => ({ redisHost: `127.0.0.1:${(await sharedRedis()).port}` }),
  },
  {
    type: "pubsub.postgresql",
    needs: ["postgresql"],
    fields: async () => ({
      connectionString: (await sharedPostgresql()).url,
      schema: `clock_${process.pid}`,
    }),
  },
  {
    type: "pubsub.jetstream",
    needs: ["nats"],
    fields: async () => ({ natsURL: (await sharedNats()).url }),
  },
];

for (const { type, needs, fields, shifts: own = shifts } of cases) {
  describeWith(needs, `${type} while the clock jumps`, () => {
    it("delivers everything, in order, and repeats no more than it was asked to", async () => {
      const directory = await makeProject();
      const [clock, resources] = [join(directory, "clock"), join(directory, "resources")];
      const put = (shiftMs: number) => {
        // Nobody reads half of it.
        writeFileSync(`${clock}.new`, String(shiftMs));
        renameSync(`${clock}.new`, clock);
      };
      put(0);
      await mkdir(resources);
      await writeFile(join(resources, "pubsub.yaml"), yamlOf(type, await fields()));
      const preload = pathToFileURL(join(import.meta.dirname, "shifted-clock.ts")).href;
      const env = { NODE_OPTIONS: `--import=${preload}`, SHIFTED_CLOCK: clock };
      await using sidecar = await SidecarProcess.start({ cwd: directory, env }, "--resources", resources);
      using app = new Application(sidecar.grpcPort);
      const topic = `clock-${process.pid}`;
      const handled = new Map<string, number[]>();
      const attempts: number[] = [];
      const order: string[] = [];
      const handle = (deliveries: readonly Delivery[]) => {
        for (const delivery of deliveries) {
          const text = Buffer.from(delivery.event!.data).toString();
          attempts.push(delivery.attempt);
          // A tenth is wanted again: what waits for that is what a clock could hold up.
          if (delivery.attempt === 1 && Number(text) % 10 === 0)
            stream.settle([delivery], Outcome.RETRY, 100);
          else {
            if (delivery.key === "k") order.push(text);
            handled.set(text, [...(handled.get(text) ?? []), delivery.attempt]);
            stream.settle([delivery]);
          }
        }
      };
      using stream = app.subscribe([{ topic, group: "clock", ordered: true, maxInFlight: 20 }], handle);
      await stream.heard("opened");
      let sent = 0;
      for (const shift of own) {
        for (let count = 0; count < eventsOfAShift; count += 1) {
          const key = sent % 2 === 0 ? `own-${sent}` : "k";
          const event = { data: Buffer.from(String(sent)) };
          await app.pubsub.publish({ topic, outgoing: { key, event } });
          sent += 1;
          // In the middle of it all, while some wait.
          if (count === eventsOfAShift / 2) put(shift);
        }
        // Each waits for less than a second, whatever the clock says.
        await expect.poll(() => handled.size, { timeout: 20_000 }).toBe(sent);
      }
      expect(order).toEqual([...order].sort((one, other) => Number(one) - Number(other)));
      // What was held when a session seemed to be over may come twice; more would be a storm.
      expect(attempts.length).toBeLessThan(sent * 1.5);
      expect(Math.max(...attempts)).toBeLessThan(5);
      await removeProject(directory);
    }, 120_000);
  });
}

function yamlOf(type: string, fields: Readonly<Record<string, string>>): string {
  const lines = Object.entries(fields).map(
    ([name, value]) => `    - name: ${name}\n      value: ${JSON.stringify(value)}\n`,
  );
  return `apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: pubsub
spec:
  type: ${type}
  version: v1
  metadata:${lines.length === 0 ? " []" : `\n${lines.join("")}`}
`;
}
