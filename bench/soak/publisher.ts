/** A publisher that keeps its rate, and does not send again what was not acknowledged. */
import { setTimeout as delay } from "node:timers/promises";
import { Connection } from "../client/connection.ts";
import { paths, payloadBytes, publishStreamRequest, settledThrough } from "../messages.ts";
import { eventData, type Ledger } from "./ledger.ts";

/** What a publisher is told. */
export interface PublisherSettings {
  readonly port: number;
  readonly topic: string;
  /** A number that no other publisher of the soak has. */
  readonly publisher: number;
  readonly perSecond: number;
}

const batch = 10;
/** Events that may wait for their acknowledgement; when it is slow, so is the publisher. */
const maxWaiting = 2000;

/** Publishes until the signal aborts, and waits for every acknowledgement. Throws when its stream ends before. */
export async function publish(
  settings: PublisherSettings,
  ledger: Ledger,
  signal: AbortSignal,
): Promise<void> {
  const { port, topic, publisher, perSecond } = settings;
  const connection = await Connection.open(port);
  const call = connection.start(paths.publishStream);
  let broken = false;
  call.onEnd = () => {
    broken = true;
  };
  let sent = 0;
  ledger.acknowledged.set(publisher, 0);
  call.onMessage = (message) => ledger.acknowledged.set(publisher, settledThrough(message));
  call.send(publishStreamRequest([], { component: "pubsub", topic }));
  const begin = performance.now();
  const check = () => {
    if (broken) throw new Error(`the stream of publisher ${publisher} has ended`);
  };
  while (!signal.aborted) {
    const due = ((performance.now() - begin) * perSecond) / 1000;
    while (sent + batch <= due && sent - ledger.acknowledged.get(publisher)! < maxWaiting) {
      const events = Array.from({ length: batch }, (_, i) => eventData(publisher, sent + i, payloadBytes));
      call.send(publishStreamRequest(events));
      sent += batch;
    }
    await delay(5);
    check();
  }
  for (const end = performance.now() + 30_000; ledger.acknowledged.get(publisher)! < sent; check()) {
    if (performance.now() > end) throw new Error(`publisher ${publisher} waits for acknowledgements`);
    await delay(10);
  }
  call.onEnd = () => {};
  connection.close();
}
