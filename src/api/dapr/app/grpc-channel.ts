/** An application that listens for gRPC: Dapr's AppCallback services. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  AppCallback,
  AppCallbackAlpha,
  AppCallbackHealthCheck,
  TopicEventResponse_TopicEventResponseStatus as Status,
  type TopicEventBulkRequest,
  TopicEventBulkRequestSchema,
  type TopicEventBulkResponse,
} from "../../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import type { Received } from "../../../blocks/pubsub/driver.ts";
import type { Log } from "../../../telemetry/log.ts";
import { cloudEventType } from "../cloud-event.ts";
import { topicEventOf } from "../topic-event.ts";
import { encodeTopicEvent } from "../topic-event-codec.ts";
import type { TopicEventOutcome, TopicSubscriptionSpec } from "../topic-subscription.ts";
import type { Answer, AppChannel, AppOptions, BulkDelivery, Delivery } from "./channel.ts";
import { subscriptionOfMessage } from "./discovery.ts";
import { GrpcClient, GrpcStatus } from "./grpc-client.ts";
import { binaryTrace, brokerHeadersOf, eventTraceOf } from "./headers.ts";

const bulkEventType = "com.dapr.event.sent.bulk";
const outcomes: Readonly<Record<number, TopicEventOutcome>> = {
  [Status.SUCCESS]: "success",
  [Status.RETRY]: "retry",
  [Status.DROP]: "drop",
};
/** See the head of this file. */
export class GrpcAppChannel implements AppChannel {
  readonly #client: GrpcClient;
  readonly #token: string;
  readonly #log: Log;

  constructor({ channelAddress, port, protocol, token }: AppOptions, maxMessageBytes: number, log: Log) {
    this.#client = new GrpcClient({
      host: channelAddress,
      port,
      tls: protocol === "grpcs",
      maxAnswerBytes: maxMessageBytes,
    });
    this.#token = token;
    this.#log = log;
  }

  /** A gRPC application has no configuration that concerns what there is. */
  loadConfig(): Promise<void> {
    return Promise.resolve();
  }

  async listSubscriptions(signal: AbortSignal): Promise<readonly TopicSubscriptionSpec[]> {
    try {
      const method = AppCallback.method.listTopicSubscriptions;
      const { subscriptions } = await this.#client.call(
        method,
        create(EmptySchema),
        this.#metadata(),
        signal,
      );
      return subscriptions.map(subscriptionOfMessage);
    } catch (err) {
      if (!(err instanceof GrpcStatus)) throw err;
      this.#log.debug({ err }, "the application lists no subscriptions");
      return [];
    }
  }

  async deliver({ spec, path, received }: Delivery, signal: AbortSignal): Promise<Answer> {
    const { pubsubName } = spec;
    const event = topicEventOf(received, { pubsubName, path, raw: spec.raw });
    const metadata = this.#metadata(brokerHeadersOf(received));
    const { traceparent, tracestate, baggage } = eventTraceOf(received, spec);
    metadata["traceparent"] = traceparent;
    if (tracestate !== "") metadata["tracestate"] = tracestate;
    if (baggage !== "") metadata["baggage"] = baggage;
    const binary = binaryTrace(traceparent);
    if (binary) metadata["grpc-trace-bin"] = binary.toString("base64").replace(/=+$/, "");
    try {
      const bytes = encodeTopicEvent(event);
      const { status } = await this.#client.call(AppCallback.method.onTopicEvent, bytes, metadata, signal);
      return { outcome: outcomes[status] ?? "retry", detail: "" };
    } catch (error) {
      if (!(error instanceof GrpcStatus)) throw error;
      return answerOf(error);
    }
  }

  async deliverBulk(delivery: BulkDelivery, signal: AbortSignal): Promise<ReadonlyMap<string, Answer>> {
    const { entries } = delivery;
    const all = (answer: Answer) => new Map([...entries.keys()].map((id) => [id, answer]));
    try {
      const { statuses } = await this.#callBulk(bulkRequestOf(delivery), signal);
      return new Map(
        statuses.map(({ entryId, status }) => [
          entryId,
          { outcome: outcomes[status] ?? "retry", detail: "" },
        ]),
      );
    } catch (error) {
      if (!(error instanceof GrpcStatus)) throw error;
      return all(answerOf(error));
    }
  }

  async healthy(signal: AbortSignal): Promise<boolean> {
    try {
      const method = AppCallbackHealthCheck.method.healthCheck;
      await this.#client.call(method, create(EmptySchema), this.#metadata(), signal);
      return true;
    } catch {
      return false;
    }
  }

  close(): void {
    this.#client.close();
  }

  /** Applications of older SDKs have the older method. */
  async #callBulk(request: TopicEventBulkRequest, signal: AbortSignal): Promise<TopicEventBulkResponse> {
    try {
      return await this.#client.call(AppCallback.method.onBulkTopicEvent, request, this.#metadata(), signal);
    } catch (error) {
      if (!(error instanceof GrpcStatus) || error.code !== Code.Unimplemented) throw error;
      const older = AppCallbackAlpha.method.onBulkTopicEventAlpha1;
      return await this.#client.call(older, request, this.#metadata(), signal);
    }
  }

  #metadata(headers: Readonly<Record<string, string>> = {}): Record<string, string> {
    const metadata: Record<string, string> = {};
    for (const [name, value] of Object.entries(headers))
      if (!name.endsWith("-bin") && /^[0-9a-z_.-]+$/.test(name)) metadata[name] = value;
    if (this.#token !== "") metadata["dapr-api-token"] = this.#token;
    return metadata;
  }
}

function answerOf({ code, summary: detail }: GrpcStatus): Answer {
  // An application without the method will not have it later: there is nothing to gain from keeping the event.
  return { outcome: code === Code.Unimplemented ? "success" : "retry", detail, code };
}

function bulkRequestOf({ spec, path, entries }: BulkDelivery): TopicEventBulkRequest {
  const { topic, pubsubName } = spec;
  return create(TopicEventBulkRequestSchema, {
    id: randomUUID(),
    entries: [...entries].map(([entryId, received]) => entryOf(entryId, received, spec)),
    metadata: { pubsubName },
    topic,
    pubsubName,
    type: bulkEventType,
    path,
  });
}

function entryOf(entryId: string, received: Received, spec: TopicSubscriptionSpec) {
  const metadata = brokerHeadersOf(received);
  if (spec.raw) {
    const event = { case: "bytes", value: received.event.data } as const;
    return { entryId, event, contentType: "application/octet-stream", metadata };
  }
  const whole = topicEventOf(received, { pubsubName: spec.pubsubName, path: "", raw: false });
  const { id, source, type, specVersion, dataContentType, data, extensions } = whole;
  const value = {
    $typeName: "dapr.proto.runtime.v1.TopicEventCERequest" as const,
    ...{ id, source, type, specVersion, dataContentType, data },
    ...(extensions && { extensions }),
  };
  return { entryId, event: { case: "cloudEvent", value } as const, contentType: cloudEventType, metadata };
}
