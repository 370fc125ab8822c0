/** A stream of `SubscribeTopicEventsAlpha1` as an application has it, for tests. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect } from "vitest";
import type { TopicEventResponse_TopicEventResponseStatus as Status } from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import {
  SubscribeTopicEventsRequestAlpha1Schema,
  type SubscribeTopicEventsResponseAlpha1,
} from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import type { Daprd } from "./daprd.ts";

type Sent = MessageInitShape<typeof SubscribeTopicEventsRequestAlpha1Schema>;

/** See the head of this file. */
export class TopicStream {
  readonly #answers: AsyncIterator<SubscribeTopicEventsResponseAlpha1>;
  readonly #abort = new AbortController();
  readonly #sent: Sent[] = [];
  #ended = false;
  #wake: () => void = () => {};

  private constructor(daprd: Pick<Daprd, "grpc">) {
    const signal = this.#abort.signal;
    const answers = daprd.grpc.subscribeTopicEventsAlpha1(this.#requests(), { signal });
    this.#answers = answers[Symbol.asyncIterator]();
  }

  /** Resolves when the subscription is live. */
  static async open(daprd: Pick<Daprd, "grpc">, topic: string, pubsubName = "mypub"): Promise<TopicStream> {
    const stream = new TopicStream(daprd);
    const value = { pubsubName, topic };
    stream.#send({ subscribeTopicEventsRequestType: { case: "initialRequest", value } });
    const first = await stream.#next();
    expect(first.case).toBe("initialResponse");
    return stream;
  }

  async event() {
    const { case: kind, value } = await this.#next();
    if (kind !== "eventMessage") throw new Error(`not an event: ${kind}`);
    return value;
  }

  settle(id: string, status: Status): void {
    const value = { id, status: { status } };
    this.#send({ subscribeTopicEventsRequestType: { case: "eventProcessed", value } });
  }

  halfClose(): void {
    this.#ended = true;
    this.#wake();
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
  }

  #send(sent: Sent): void {
    this.#sent.push(sent);
    this.#wake();
  }

  async #next() {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error("the stream has ended");
    return value.subscribeTopicEventsResponseType;
  }

  async *#requests() {
    while (!this.#ended || this.#sent.length > 0) {
      const next = this.#sent.shift();
      if (next) yield create(SubscribeTopicEventsRequestAlpha1Schema, next);
      else
        await new Promise<void>((wake) => {
          this.#wake = wake;
        });
    }
  }
}
