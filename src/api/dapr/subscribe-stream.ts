/** Streaming subscriptions: `SubscribeTopicEventsAlpha1`, one topic on each stream. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  TopicEventResponse_TopicEventResponseStatus as Status,
  type TopicEventRequest,
} from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import {
  type SubscribeTopicEventsRequestAlpha1,
  type SubscribeTopicEventsResponseAlpha1,
  SubscribeTopicEventsResponseAlpha1Schema,
  SubscribeTopicEventsResponseInitialAlpha1Schema,
} from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import type { Bus } from "../../blocks/pubsub/bus.ts";
import type { Received } from "../../blocks/pubsub/driver.ts";
import { wantsRaw } from "../../config/subscriptions.ts";
import { reasonOf } from "../../faults.ts";
import type { Policy } from "../../resilience/policy.ts";
import { WakeUp } from "../../wake-up.ts";
import { DeliveryFailed, deliverUnderPolicy } from "./delivery-policy.ts";
import { DaprError } from "./errors.ts";
import { topicEventOf } from "./topic-event.ts";
import {
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

/** How long a stream waits to join until it is told of, in milliseconds: what joins at once is told of when it is live. */
const waitingMs = 1000;

/** Takes the application's answer for an event. */
type Take = (outcome: TopicEventOutcome) => void;

/** One stream of one application. */
export class SubscribeStream {
  readonly #busOf: (pubsubName: string, topic: string) => Bus;
  readonly #policyOf: (pubsubName: string) => Policy | undefined;
  readonly #messages: Response[] = [];
  /** Who waits for answers, by the id of the CloudEvent: there may be several of one id, the oldest first. */
  readonly #inHand = new Map<string, Take[]>();
  readonly #ended = new AbortController();
  #spec: TopicSubscriptionSpec | undefined;
  /** What is or will be taken from; undefined while the component is not there. */
  #subscription: TopicSubscription | undefined;
  /** Those of components that were replaced, until what is in hand is settled. */
  readonly #before = new Set<TopicSubscription>();
  #live = false;
  /** By performance.now(). */
  #askedAtMs = 0;
  readonly #wake = new WakeUp();
  #failure: unknown;
  #leaving = false;

  /** `busOf` throws DaprError. */
  constructor(
    busOf: (pubsubName: string, topic: string) => Bus,
    policyOf: (pubsubName: string) => Policy | undefined,
  ) {
    this.#busOf = busOf;
    this.#policyOf = policyOf;
  }

  /** What it subscribes to; undefined until it is live, or known to wait for its broker. */
  get spec(): TopicSubscriptionSpec | undefined {
    return this.#live || performance.now() - this.#askedAtMs > waitingMs ? this.#spec : undefined;
  }

  /** Reads what the application says until it stops. Never rejects. */
  async listen(requests: AsyncIterable<SubscribeTopicEventsRequestAlpha1>): Promise<void> {
    try {
      for await (const { subscribeTopicEventsRequestType: request } of requests) {
        if (request.case === "initialRequest") {
          if (this.#spec) throw refusal("duplicate initial request received");
          const { pubsubName, topic, metadata, deadLetterTopic = "" } = request.value;
          if (pubsubName === "") throw refusal("pubsubName is required");
          if (topic === "") throw refusal("topic is required");
          const raw = wantsRaw(metadata);
          this.#spec = {
            pubsubName,
            topic,
            metadata,
            raw,
            rules: [],
            defaultPath: streamPath,
            deadLetterTopic,
          };
          this.#askedAtMs = performance.now();
          void this.#open(this.#spec);
        } else if (!this.#spec) {
          throw refusal("initial request is required");
        } else if (request.case === "eventProcessed") {
          this.#processed(request.value.id, request.value.status?.status ?? Status.SUCCESS);
        }
      }
      this.drain();
      // What it holds can never be settled now.
      this.#close();
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
        if (this.#leaving && this.#holdsNothing) return;
        await this.#wake.wait();
      }
    } finally {
      this.#ended.abort();
      this.#close();
    }
  }

