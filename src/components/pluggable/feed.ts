/**
 * The messages of one topic in this sidecar: one stream, shared by all members, so that whoever asks gets them.
 *
 * The contract knows that a message is handled, and nothing between that and the end of the stream. So what is to
 * be given again stays here, unanswered, until it is handled: nothing depends on what a component does with refused ones.
 */
import type { PullMessagesResponse } from "../../../gen/dapr/proto/components/v1/pubsub_pb.ts";
import { backoffMs } from "../../backoff.ts";
import { pause } from "../../pause.ts";
import type { Log } from "../../telemetry/log.ts";
import { WakeUp } from "../../wake-up.ts";
import type { Attempts } from "./attempts.ts";
import type { Link } from "./link.ts";
import { PullStream } from "./pull-stream.ts";

/** How long to wait until the stream is opened again, in milliseconds: longer each time. */
const pauses = { firstMs: 100, lastMs: 5000 };

/** A message that is not handled yet. */
export interface Message {
  readonly content: PullMessagesResponse;
  /** Its place in the order of arrival. */
  readonly place: number;
  readonly receivedAtMs: number;
  readonly stream: PullStream;
  attempt: number;
}

/** Somebody who wants messages. */
export interface Waiter {
  /** How many at most. */
  readonly max: number;
  take(messages: readonly Message[]): void;
}

/** What a feed is made of. */
export interface FeedOptions {
  readonly link: Link;
  readonly topic: string;
  /** What the subscription says to the component. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly attempts: Attempts;
  readonly log: Log;
}

/** See the head of this file. */
export class Feed {
  readonly topic: string;
  readonly #options: FeedOptions;
  readonly #closing = new AbortController();
  readonly #waiters: Waiter[] = [];
  /** In the order in which they are given. */
  readonly #ready: Message[] = [];
  /** Those that wait for their time. */
  readonly #later = new Map<Message, { readonly timer: NodeJS.Timeout; readonly atMs: number }>();
  /** Ids of the stream's messages that are not handled. */
  #ids = new Set<string>();
  #stream: PullStream;
  #pumping: Promise<void> | undefined;
  readonly #wake = new WakeUp();
  #places = 0;
  #dispatching: NodeJS.Immediate | undefined;

  private constructor(options: FeedOptions, stream: PullStream) {
    this.#options = options;
    this.topic = options.topic;
    this.#stream = stream;
  }

  /** Subscribes. Throws what `classify` knows. */
  static async open(options: FeedOptions, signal: AbortSignal): Promise<Feed> {
    const stream = await PullStream.open(options.link, options.topic, options.metadata, signal);
    const feed = new Feed(options, stream);
    feed.#pumping = feed.#pump();
    return feed;
  }

