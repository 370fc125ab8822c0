/**
 * Takes orders, publishes each, and marks those that have been shipped.
 *
 * An order is written together with a note that it has to be announced, all or none. The note is removed
 * when the event is acknowledged. Whoever dies in between finds the note when it is back, and announces
 * the order again; the warehouse does nothing the second time.
 *
 * In its state: `order/<id>`, an Order with its status; `announce/<id>`, such a note.
 */
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import type { Delivery } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { decode, encode, type Order, orderFrom, topics } from "./order.ts";
import { absent, connect, Reject, say, subscribe, unchanged, untilDone, wasOutrun } from "./sidecar.ts";

/** An order is made so often, in milliseconds; 0 for never. */
const everyMs = Number(process.argv[2] ?? 0);
const { state, pubsub } = connect();

await untilDone("announcing what is not announced", announceAll);
await Promise.all([shipping(), typedOrders(), everyMs > 0 && madeOrders()]);

/** Orders from standard input, such as `3 tea`. */
async function typedOrders(): Promise<void> {
  // The next line is read when this order is on disk: a slow sidecar slows the customers, and no memory fills.
  for await (const line of createInterface(process.stdin)) {
    const [, quantity = "1", item] = /^\s*(\d+)?\s*(\S+)\s*$/.exec(line) ?? [];
    if (item === undefined || Number(quantity) < 1) say('say what you want, as in "3 tea"');
    else await place({ id: randomUUID(), item, quantity: Number(quantity) });
  }
}

async function madeOrders(): Promise<never> {
  for (;;) {
    await place({ id: randomUUID(), item: "tea", quantity: 1 + Math.floor(Math.random() * 12) });
    await pause(everyMs);
  }
}

/** Resolves when the order is on disk and announced, however often the sidecar goes away meanwhile. */
async function place(order: Order): Promise<void> {
  await untilDone(`placing ${order.id}`, () => save(order));
  say(`placed ${order.id}: ${order.quantity} ${order.item}`);
  await untilDone(`announcing ${order.id}`, () => announce(order));
}

async function save(order: Order): Promise<void> {
  const writes = [
    { key: `order/${order.id}`, value: encode({ ...order, status: "placed" }), precondition: absent },
    { key: `announce/${order.id}`, value: encode(order), precondition: absent },
  ].map((value) => ({ write: { case: "set", value } as const }));
  try {
    await state.transact({ writes });
  } catch (error) {
    // An earlier try was written, and only its answer was lost.
    if (!wasOutrun(error)) throw error;
  }
}

async function announce(order: Order): Promise<void> {
  const event = {
    id: order.id,
    type: topics.placed,
    dataContentType: "application/json",
    data: encode(order),
  };
  await pubsub.publish({ topic: topics.placed, outgoing: { key: order.id, event } });
  await state.delete({ key: `announce/${order.id}` });
}

async function announceAll(): Promise<void> {
  let pageToken = "";
  do {
    const page = await state.list({ prefix: "announce/", pageToken });
    for (const { value } of page.items) await announce(orderFrom(value));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}

/** Marks orders as shipped, for ever. */
function shipping(): Promise<never> {
  const retry = { initialDelay: { nanos: 50e6 }, maxDelay: { seconds: 5n } };
  return subscribe(
    pubsub,
    { topic: topics.shipped, ordered: true, maxInFlight: 16, retry, deadLetterTopic: "order.shipped.dead" },
    markShipped,
  );
}

async function markShipped({ key: id, event }: Delivery): Promise<void> {
  const key = `order/${id}`;
  const { item } = await state.get({ key });
  if (!item || !event) throw new Reject("nobody has ordered this");
  const { by } = decode<{ readonly by: string }>(event.data);
  // Set twice, it is the same: an event that comes again changes nothing.
  const value = encode({ ...orderFrom(item.value), status: "shipped", by });
  await state.set({ key, value, precondition: unchanged(item.etag) });
  say(`shipped ${id} by ${by}`);
}
