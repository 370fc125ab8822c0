/** A sidecar's part of NATS in a process of its own, for tests that kill or freeze it. Says what it does as lines of JSON. */
import type { Received } from "../../src/blocks/pubsub/driver.ts";
import { openPubSub } from "./jetstream-server.ts";

const [natsURL = "", topic = "", group = "", ordered = "", take = "1", settleAfterMs = ""] =
  process.argv.slice(2);
const call = { signal: new AbortController().signal };
const say = (line: unknown) => void process.stdout.write(`${JSON.stringify(line)}\n`);
const textOf = ({ event }: Received) => Buffer.from(event.data).toString();

const broker = await openPubSub({ natsURL }, { instanceId: "child" });
const subscription = await broker.open(
  { topic, group, start: { at: "earliest" }, ordered: ordered === "ordered", raw: false },
  call,
);
say({ joined: true });
for (;;) {
  // Holds what it gets, and does not settle it, or later.
  const received = await subscription.receive(Number(take), call);
  for (const event of received) say({ received: textOf(event), attempt: event.attempt });
  if (settleAfterMs === "" || received.length === 0) continue;
  setTimeout(async () => {
    const settlements = received.map(({ receipt }) => ({ receipt, kind: "done" }) as const);
    say({ settled: await subscription.settle(settlements, call).then(() => "settled", String) });
  }, Number(settleAfterMs));
}
