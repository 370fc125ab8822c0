/** What both applications have of their sidecar: two clients, and a stream that is opened again whenever it ends. */
import { PassThrough } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import {
  type Delivery,
  type OpenSchema,
  Outcome,
  PubSubService,
  type SubscribeRequestSchema,
} from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { StateService } from "../../gen/outrider/state/v1/state_pb.ts";

/** Before anything is tried again, in milliseconds. The sidecar is on this machine and is ours alone. */
const pauseMs = 250;

/** The sidecar beside this application. `outrider run` says in the environment where it is. */
export function connect() {
  const endpoint = process.env["OUTRIDER_GRPC_ENDPOINT"] ?? "127.0.0.1:50001";
  // Pings notice a sidecar that is still there and does nothing any more.
  const transport = createGrpcTransport({ baseUrl: `http://${endpoint}`, pingIntervalMs: 5000 });
  return { state: createClient(StateService, transport), pubsub: createClient(PubSubService, transport) };
}

type PubSub = Client<typeof PubSubService>;
type Open = Exclude<MessageInitShape<typeof OpenSchema>, { $typeName: string }>;
type Handle = (delivery: Delivery) => Promise<void>;

/** A delivery that will never be handled, however often it comes: it goes to the dead letters. */
export class Reject extends Error {}

/** Handles deliveries for ever, on one stream after another. What `handle` throws, unless it is a Reject, repeats the delivery. */
export async function subscribe(pubsub: PubSub, open: Open, handle: Handle): Promise<never> {
  for (;;) {
    await untilDone(`subscribing to ${open.topic}`, () => oneStream(pubsub, open, handle));
    // It ended in peace, because the sidecar stops. The next stream finds the next sidecar.
    await pause(pauseMs);
  }
}

async function oneStream(pubsub: PubSub, open: Open, handle: Handle): Promise<void> {
  const requests = new PassThrough({ objectMode: true });
  const send = (message: MessageInitShape<typeof SubscribeRequestSchema>["message"]) => {
    // After the end it goes nowhere: what was not settled comes again, on the next stream.
    if (requests.writable) requests.write({ message });
  };
  send({ case: "open", value: { ...open, subscription: 1 } });
  try {
    for await (const { message } of pubsub.subscribe(requests)) {
      if (message.case === "opened") say(`listens to ${open.topic}`);
      if (message.case === "closed") throw new Error(message.value.message);
      if (message.case !== "deliver") continue;
      for (const delivery of message.value.deliveries) {
        // Side by side, but never more than `maxInFlight`: the sidecar sends no more before some are settled.
        void outcomeOf(delivery, handle).then((outcome) => {
          send({ case: "settle", value: { deliveries: [{ first: delivery.id }], ...outcome } });
        });
      }
    }
  } finally {
    requests.end();
  }
}

async function outcomeOf(delivery: Delivery, handle: Handle) {
  try {
    await handle(delivery);
    return { outcome: Outcome.ACK };
  } catch (error) {
    const outcome = error instanceof Reject ? Outcome.REJECT : Outcome.RETRY;
    const reason = String(error).slice(0, 200);
    say(`${outcome === Outcome.REJECT ? "refused" : "again later"}: ${delivery.key}: ${reason}`);
    return { outcome, reason };
  }
}

/** Tries again for ever: for what must be done however long the sidecar is away. */
export async function untilDone<T>(what: string, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      say(`${what}, again: ${String(error)}`);
    }
    await pause(pauseMs);
  }
}

/** A write that may happen only where nothing is. */
export const absent = { condition: { case: "absent", value: true } } as const;

/** A write that may happen only where nobody has written since this etag was read. */
export function unchanged(etag: string) {
  return { condition: { case: "etag", value: etag } } as const;
}

/** Whether a write failed because of what was there: because it was not absent, or not unchanged. */
export function wasOutrun(error: unknown): boolean {
  const details = ConnectError.from(error).findDetails(ErrorInfoSchema);
  return details.some(({ reason }) => reason === "ETAG_MISMATCH");
}

/** Tells people what happens. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
