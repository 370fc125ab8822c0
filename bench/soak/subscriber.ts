/** A subscriber whose streams end again and again, in every way that streams end. */
import { fromBinary } from "@bufbuild/protobuf";
import { SubscribeResponseSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { Connection } from "../client/connection.ts";
import { ackRequest, closeRequest, openRequest, paths } from "../messages.ts";
import type { Ledger } from "./ledger.ts";

/** What a subscriber is told. */
export interface SubscriberSettings {
  readonly port: number;
  readonly topic: string;
  readonly group: string;
  /** A stream lives between this and three times this, in milliseconds. */
  readonly streamMs: number;
}

/** How often streams ended, by the way in which they did. */
export type Endings = Record<"closed" | "cancelled" | "disconnected", number>;

const ways = ["closed", "cancelled", "disconnected"] as const;
/** Of all frames, those that are left unsettled when their stream ends. */
const unsettledShare = 0.1;

/** Takes events on one stream after another until the signal aborts. Throws when a stream ends by itself. */
export async function subscribe(
  settings: SubscriberSettings,
  ledger: Ledger,
  endings: Endings,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const way = ways[Math.floor(Math.random() * ways.length)]!;
    await oneStream(settings, ledger, way, signal);
    endings[way] += 1;
  }
}

async function oneStream(
  { port, topic, group, streamMs }: SubscriberSettings,
  ledger: Ledger,
  way: keyof Endings,
  signal: AbortSignal,
): Promise<void> {
  const connection = await Connection.open(port);
  const call = connection.start(paths.subscribe);
  const ended = Promise.withResolvers<void>();
  let leaving = false;
  call.onEnd = () => {
    if (leaving) ended.resolve();
    else ended.reject(new Error(`a subscribe stream of group "${group}" has ended by itself`));
  };
  call.onMessage = (bytes) => {
    const { message } = fromBinary(SubscribeResponseSchema, bytes);
    if (message.case === "closed" && leaving) return call.end();
    if (message.case === "closed" || message.case === "complaint") {
      ended.reject(new Error(`${group}: ${message.value.reason}: ${message.value.message}`));
    }
    if (message.case !== "deliver") return;
    // What is not settled when the stream ends is delivered again.
    if (way !== "closed" && Math.random() < unsettledShare) return;
    const { deliveries } = message.value;
    for (const { event } of deliveries) ledger.see(group, event!.data);
    call.send(ackRequest(deliveries[0]!.id, deliveries.at(-1)!.id));
  };
  call.send(openRequest({ component: "pubsub", topic, group, maxInFlight: 500, maxBatch: 100 }));

  const leave = () => {
    leaving = true;
    if (way === "closed") return call.send(closeRequest());
    if (way === "cancelled") call.cancel();
    // The settlements that were written go out before.
    setImmediate(() => connection.close());
  };
  const timer = setTimeout(leave, streamMs * (1 + 2 * Math.random()));
  signal.addEventListener("abort", leave, { once: true });
  try {
    await ended.promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", leave);
    connection.close();
  }
}
