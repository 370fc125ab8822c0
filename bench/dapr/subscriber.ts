/** Events down a streaming subscription of Dapr's API. */
import type { Call } from "../client/call.ts";
import type { Connection } from "../client/connection.ts";
import type { Receiver } from "../client/receiver.ts";
import { daprPaths, eventId, initialRequest, processedRequest } from "./messages.ts";

/** See the head of this file. */
export class DaprSubscriber implements Receiver {
  received = 0;
  onReceived: () => void = () => {};
  onEnd: () => void = () => {};
  readonly #stream: Call;

  private constructor(stream: Call) {
    this.#stream = stream;
  }

  /** Resolves when it is subscribed. */
  static open(connection: Connection, pubsubName: string, topic: string): Promise<DaprSubscriber> {
    const stream = connection.start(daprPaths.subscribe);
    const subscriber = new DaprSubscriber(stream);
    return new Promise((resolve, reject) => {
      stream.onMessage = (message) => {
        const id = eventId(message);
        if (id) subscriber.#take(id);
        else resolve(subscriber);
      };
      stream.onEnd = () => {
        reject(new Error("the streaming subscription has failed"));
        subscriber.onEnd();
      };
      stream.send(initialRequest(pubsubName, topic));
    });
  }

  close(): void {
    this.#stream.end();
  }

  #take(id: Uint8Array): void {
    this.#stream.send(processedRequest(id));
    this.received += 1;
    this.onReceived();
  }
}