  /**
   * Goes on where the component is now, or waits for it; what is in hand is settled where it is from. Resolves when
   * it has joined. Never rejects.
   */
  async reconcile(): Promise<void> {
    const spec = this.#spec;
    if (!spec || this.#leaving || this.#ended.signal.aborted) return;
    const bus = this.#busNow(spec);
    const before = this.#subscription;
    if (bus && bus === before?.bus) return;
    this.#subscription = undefined;
    const opening = bus && this.#open(spec);
    if (before) this.#part(before);
    await opening;
  }

  /** Takes no more events, and ends when those in hand are settled. */
  drain(): void {
    this.#leaving = true;
    this.#subscription?.stopTaking();
    this.#wake.ring();
  }

  /** Ends the stream of a client that has gone. */
  abandon(): void {
    this.#fail(new ConnectError("the client has ended the stream", Code.Canceled));
  }

  /** Joins, and begins to take events, unless it is to go on somewhere else by then. */
  async #open(spec: TopicSubscriptionSpec): Promise<void> {
    let subscription: TopicSubscription | undefined;
    try {
      const made: TopicSubscription = new TopicSubscription(
        this.#busOf(spec.pubsubName, spec.topic),
        spec,
        (received, path) => this.#deliver(received, path, made),
      );
      subscription = made;
      this.#subscription = made;
      await made.open(this.#ended.signal);
      if (this.#subscription !== made) return made.close();
      if (!this.#live) {
        this.#live = true;
        const answer = create(SubscribeTopicEventsResponseInitialAlpha1Schema);
        this.#say({ case: "initialResponse", value: answer });
      }
      if (!this.#leaving) made.begin();
    } catch (error) {
      if (this.#subscription === subscription) this.#fail(openFailure(error, spec));
    }
  }

  /** The component of now; undefined when there is none. */
  #busNow({ pubsubName, topic }: TopicSubscriptionSpec): Bus | undefined {
    try {
      return this.#busOf(pubsubName, topic);
    } catch {
      return undefined;
    }
  }

  /** Leaves a component that is there no longer, as soon as what is in hand from it is settled. */
  #part(before: TopicSubscription): void {
    this.#before.add(before);
    before.stopTaking();
    void before.idle().then(() => {
      this.#before.delete(before);
      before.close();
    });
  }

  get #holdsNothing(): boolean {
    return [this.#subscription, ...this.#before].every((each) => !each?.inHand);
  }

  /** What it holds is delivered again, to somebody else. */
  #close(): void {
    for (const each of [this.#subscription, ...this.#before]) each?.close();
  }

  #deliver(received: Received, path: string, from: TopicSubscription): void {
    const { spec } = from;
    const event = topicEventOf(received, { pubsubName: spec.pubsubName, path, raw: spec.raw });
    const settle = (outcome: TopicEventOutcome, detail = "") => {
      from.settle(received, outcome, detail);
      if (this.#leaving) this.#wake.ring();
    };
    const policyOf = () => this.#policyOf(spec.pubsubName);
    if (!policyOf()) return this.#offer(event, settle);
    deliverUnderPolicy(policyOf, (signal) => this.#answer(event, signal), this.#ended.signal).then(
      settle,
      (error: Error) => {
        // A stream that has ended gives back what it holds.
        if (!this.#ended.signal.aborted) settle("retry", error.message);
      },
    );
  }

  #offer(event: TopicEventRequest, take: Take): void {
    const same = this.#inHand.get(event.id);
    if (same) same.push(take);
    else this.#inHand.set(event.id, [take]);
    this.#say({ case: "eventMessage", value: event });
  }

  /** Offers an event, and resolves to the answer unless it is to be tried again. What comes after `signal` is no answer. */
  #answer(event: TopicEventRequest, signal: AbortSignal): Promise<TopicEventOutcome> {
    return new Promise((resolve, reject) => {
      const forget = () => {
        this.#forget(event.id, take);
        reject(signal.reason);
      };
      const take: Take = (outcome) => {
        signal.removeEventListener("abort", forget);
        if (outcome === "retry") reject(new DeliveryFailed("the application answered RETRY"));
        else resolve(outcome);
      };
      signal.addEventListener("abort", forget, { once: true });
      this.#offer(event, take);
    });
  }

  #processed(id: string, status: Status): void {
    const same = this.#inHand.get(id);
    const oldest = same?.shift();
    if (!oldest) return;
    if (same!.length === 0) this.#inHand.delete(id);
    oldest(outcomes[status] ?? "retry");
  }

  /** Nobody waits for that answer any more. */
  #forget(id: string, take: Take): void {
    const others = this.#inHand.get(id)?.filter((each) => each !== take) ?? [];
    if (others.length > 0) this.#inHand.set(id, others);
    else this.#inHand.delete(id);
  }

  #say(message: Response): void {
    this.#messages.push(message);
    this.#wake.ring();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#ended.abort();
    this.#subscription?.stopTaking();
    this.#wake.ring();
  }
}

/** Dapr's refusals on streams have neither a code nor details. */
function refusal(message: string): ConnectError {
  return new ConnectError(message, Code.Unknown);
}

function openFailure(error: unknown, { pubsubName, topic }: TopicSubscriptionSpec): unknown {
  if (error instanceof DaprError) return refusal(error.rawMessage);
  if (reasonOf(error) === "TOPIC_FORBIDDEN")
    return refusal(`subscription to topic '${topic}' on pubsub '${pubsubName}' is not allowed`);
  return error;
}
