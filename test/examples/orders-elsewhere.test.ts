/** The applications of examples/orders, unchanged, on the files in examples/orders/on/. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { sharedKafka } from "../servers/kafka.ts";
import { sharedNats } from "../servers/nats.ts";
import { sharedPostgresql } from "../servers/postgresql.ts";
import { sharedRedis } from "../servers/redis.ts";
import { describeWith, type Need } from "../servers/require.ts";
import { until } from "../servers/until.ts";
import { Checkout, Shell } from "./checkout.ts";

const limitMs = 90_000;

/** The file, and what in it is another in a test. */
const servers: readonly (readonly [file: string, need: Need, edit: (yaml: string) => Promise<string>])[] = [
  ["redis", "redis", async (yaml) => yaml.replaceAll("localhost:6379", address(await sharedRedis()))],
  [
    "postgresql",
    "postgresql",
    async (yaml) => yaml.replaceAll(/postgres:\S+/g, (await sharedPostgresql()).passwordUrl),
  ],
  ["jetstream", "nats", async (yaml) => yaml.replaceAll("localhost:4222", address(await sharedNats()))],
  ["kafka", "kafka", async (yaml) => yaml.replaceAll("localhost:9092", address(await sharedKafka()))],
];

function address({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host}:${port}`;
}

for (const [file, need, edit] of servers) {
  describeWith(need, `the example with orders, on ${file}`, () => {
    it("ships every order that is placed, as it does on the embedded store", {
      timeout: 2 * limitMs,
    }, async () => {
      await using checkout = await Checkout.make();
      const path = join(checkout.example("orders"), "on", `${file}.yaml`);
      const yaml = await readFile(path, "utf8");
      const edited = await edit(yaml);
      expect(edited).not.toBe(yaml);
      await writeFile(path, edited);
      const command = `npx node examples/orders/start.ts --every 100 --resources examples/orders/on/${file}.yaml`;
      await using run = new Shell(command, checkout.directory);
      const all = (what: RegExp) => [...run.output.matchAll(what)].map(([, id]) => id!);
      await until(
        () => all(/^shop +\| shipped (\S+) by/gm).length >= 10,
        `ten orders are shipped: ${run.output.slice(-3000)}`,
        limitMs,
      );
      const placed = all(/^shop +\| placed (\S+):/gm);
      await until(
        () => placed.every((id) => run.output.includes(`shipped ${id} by`)),
        `all of ${placed.length} orders are shipped`,
        limitMs,
      );
      run.interrupt();
      await run.ended;
    });
  });
}
