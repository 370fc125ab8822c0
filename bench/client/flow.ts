/** Events up a publish stream, to a receiver. */
import { paths, publishStreamRequest, settledThrough } from "../messages.ts";
import type { Call } from "./call.ts";
import type { Connection } from "./connection.ts";
import type { Receiver } from "./receiver.ts";

/** How events flow. */
export interface FlowSettings {
  readonly component: string;
  readonly topic: string;
  /** Events in a message. */
  readonly batch: number;
  /** Events that may be published and not yet received. */
  readonly window: number;
  readonly data: Uint8Array;
  /** True: with the attributes that Dapr gives what is published through its API. */
  readonly asDapr?: boolean;
}

/** See the head of this file. Publisher and receiver have a connection each, as two applications have. */
export class Flow {
  readonly #settings: FlowSettings;
  readonly #publisher: Call;
  readonly #receiver: Receiver;
  readonly #message: Uint8Array;
  #sent = 0;
  #acknowledged = 0;
  #running = false;
  #ended: Error | undefined;
  #onReceived: () => void = () => {};

  constructor(publisher: Connection, receiver: Receiver, settings: FlowSettings) {
    this.#settings = settings;
    this.#receiver = receiver;
    const { component, topic, batch, data, asDapr } = settings;
    this.#message = publishStreamRequest(new Array<Uint8Array>(batch).fill(data), { asDapr });
    receiver.onReceived = () => {
      this.#publish();
      this.#onReceived();
    };
    this.#publisher = publisher.start(paths.publishStream);
    this.#publisher.onMessage = (message) => {
      this.#acknowledged = settledThrough(message);
      this.#publish();
    };
    for (const each of [this.#publisher, receiver]) {
      each.onEnd = () => {
        this.#ended ??= new Error("the sidecar has ended a stream");
        this.#onReceived();
      };
    }
    this.#publisher.send(publishStreamRequest([], { component, topic }));
  }

  /** Events that were received. */
  get received(): number {
    return this.#receiver.received;
  }

  /** Called after each message with deliveries. */
  set onReceived(called: () => void) {
    this.#onReceived = called;
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

  /** Publishes one message. */
  publishOne(): void {
    this.#sent += this.#settings.batch;
    this.#publisher.send(this.#message);
  }

  close(): void {
    for (const each of [this.#publisher, this.#receiver]) each.onEnd = () => {};
    this.#publisher.end();
    this.#receiver.close();
  }

  #until(reached: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onReceived = () => {
        if (this.#ended) reject(this.#ended);
        else if (reached()) resolve();
      };
      this.#onReceived();
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
}
