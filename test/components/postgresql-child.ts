/**
 * A sidecar's part of the components on PostgreSQL in a process of its own, for tests that kill it. Says what
 * it does as lines of JSON; ends with its standard input.
 */
import { create } from "@bufbuild/protobuf";
import { EventSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Outgoing, Received } from "../../src/blocks/pubsub/driver.ts";
import { postgresPubSub } from "../../src/components/postgresql/components.ts";
import { openContext } from "./open-context.ts";

const [fields = "{}", role = "", topic = "", option = ""] = process.argv.slice(2);
const call = { signal: new AbortController().signal };
const context = openContext({ instanceId: "child", signal: call.signal });
const broker = await postgresPubSub.configure(postgresPubSub.schema.parse(JSON.parse(fields)))(context);

const say = (line: unknown) => void process.stdout.write(`${JSON.stringify(line)}\n`);
const textOf = ({ event }: Received) => Buffer.from(event.data).toString();
const outgoing = (text: string, key = ""): Outgoing => ({
  event: create(EventSchema, { id: text, source: "child", type: "test", data: Buffer.from(text) }),
  key,
  headers: {},
  raw: false,
  deliverAtMs: undefined,
  timeToLiveMs: undefined,
});
const spec = { topic, start: { at: "earliest" }, ordered: option.startsWith("ordered"), raw: false } as const;

/** Sixteen at a time, without end: "<name><publisher>:<number>", each publisher in order. */
async function publish(publisher: number): Promise<never> {
  for (let number = 0; ; number += 1) {
    const text = `${option}${publisher}:${number}`;
    await broker.publish(topic, [outgoing(text, `${publisher}`)], call);
    say({ acknowledged: text });
  }
}

/** Receives without end, and joins again when it is given up, as the engine does. */
async function receive(settle: boolean): Promise<never> {
  for (;;) {
    const subscription = await broker.open({ ...spec, group: option || undefined }, call);
    say({ joined: true });
    try {
      for (;;) {
        const received = await subscription.receive(7, call);
        for (const event of received) say({ received: textOf(event), attempt: event.attempt });
        const settlements = received.map(({ receipt }) => ({ receipt, kind: "done" }) as const);
        if (settle) await subscription.settle(settlements, call);
      }
    } catch {
      await subscription.close();
    }
  }
}

if (role === "publish") for (let publisher = 0; publisher < 16; publisher += 1) void publish(publisher);
if (role === "hold" || role === "consume") void receive(role === "consume");
say({ ready: true });

process.stdin.resume().on("end", async () => {
  await broker.close();
  process.exit(0);
});
