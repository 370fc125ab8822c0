/** Events up a publish stream and down a subscribe stream of the same sidecar. */
import {
  ackRequest,
  deliveryIds,
  openRequest,
  paths,
  publishStreamRequest,
  settledThrough,
} from "../messages.ts";
import type { Call } from "./call.ts";
import type { Connection } from "./connection.ts";

/** How events flow. */
export interface FlowSettings {
  readonly component: string;
  readonly topic: string;
  /** Events in a message, up, and at most in a message down. */
  readonly batch: number;
  /** True: each delivery is settled by a message of its own; else all of a message by one, with those before. */
  readonly settleEach: boolean;
  /** Events that may be published and not yet received. */
  readonly window: number;
  readonly data: Uint8Array;
}

/** See the head of this file. Publisher and subscriber have a connection each, as two applications have. */
export class Flow {
  /** Events that were received. */
  received = 0;
  /** Called after each message with deliveries. */
  onReceived: () => void = () => {};
  readonly #settings: FlowSettings;
  readonly #publisher: Call;
  readonly #subscriber: Call;
  readonly #message: Uint8Array;
  #sent = 0;
  #acknowledged = 0;
  #running = false;
  #ended: Error | undefined;

  constructor(publisher: Connection, subscriber: Connection, settings: FlowSettings) {
    this.#settings = settings;
    const { component, topic, batch, data } = settings;
    this.#message = publishStreamRequest(new Array<Uint8Array>(batch).fill(data));
    this.#subscriber = subscriber.start(paths.subscribe);
    this.#subscriber.onMessage = (message) => this.#take(message);
    this.#publisher = publisher.start(paths.publishStream);
    this.#publisher.onMessage = (message) => {
      this.#acknowledged = settledThrough(message);
      this.#publish();
    };
    for (const call of [this.#publisher, this.#subscriber]) {
      call.onEnd = () => {
        this.#ended ??= new Error("the sidecar has ended a stream");
        this.onReceived();
      };
    }
    this.#subscriber.send(openRequest({ component, topic, maxInFlight: 10 * batch, maxBatch: batch }));
    this.#publisher.send(publishStreamRequest([], { component, topic }));
  }

  /** Publishes as fast as events are received, for a time. Returns what was received in it. Throws when a stream ends. */
  async run(ms: number): Promise<number> {
    const before = this.received;
    this.#running = true;
    this.#publish();
    const end = performance.now() + ms;
    await this.#until(() => performance.now() >= end);
    this.#running = false;
    await this.#until(() => this.received >= this.#sent);
    return this.received - before;
  }

  /** Publishes one event. */
  publishOne(): void {
    this.#sent += this.#settings.batch;
    this.#publisher.send(this.#message);
  }

  close(): void {
    this.#ended = undefined;
    for (const call of [this.#publisher, this.#subscriber]) call.onEnd = () => {};
    this.#publisher.end();
    this.#subscriber.end();
  }

  #until(reached: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.onReceived = () => {
        if (this.#ended) reject(this.#ended);
        else if (reached()) resolve();
      };
      this.onReceived();
    });
  }

  #publish(): void {
    const { batch, window } = this.#settings;
    while (
      this.#running &&
      this.#sent - this.received + batch <= window &&
      this.#sent - this.#acknowledged + batch <= window
    ) {
      this.publishOne();
    }
  }

  #take(message: Buffer): void {
    const ids = deliveryIds(message);
    if (!ids || ids.length === 0) return;
    if (this.#settings.settleEach) for (const id of ids) this.#subscriber.send(ackRequest(id, id));
    else this.#subscriber.send(ackRequest(1n, ids.at(-1)!));
    this.received += ids.length;
    this.#publish();
    this.onReceived();
  }
}
