/** The process of a Member: receives one event after the other, says so, and settles each when it is told to. */
import { createInterface } from "node:readline";
import { textOf } from "../../conformance/pubsub/fixture.ts";
import { openKafkaDriver } from "./driver.ts";

const [port, topic, group, ordered, more] = process.argv.slice(2) as [string, string, string, string, string];
const driver = await openKafkaDriver(Number(port), JSON.parse(more) as Record<string, string>);
const call = { signal: new AbortController().signal };
const start = { at: "earliest" } as const;
const spec = { topic, group, start, ordered: ordered === "true", raw: false };
const subscription = await driver.open(spec, call);
const words = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
for (;;) {
  const received = await subscription.receive(1, call);
  process.stdout.write(`received ${received.map(textOf).join()}\n`);
  await words.next();
  await subscription.settle(
    received.map(({ receipt }) => ({ receipt, kind: "done" })),
    call,
  );
  process.stdout.write("settled\n");
}
