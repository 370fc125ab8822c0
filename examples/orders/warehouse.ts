/**
 * Reserves stock for each order that was placed, and ships it.
 *
 * The stock is reduced and the order remembered in one transaction that holds only for the stock that was
 * read: any number of warehouses may do this at once, and an order that comes again takes nothing.
 *
 * In its state: `stock/<item>`, how many there are; `reserved/<id>`, an Order whose pieces are taken.
 */
import type { Delivery } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { decode, encode, type Order, orderFrom, topics } from "./order.ts";
import { absent, connect, Reject, say, subscribe, unchanged, wasOutrun } from "./sidecar.ts";

/** Pieces of everything that there are at first. */
const firstStock = Number(process.argv[2] ?? 10_000);
const { state, pubsub } = connect();

await subscribe(
  pubsub,
  {
    topic: topics.placed,
    ordered: true,
    maxInFlight: 8,
    // Without end, as nothing says how long the sidecar's store may be away. What cannot succeed is rejected.
    retry: { initialDelay: { nanos: 50e6 }, maxDelay: { seconds: 5n } },
    deadLetterTopic: "order.placed.dead",
    // The sidecar reads the event, so that the application need not decide.
    routes: [{ name: "truck", rule: "event.data.quantity >= 10" }],
    defaultRoute: "bicycle",
  },
  ship,
);

async function ship({ event: placed, route: by }: Delivery): Promise<void> {
  const order = orderFrom(placed!.data);
  const left = await reserve(order);
  const data = encode({ id: order.id, by });
  const event = {
    id: `shipped-${order.id}`,
    type: topics.shipped,
    dataContentType: "application/json",
    data,
  };
  // Also when it was reserved long ago: whoever reserved it may have died before this.
  await pubsub.publish({ topic: topics.shipped, outgoing: { key: order.id, event } });
  say(
    left === undefined ? `sent ${order.id} again` : `sent ${order.id} by ${by}, ${left} ${order.item} left`,
  );
}

/** Takes the pieces of an order. Returns what is left, or undefined when they had been taken before. */
async function reserve(order: Order): Promise<number | undefined> {
  const keys = [`stock/${order.item}`, `reserved/${order.id}`] as const;
  for (;;) {
    const { results } = await state.batchGet({ keys: [...keys] });
    const [stock, reserved] = results.map(({ item }) => item);
    if (reserved) return undefined;
    const left = (stock ? decode<number>(stock.value) : firstStock) - order.quantity;
    if (left < 0) throw new Reject(`there is not enough ${order.item}`);
    const writes = [
      { key: keys[0], value: encode(left), precondition: stock ? unchanged(stock.etag) : absent },
      { key: keys[1], value: encode(order), precondition: absent },
    ].map((value) => ({ write: { case: "set", value } as const }));
    try {
      await state.transact({ writes });
      return left;
    } catch (error) {
      // Another order was faster, or an earlier try was written and only its answer lost: look again.
      if (!wasOutrun(error)) throw error;
    }
  }
}