  /** Gives messages to the waiter when there are any. */
  wait(waiter: Waiter): void {
    this.#waiters.push(waiter);
    if (this.#ready.length > 0) this.#dispatch();
    this.#wake.ring();
  }

  /** It waits no longer. */
  leave(waiter: Waiter): void {
    const index = this.#waiters.indexOf(waiter);
    if (index >= 0) this.#waiters.splice(index, 1);
  }

  /** Nobody receives the message again. */
  done({ content: { id }, stream }: Message): void {
    stream.acknowledge(id);
    if (stream === this.#stream) this.#ids.delete(id);
  }

  /** Gives a message again after a while; it has counted. */
  again(message: Message, delayMs: number): void {
    message.attempt += 1;
    if (delayMs > 0) this.#give(message, delayMs);
    else this.#putReady(message, this.#ready.length);
  }

  /** Gives messages again at once, before those that came after them. */
  returned(messages: readonly Message[]): void {
    for (const message of messages) {
      const index = this.#ready.findIndex(({ place }) => place > message.place);
      this.#putReady(message, index < 0 ? this.#ready.length : index);
    }
  }

  /** Leaves the topic: `held`, and all that is here, is others'. */
  async close(held: readonly Message[]): Promise<void> {
    this.#closing.abort();
    this.#wake.ring();
    for (const waiter of this.#waiters.splice(0)) waiter.take([]);
    if (this.#dispatching) clearImmediate(this.#dispatching);
    this.#forsake([...held, ...this.#ready.splice(0)]);
    const stream = this.#stream;
    await stream.close();
    await this.#pumping;
    if (this.#stream !== stream) await this.#stream.close();
  }

  /** Reads as much as is wanted, from one stream after the other. Never rejects. */
  async #pump(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      if (this.#wanted() <= 0) {
        await this.#wake.wait();
        continue;
      }
      try {
        const content = await this.#stream.next();
        if (signal.aborted) return;
        if (content === undefined) throw new Error("the component has ended the stream");
        this.#take(content);
      } catch (err) {
        if (!signal.aborted) await this.#reopen(err);
      }
    }
  }

  #wanted(): number {
    let wanted = -this.#ready.length;
    for (const { max } of this.#waiters) wanted += max;
    return wanted;
  }

  #take(content: PullMessagesResponse): void {
    // What is here already is given again by us, not by the component.
    if (content.id !== "" && this.#ids.has(content.id)) return;
    this.#ids.add(content.id);
    const { attempt, waitMs } = this.#options.attempts.of(this.topic, content);
    this.#places += 1;
    const message: Message = {
      content,
      place: this.#places,
      receivedAtMs: Date.now(),
      stream: this.#stream,
      attempt,
    };
    if (waitMs > 0) return this.#give(message, waitMs);
    this.#ready.push(message);
    if (this.#wanted() <= 0) this.#dispatch();
    // What has arrived together is given together.
    else this.#dispatching ??= setImmediate(() => this.#dispatch());
  }

  #give(message: Message, delayMs: number): void {
    if (message.stream !== this.#stream) return this.#remember(message, delayMs);
    const timer = setTimeout(() => {
      this.#later.delete(message);
      this.#putReady(message, this.#ready.length);
    }, delayMs);
    this.#later.set(message, { timer, atMs: performance.now() + delayMs });
  }

  #putReady(message: Message, index: number): void {
    // The stream that it came by has ended: the component gives it again.
    if (message.stream !== this.#stream || this.#closing.signal.aborted) return this.#remember(message, 0);
    this.#ready.splice(index, 0, message);
    this.#dispatching ??= setImmediate(() => this.#dispatch());
  }

  #dispatch(): void {
    if (this.#dispatching) clearImmediate(this.#dispatching);
    this.#dispatching = undefined;
    while (this.#waiters.length > 0 && this.#ready.length > 0) {
      const waiter = this.#waiters.shift()!;
      waiter.take(this.#ready.splice(0, waiter.max));
    }
    this.#wake.ring();
  }

  /** Opens another stream, however often it takes. What came by the old one comes again. */
  async #reopen(reason: unknown): Promise<void> {
    const { link, topic, metadata, log } = this.#options;
    const { signal } = this.#closing;
    log.warn({ topic, err: reason }, "the stream of messages has ended; opening another");
    this.#forsake(this.#ready.splice(0));
    this.#ids = new Set();
    void this.#stream.close();
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      try {
        this.#stream = await PullStream.open(link, topic, metadata, signal);
        return;
      } catch (err) {
        log.debug({ topic, err }, "no stream of messages yet");
      }
      await pause(backoffMs(attempt, pauses), signal);
    }
  }

  /** Gives up messages that the component will give again, to whoever it is. */
  #forsake(messages: readonly Message[]): void {
    for (const message of messages) this.#remember(message, 0);
    for (const [message, { timer, atMs }] of this.#later) {
      clearTimeout(timer);
      this.#remember(message, atMs - performance.now());
    }
    this.#later.clear();
  }

  #remember({ content, attempt }: Message, waitMs: number): void {
    this.#options.attempts.remember(this.topic, content, attempt, waitMs);
  }
}
