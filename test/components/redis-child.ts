/** A sidecar's part of pubsub.redis in a process of its own, for tests that kill it: takes events, says which, and holds them. */
import type { Received } from "../../src/blocks/pubsub/driver.ts";
import { openPubSub } from "./redis-drivers.ts";

const [host = "", topic = "", group = "", ordered = ""] = process.argv.slice(2);
const call = { signal: new AbortController().signal };
const broker = await openPubSub(host);
const start = { at: "earliest" } as const;
const member = await broker.open({ topic, group, start, ordered: ordered === "ordered", raw: false }, call);
const textOf = ({ event }: Received) => Buffer.from(event.data).toString();

for (;;) {
  for (const received of await member.receive(10, call)) process.stdout.write(`${textOf(received)}\n`);
}
