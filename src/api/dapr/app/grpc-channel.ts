/** An application that listens for gRPC: Dapr's AppCallback services. */
import { randomUUID } from "node:crypto";
import { isIP } from "node:net";
import { create, type DescMethodUnary, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
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
import { isRaw, type TopicEventOutcome, type TopicSubscriptionSpec } from "../topic-subscription.ts";
import {
  type Answer,
  type AppChannel,
  type AppOptions,
  AppUnreachable,
  type BulkDelivery,
  type Delivery,
} from "./channel.ts";
import { subscriptionOfMessage } from "./discovery.ts";
import { binaryTrace, brokerHeadersOf, eventTraceOf } from "./headers.ts";

const bulkEventType = "com.dapr.event.sent.bulk";
const outcomes: Readonly<Record<number, TopicEventOutcome>> = {
  [Status.SUCCESS]: "success",
  [Status.RETRY]: "retry",
  [Status.DROP]: "drop",
};
/** What the library says when the application itself said nothing. */
const unseen = /^No connection established|ECONNREFUSED|ENOTFOUND|Name resolution failed/;
const broken =
  /^(Connection dropped|read ECONNRESET|write EPIPE|Received RST_STREAM|GOAWAY|.*socket hang up)/;
const reconnectMs = { first: 50, last: 1000 } as const;

/** See the head of this file. */
export class GrpcAppChannel implements AppChannel {
  readonly #client: grpc.Client;
  readonly #token: string;
  readonly #log: Log;

  constructor({ channelAddress, port, protocol, token }: AppOptions, maxMessageBytes: number, log: Log) {
    const host = channelAddress.includes(":") ? `[${channelAddress}]` : channelAddress;
    // Applications beside a sidecar have certificates that nobody signed; Dapr does not check them either.
    const credentials =
      protocol === "grpcs"
        ? grpc.credentials.createSsl(null, null, null, { rejectUnauthorized: false })
        : grpc.credentials.createInsecure();
    this.#client = new grpc.Client(`${host}:${port}`, credentials, {
      // TLS has no server names that are addresses, and whose certificate it is does not matter.
      ...(isIP(channelAddress) > 0 && { "grpc.ssl_target_name_override": "localhost" }),
      "grpc.enable_http_proxy": 0,
      "grpc.enable_retries": 0,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.service_config_disable_resolution": 1,
      "grpc.initial_reconnect_backoff_ms": reconnectMs.first,
      "grpc.min_reconnect_backoff_ms": reconnectMs.first,
      "grpc.max_reconnect_backoff_ms": reconnectMs.last,
      "grpc.max_receive_message_length": maxMessageBytes,
      "grpc.max_send_message_length": -1,
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
      const { subscriptions } = await this.#call(method, create(EmptySchema), this.#metadata(), signal);
      return subscriptions.map(subscriptionOfMessage);
    } catch (err) {
      if (!isStatus(err)) throw err;
      this.#log.debug({ err }, "the application lists no subscriptions");
      return [];
    }
  }

  async deliver({ spec, path, received }: Delivery, signal: AbortSignal): Promise<Answer> {
    const { pubsubName } = spec;
    const event = topicEventOf(received, { pubsubName, path, raw: isRaw(spec) });
    const metadata = this.#metadata(brokerHeadersOf(received));
    const { traceparent, tracestate, baggage } = eventTraceOf(received, spec);
    metadata.set("traceparent", traceparent);
    if (tracestate !== "") metadata.set("tracestate", tracestate);
    if (baggage !== "") metadata.set("baggage", baggage);
    const binary = binaryTrace(traceparent);
    if (binary) metadata.set("grpc-trace-bin", binary);
    try {
      const { status } = await this.#call(AppCallback.method.onTopicEvent, event, metadata, signal);
      return { outcome: outcomes[status] ?? "retry", detail: "" };
    } catch (error) {
      if (!isStatus(error)) throw error;
      const detail = `the application answered ${grpc.status[error.code]}: ${error.details}`;
      // An application without the method will not have it later: there is nothing to gain from keeping the event.
      return { outcome: error.code === grpc.status.UNIMPLEMENTED ? "success" : "retry", detail };
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
      if (!isStatus(error)) throw error;
      const detail = `the application answered ${grpc.status[error.code]}: ${error.details}`;
      return all({ outcome: error.code === grpc.status.UNIMPLEMENTED ? "success" : "retry", detail });
    }
  }

  async healthy(signal: AbortSignal): Promise<boolean> {
    try {
      const method = AppCallbackHealthCheck.method.healthCheck;
      await this.#call(method, create(EmptySchema), this.#metadata(), signal);
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
      return await this.#call(AppCallback.method.onBulkTopicEvent, request, this.#metadata(), signal);
    } catch (error) {
      if (!isStatus(error) || error.code !== grpc.status.UNIMPLEMENTED) throw error;
      const older = AppCallbackAlpha.method.onBulkTopicEventAlpha1;
      return await this.#call(older, request, this.#metadata(), signal);
    }
  }

  #metadata(headers: Readonly<Record<string, string>> = {}): grpc.Metadata {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(headers))
      if (!name.endsWith("-bin") && /^[0-9a-z_.-]+$/.test(name)) metadata.set(name, value);
    if (this.#token !== "") metadata.set("dapr-api-token", this.#token);
    return metadata;
  }

  #call<Method extends DescMethodUnary>(
    method: Method,
    message: MessageShape<Method["input"]>,
    metadata: grpc.Metadata,
    signal: AbortSignal,
  ): Promise<MessageShape<Method["output"]>> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const call = this.#client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (sent: MessageShape<Method["input"]>) => Buffer.from(toBinary<Method["input"]>(method.input, sent)),
        (bytes: Buffer): MessageShape<Method["output"]> => fromBinary<Method["output"]>(method.output, bytes),
        message,
        metadata,
        (error, answer) => {
          signal.removeEventListener("abort", cancel);
          if (!error) resolve(answer!);
          else reject(signal.aborted ? signal.reason : failureOf(error));
        },
      );
      const cancel = () => call.cancel();
      signal.addEventListener("abort", cancel, { once: true });
    });
  }
}

/** A status that the application gave, or the broken connection that the library says there is. */
function failureOf(error: grpc.ServiceError): Error {
  const lost = error.code === grpc.status.UNAVAILABLE || error.code === grpc.status.INTERNAL;
  if (error.code === grpc.status.UNAVAILABLE && unseen.test(error.details))
    return new AppUnreachable(true, error);
  return lost && broken.test(error.details) ? new AppUnreachable(false, error) : error;
}

function isStatus(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "details" in error;
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
  if (isRaw(spec)) {
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
