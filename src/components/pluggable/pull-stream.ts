/** One stream of the messages of a topic, and what is answered for them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import {
  PubSub,
  type PullMessagesRequestSchema,
  type PullMessagesResponse,
} from "../../../gen/dapr/proto/components/v1/pubsub_pb.ts";
import { WakeUp } from "../../wake-up.ts";
import { toFailure } from "./failures.ts";
import type { Link, Session } from "./link.ts";

type Request = MessageInitShape<typeof PullMessagesRequestSchema>;

/**
 * How long it is waited for a sign that the component has subscribed, in milliseconds: the contract has none, but
 * one that cares sends its headers then.
 */
const signWithinMs = 300;
/** How long after such a sign a refusal still counts as one, in milliseconds: some servers send headers before all else. */
const refusalWithinMs = 20;
/** How long a component may take to end a stream whose last answer it has, in milliseconds. */
const endWithinMs = 1000;

/** See the head of this file. */
export class PullStream {
  readonly #requests = new Requests();
  readonly #ending = new AbortController();
  readonly #session: Session;
  readonly #messages: AsyncIterator<PullMessagesResponse>;
  /** Asked for before there is demand: until then the library does not look at headers. */
  #next: Promise<IteratorResult<PullMessagesResponse>> | undefined;
  #ended = false;

  private constructor(
    session: Session,
    link: Link,
    topic: string,
    metadata: Readonly<Record<string, string>>,
  ) {
    this.#session = session;
    this.#requests.push({ topic: { name: topic, metadata: { ...metadata } } });
    const signs = Promise.withResolvers<void>();
    this.#subscribed = signs.promise;
    const later = () => setTimeout(() => signs.resolve(), refusalWithinMs);
    const options = { ...link.callOptions(this.#ending.signal), onHeader: () => void later() };
    const messages = createClient(PubSub, session.transport).pullMessages(this.#requests, options);
    this.#messages = messages[Symbol.asyncIterator]();
    this.#next = this.#messages.next();
    this.#next.then(
      () => signs.resolve(),
      (error: unknown) => signs.reject(error),
    );
    this.#subscribed.catch(() => {}); // Whoever reads is told.
  }

  readonly #subscribed: Promise<void>;

  /** Subscribes. Throws what `classify` knows. */
  static async open(
    link: Link,
    topic: string,
    metadata: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<PullStream> {
    const session = await link.session(signal);
    const stream = new PullStream(session, link, topic, metadata);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, signWithinMs);
    });
    try {
      await Promise.race([stream.#subscribed, late]);
      return stream;
    } catch (error) {
      throw toFailure(error, signal, session.ended);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Whether what is answered for messages does not arrive any more. */
  get ended(): boolean {
    return this.#ended || this.#session.ended;
  }

  /** The next message; undefined when the component has ended the stream. Throws what `classify` knows. */
  async next(): Promise<PullMessagesResponse | undefined> {
    try {
      const { done, value } = await (this.#next ?? this.#messages.next());
      if (!done) return value;
      this.#ended = true;
      return undefined;
    } catch (error) {
      this.#ended = true;
      throw toFailure(error, this.#ending.signal, this.#session.ended);
    } finally {
      this.#next = undefined;
    }
  }

  /** Says that a message has been handled. */
  acknowledge(id: string): void {
    if (!this.ended) this.#requests.push({ ackMessageId: id });
  }

  /** Ends it once the last answer is sent. The component gives what is not answered for to others. */
  async close(): Promise<void> {
    this.#requests.end();
    const timer = setTimeout(() => this.#ending.abort(), endWithinMs);
    try {
      while (!this.#ended) await this.next();
    } catch {
      // It has ended, whatever the way.
    } finally {
      clearTimeout(timer);
      this.#ending.abort();
    }
  }
}

/** Requests in their order, as somebody takes them. */
class Requests implements AsyncIterable<Request> {
  #waiting: Request[] = [];
  readonly #wake = new WakeUp();
  #ended = false;

  push(request: Request): void {
    this.#waiting.push(request);
    this.#wake.ring();
  }

  end(): void {
    this.#ended = true;
    this.#wake.ring();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Request> {
    for (;;) {
      const batch = this.#waiting;
      this.#waiting = [];
      yield* batch;
      if (this.#waiting.length > 0) continue;
      if (this.#ended) return;
      await this.#wake.wait();
    }
  }
}
