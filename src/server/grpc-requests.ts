/** The messages that a client streams, as an async iterable. */
import type { Message } from "@bufbuild/protobuf";

/**
 * Asks the call for one message at a time, when the handler asks for it: what it does not read
 * stays in the client, by HTTP/2's flow control.
 */
export class GrpcRequests implements AsyncIterableIterator<Message> {
  readonly #read: () => void;
  #waiting: PromiseWithResolvers<IteratorResult<Message>> | undefined;
  #done = false;
  #failure: Error | undefined;

  /** `read` asks for one message, which comes through `deliver`, or for the end. */
  constructor(read: () => void) {
    this.#read = read;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Message>> {
    if (this.#waiting) {
      const again = () => this.next();
      return this.#waiting.promise.then(again, again);
    }
    if (this.#failure) {
      const failure = this.#failure;
      this.#failure = undefined;
      return Promise.reject(failure);
    }
    if (this.#done) return Promise.resolve({ done: true, value: undefined });
    this.#waiting = Promise.withResolvers<IteratorResult<Message>>();
    const { promise } = this.#waiting;
    this.#read();
    return promise;
  }

  /** The handler wants no more. What the client still sends is not read. */
  return(): Promise<IteratorResult<Message>> {
    this.end();
    this.#failure = undefined;
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Gives the handler the message that it asked for. */
  deliver(message: Message): void {
    this.#settle()?.resolve({ done: false, value: message });
  }

  /** The client has half-closed: there is no more. */
  end(): void {
    this.#done = true;
    this.#settle()?.resolve({ done: true, value: undefined });
  }

  /** Ends the iterable with an error, which a handler that is not waiting gets with its next read. */
  fail(reason: Error): void {
    if (this.#done) return;
    this.#done = true;
    const waiting = this.#settle();
    if (!waiting) {
      this.#failure = reason;
      return;
    }
    waiting.reject(reason);
    // A handler that has given up waiting must not take the process with it.
    waiting.promise.catch(() => {});
  }

  #settle(): PromiseWithResolvers<IteratorResult<Message>> | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }
}
