/** Events down a subscribe stream. */
import { ackRequest, deliveryIds, openRequest, paths } from "../messages.ts";
import type { Call } from "./call.ts";
import type { Connection } from "./connection.ts";
import type { Receiver } from "./receiver.ts";

/** What is subscribed to, and how. */
export interface SubscriberSettings {
  readonly component: string;
  readonly topic: string;
  /** Events in a message at most. */
  readonly batch: number;
  /** Events that it holds at once. Default: those of ten messages. */
  readonly maxInFlight?: number;
  /** True: each delivery is settled by a message of its own; else all of a message by one, with those before. */
  readonly settleEach: boolean;
}

/** See the head of this file. */
export class Subscriber implements Receiver {
  received = 0;
  onReceived: () => void = () => {};
  onEnd: () => void = () => {};
  readonly #settleEach: boolean;
  readonly #stream: Call;

  constructor(connection: Connection, settings: SubscriberSettings) {
    const { component, topic, batch, maxInFlight = 10 * batch, settleEach } = settings;
    this.#settleEach = settleEach;
    this.#stream = connection.start(paths.subscribe);
    this.#stream.onMessage = (message) => this.#take(message);
    this.#stream.onEnd = () => this.onEnd();
    this.#stream.send(openRequest({ component, topic, maxInFlight, maxBatch: batch }));
  }

  close(): void {
    this.#stream.end();
  }

  #take(message: Buffer): void {
    const ids = deliveryIds(message);
    if (!ids || ids.length === 0) return;
    if (this.#settleEach) for (const id of ids) this.#stream.send(ackRequest(id, id));
    else this.#stream.send(ackRequest(1n, ids.at(-1)!));
    this.received += ids.length;
    this.onReceived();
  }
}
