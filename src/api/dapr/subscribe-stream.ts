/** Streaming subscriptions: `SubscribeTopicEventsAlpha1`, one topic on each stream. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { TopicEventResponse_TopicEventResponseStatus as Status } from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import {
  type SubscribeTopicEventsRequestAlpha1,
  type SubscribeTopicEventsResponseAlpha1,
  SubscribeTopicEventsResponseAlpha1Schema,
  SubscribeTopicEventsResponseInitialAlpha1Schema,
} from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import type { Bus } from "../../blocks/pubsub/bus.ts";
import type { Received } from "../../blocks/pubsub/driver.ts";
import { topicEventOf } from "./topic-event.ts";
import {
  isRaw,
  type RetryPolicy,
  type TopicEventOutcome,
  TopicSubscription,
  type TopicSubscriptionSpec,
} from "./topic-subscription.ts";

type Response = SubscribeTopicEventsResponseAlpha1["subscribeTopicEventsResponseType"];

/** The path of events on a stream, which has no routes. */
const streamPath = "/";
const outcomes: Readonly<Record<number, TopicEventOutcome>> = {
  [Status.SUCCESS]: "success",
  [Status.RETRY]: "retry",
  [Status.DROP]: "drop",
};

/** One stream of one application. */
export class SubscribeStream {
  readonly #busOf: (pubsubName: string, topic: string) => Bus;
  readonly #retryOf: (pubsubName: string) => RetryPolicy | undefined;
  readonly #messages: Response[] = [];
  /** Events in hand by the id of their CloudEvent: there may be several of one id, the oldest first. */
  readonly #inHand = new Map<string, Received[]>();
  readonly #ended = new AbortController();
  #subscription: TopicSubscription | undefined;
  #wake: (() => void) | undefined;
  #failure: unknown;
  #leaving = false;

  /** `busOf` throws DaprError. */
  constructor(
    busOf: (pubsubName: string, topic: string) => Bus,
    retryOf: (pubsubName: string) => RetryPolicy | undefined,
  ) {
    this.#busOf = busOf;
    this.#retryOf = retryOf;
  }

  /** What it subscribes to; undefined until it is live. */
  get spec(): TopicSubscriptionSpec | undefined {
    return this.#subscription?.spec;
  }

  /** Reads what the application says until it stops. Never rejects. */
  async listen(requests: AsyncIterable<SubscribeTopicEventsRequestAlpha1>): Promise<void> {
    try {
      for await (const { subscribeTopicEventsRequestType: request } of requests) {
        if (request.case === "initialRequest") {
          if (this.#subscription)
            throw new ConnectError("duplicate initial request received", Code.InvalidArgument);
          const { pubsubName, topic, metadata, deadLetterTopic = "" } = request.value;
          void this.#open({
            pubsubName,
            topic,
            metadata,
            rules: [],
            defaultPath: streamPath,
            deadLetterTopic,
          });
        } else if (request.case === "eventProcessed") {
          this.#processed(request.value.id, request.value.status?.status ?? Status.SUCCESS);
        }
      }
      this.drain();
      // What it holds can never be settled now.
      this.#subscription?.close();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** What the sidecar says. Returning it early gives back what is held. */
  async *messages(): AsyncGenerator<SubscribeTopicEventsResponseAlpha1, void, undefined> {
    try {
      for (;;) {
        const message = this.#messages.shift();
        if (message) {
          yield create(SubscribeTopicEventsResponseAlpha1Schema, {
            subscribeTopicEventsResponseType: message,
          });
          continue;
        }
        if (this.#failure) throw this.#failure;
        if (this.#leaving && !this.#subscription?.inHand) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.#ended.abort();
      this.#subscription?.close();
    }
  }

  /** Takes no more events, and ends when those in hand are settled. */
  drain(): void {
    this.#leaving = true;
    this.#subscription?.stopTaking();
    this.#wake?.();
  }

  /** Ends the stream of a client that has gone. */
  abandon(): void {
    this.#fail(new ConnectError("the client has ended the stream", Code.Canceled));
  }

  async #open(spec: TopicSubscriptionSpec): Promise<void> {
    try {
      const bus = this.#busOf(spec.pubsubName, spec.topic);
      this.#subscription = new TopicSubscription(
        bus,
        spec,
        (received, path) => this.#deliver(received, path),
        this.#retryOf(spec.pubsubName),
      );
      await this.#subscription.open(this.#ended.signal);
      const answer = create(SubscribeTopicEventsResponseInitialAlpha1Schema);
      this.#say({ case: "initialResponse", value: answer });
      if (!this.#leaving) this.#subscription.begin();
    } catch (error) {
      this.#fail(error);
    }
  }

  #deliver(received: Received, path: string): void {
    const { spec } = this.#subscription!;
    const event = topicEventOf(received, { pubsubName: spec.pubsubName, path, raw: isRaw(spec) });
    const same = this.#inHand.get(event.id);
    if (same) same.push(received);
    else this.#inHand.set(event.id, [received]);
    this.#say({ case: "eventMessage", value: event });
  }

  #processed(id: string, status: Status): void {
    const same = this.#inHand.get(id);
    const received = same?.shift();
    if (!received) return;
    if (same!.length === 0) this.#inHand.delete(id);
    this.#subscription!.settle(received, outcomes[status] ?? "retry");
    if (this.#leaving) this.#wake?.();
  }

  #say(message: Response): void {
    this.#messages.push(message);
    this.#wake?.();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#ended.abort();
    this.#subscription?.stopTaking();
    this.#wake?.();
  }
}
