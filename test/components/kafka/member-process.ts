/** The process of a Member: receives one event, says so, and settles it when it is told to. */
import { once } from "node:events";
import { textOf } from "../../conformance/pubsub/fixture.ts";
import { openKafkaDriver } from "./driver.ts";

const [port, topic, group] = process.argv.slice(2) as [string, string, string];
const fields = { sessionTimeout: "2s", heartbeatInterval: "200ms" };
const driver = await openKafkaDriver(Number(port), fields);
const call = { signal: new AbortController().signal };
const start = { at: "earliest" } as const;
const subscription = await driver.open({ topic, group, start, ordered: true, raw: false }, call);
const received = await subscription.receive(1, call);
process.stdout.write(`received ${received.map(textOf).join()}\n`);
await once(process.stdin, "data");
await subscription.settle(
  received.map(({ receipt }) => ({ receipt, kind: "done" })),
  call,
);
process.stdout.write("settled\n");
await subscription.receive(1, call);
