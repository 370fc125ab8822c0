/** What an application in TypeScript has of its sidecar: the services over gRPC, and a subscribe stream. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import {
  type Delivery,
  type OpenSchema,
  Outcome,
  PubSubService,
  type SubscribeRequestSchema,
  type SubscribeResponse,
} from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { RuntimeService } from "../../gen/outrider/runtime/v1/runtime_pb.ts";
import { StateService } from "../../gen/outrider/state/v1/state_pb.ts";

type Request = MessageInitShape<typeof SubscribeRequestSchema>;
type Open = Exclude<MessageInitShape<typeof OpenSchema>, { $typeName: string }>;

/** The services of one sidecar, over one connection. */
export class Application implements Disposable {
  readonly pubsub;
  readonly state;
  readonly runtime;
  readonly #connection: Http2SessionManager;
  #watch: NodeJS.Timeout | undefined;

  /** Connects with the first call. */
  constructor(port: number) {
    const baseUrl = `http://127.0.0.1:${port}`;
    this.#connection = new Http2SessionManager(baseUrl);
    const transport = createGrpcTransport({ baseUrl, sessionManager: this.#connection });
    this.pubsub = createClient(PubSubService, transport);
    this.state = createClient(StateService, transport);
    this.runtime = createClient(RuntimeService, transport);
  }

  /** Publishes texts to a topic. */
  async publish(topic: string, ...texts: readonly string[]): Promise<void> {
    for (const text of texts) {
      await this.pubsub.publish({ topic, outgoing: { event: { data: Buffer.from(text) } } });
    }
  }

  /** Opens a stream. With a `listener`, that gets the deliveries, and the stream keeps none of them. */
  subscribe(opens: readonly Open[], listener?: (deliveries: readonly Delivery[]) => void): Stream {
    return new Stream(this, opens, listener);
  }

  /** Ends the connection as soon as the sidecar leaves a question unanswered for so long. */
  leaveWhenSilent(silentMs: number): void {
    // Not by Connect's pings: a connection that they have ended cannot be disposed of without an uncaught error.
    this.#watch ??= setInterval(() => {
      this.runtime.checkHealth({}, { timeoutMs: silentMs }).catch(() => this[Symbol.dispose]());
    }, silentMs / 2);
  }

  /** Ends the connection at once, with every call on it. */
  [Symbol.dispose](): void {
    clearInterval(this.#watch);
    this.#connection.abort();
  }
}

/** Messages of an application on their way to the sidecar. */
export class Outbox<T> {
  readonly #messages: T[] = [];
  #wake: () => void = () => {};
  #ended = false;

  send(message: T): void {
    this.#messages.push(message);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined) yield message;
      else if (this.#ended) return;
      else {
        await new Promise<void>((wake) => {
          this.#wake = wake;
        });
      }
    }
  }
}

/** A subscribe stream. */
export class Stream implements Disposable {
  /** Everything that was delivered, in order. */
  readonly deliveries: Delivery[] = [];
  /** Everything else that the sidecar said. */
  readonly said: SubscribeResponse["message"][] = [];
  /** How it ended: undefined when it ended well. */
  readonly ended: Promise<ConnectError | undefined>;
  readonly #outbox = new Outbox<Request>();
  readonly #abandon = new AbortController();
  #over = false;
  #heard: () => void = () => {};

  constructor(
    app: Application,
    opens: readonly Open[],
    listener: (deliveries: readonly Delivery[]) => void = (deliveries) => this.deliveries.push(...deliveries),
  ) {
    for (const [index, value] of opens.entries())
      this.send({ message: { case: "open", value: { subscription: index + 1, ...value } } });
    this.ended = this.#read(app, listener).then(
      () => undefined,
      (error: unknown) => ConnectError.from(error),
    );
    void this.ended.then(() => {
      this.#over = true;
      this.#outbox.end();
      this.#heard();
    });
  }

  send(request: Request): void {
    this.#outbox.send(request);
  }

  settle(deliveries: readonly Delivery[], outcome: Outcome = Outcome.ACK, delayMs?: number): void {
    const ranges = deliveries.map(({ id }) => ({ first: id }));
    const delay = delayMs === undefined ? {} : { delay: { nanos: delayMs * 1e6 } };
    while (ranges.length > 0) {
      const value = { deliveries: ranges.splice(0, 1000), outcome, ...delay };
      this.send({ message: { case: "settle", value } });
    }
  }

  /** Waits for so many deliveries in all. Rejects when the stream ends before. */
  async delivered(count: number): Promise<readonly Delivery[]> {
    await this.#until(`${count} deliveries`, () => this.deliveries.length >= count || undefined);
    return this.deliveries;
  }

  /** Waits for something that the sidecar says. */
  heard<C extends SubscribeResponse["message"]["case"]>(
    what: C,
  ): Promise<Extract<SubscribeResponse["message"], { case: C }>> {
    type Wanted = Extract<SubscribeResponse["message"], { case: C }>;
    const is = (message: SubscribeResponse["message"]): message is Wanted => message.case === what;
    return this.#until(String(what), () => this.said.find(is));
  }

  /** Says that nothing more is wanted; what is held may still be settled. */
  halfClose(): void {
    this.#outbox.end();
  }

  /** Goes away without a word. */
  [Symbol.dispose](): void {
    this.#abandon.abort();
    this.#outbox.end();
  }

  async #read(app: Application, listener: (deliveries: readonly Delivery[]) => void): Promise<void> {
    const { signal } = this.#abandon;
    for await (const { message } of app.pubsub.subscribe(this.#outbox, { signal })) {
      if (message.case === "deliver") listener(message.value.deliveries);
      else this.said.push(message);
      this.#heard();
    }
  }

  async #until<T>(what: string, look: () => T | undefined): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      if (this.#over) throw new Error(`the stream ended before ${what}`, { cause: await this.ended });
      await new Promise<void>((heard) => {
        const before = this.#heard;
        this.#heard = () => {
          before();
          heard();
        };
      });
    }
  }
}
