/**
 * A sidecar's part of the embedded store in a process of its own, for tests
 * that kill it. Says what it does as lines of JSON; ends with its standard input.
 */
import { create } from "@bufbuild/protobuf";
import { EventSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Outgoing, Received } from "../../src/blocks/pubsub/driver.ts";
import { sqliteComponents } from "../../src/components/sqlite/components.ts";
import { openContext } from "./open-context.ts";

const [directory = "", role = "", topic = "", option = ""] = process.argv.slice(2);
const call = { signal: new AbortController().signal };
const context = openContext({ instanceId: "child", dataDirectory: directory, signal: call.signal });
const { state, pubsub } = sqliteComponents();
const broker = await pubsub.configure(pubsub.schema.parse({}))(context);
const store = await state.configure(state.schema.parse({}))(context);

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
const spec = { topic, start: { at: "earliest" }, ordered: false, raw: false } as const;

switch (role) {
  case "open":
    break;
  case "publish":
    // Sixteen at a time, without end: "<publisher>:<number>", each publisher in order.
    for (let publisher = 0; publisher < 16; publisher += 1) {
      const run = async () => {
        for (let number = 0; ; number += 1) {
          const text = `${option}${publisher}:${number}`;
          await broker.publish(topic, [outgoing(text, `${publisher}`)], call);
          say({ acknowledged: text });
        }
      };
      void run();
    }
    break;
  case "write":
    for (let writer = 0; writer < 8; writer += 1) {
      const run = async () => {
        for (let number = 0; ; number += 1) {
          const value = Buffer.from(String(number));
          const item = { value, contentType: "", metadata: {}, expiresAtMs: undefined };
          const write = { kind: "set", key: `${topic}${writer}`, precondition: undefined, ...item } as const;
          const [etag] = await store.write([write], call);
          say({ key: write.key, number, etag });
        }
      };
      void run();
    }
    break;
  case "hold": {
    const subscription = await broker.open({ ...spec, group: option || undefined }, call);
    say({ joined: true });
    for (;;) {
      const received = await subscription.receive(10, call);
      for (const event of received) say({ received: textOf(event), attempt: event.attempt });
    }
  }
  case "consume": {
    const subscription = await broker.open({ ...spec, group: option }, call);
    say({ joined: true });
    const run = async () => {
      for (;;) {
        const received = await subscription.receive(7, call);
        await subscription.settle(
          received.map(({ receipt }) => ({ receipt, kind: "done" })),
          call,
        );
        for (const event of received) say({ received: textOf(event), attempt: event.attempt });
      }
    };
    void run();
  }
}
say({ ready: true });

process.stdin.resume().on("end", async () => {
  await Promise.all([broker.close(), store.close()]);
  process.exit(0);
});
