/** An application that listens for gRPC, for tests: it remembers what it was asked. */
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { expect } from "vitest";
import {
  AppCallback,
  AppCallbackAlpha,
  AppCallbackHealthCheck,
  type TopicEventBulkRequest,
  type TopicEventBulkResponseSchema,
  type TopicEventRequest,
  type TopicEventResponseSchema,
  type TopicSubscriptionSchema,
} from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";

/** A call of OnTopicEvent. */
export interface TopicEventCall {
  readonly event: TopicEventRequest;
  readonly metadata: grpc.Metadata;
}

/** What can be said about an application. */
export interface GrpcAppOptions {
  /** What ListTopicSubscriptions answers. */
  readonly subscriptions?: readonly MessageInitShape<typeof TopicSubscriptionSchema>[];
  /** Answers OnTopicEvent; what it throws becomes a status. */
  readonly onTopicEvent?: (
    event: TopicEventRequest,
  ) =>
    | MessageInitShape<typeof TopicEventResponseSchema>
    | Promise<MessageInitShape<typeof TopicEventResponseSchema>>;
  /** Answers OnBulkTopicEvent; by default each entry is a success. */
  readonly onBulkTopicEvent?: (
    request: TopicEventBulkRequest,
  ) => MessageInitShape<typeof TopicEventBulkResponseSchema>;
  /** False: only the older method for bulk deliveries. */
  readonly stableBulk?: boolean;
  readonly port?: number;
  /** Served with TLS: a certificate and its key, in PEM. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer };
}

/** A running application. */
export class GrpcApp {
  readonly events: TopicEventCall[] = [];
  readonly bulks: TopicEventBulkRequest[] = [];
  healthy = true;
  readonly #server = new grpc.Server();
  port = 0;

  private constructor(options: GrpcAppOptions) {
    const bulk = (request: TopicEventBulkRequest) => {
      this.bulks.push(request);
      const all = { statuses: request.entries.map(({ entryId }) => ({ entryId })) };
      return options.onBulkTopicEvent?.(request) ?? all;
    };
    const callback: grpc.UntypedServiceImplementation = {
      ListTopicSubscriptions: unary(AppCallback.method.listTopicSubscriptions, () => ({
        subscriptions: [...(options.subscriptions ?? [])],
      })),
      OnTopicEvent: unary(AppCallback.method.onTopicEvent, (event, metadata) => {
        this.events.push({ event, metadata });
        return options.onTopicEvent?.(event) ?? {};
      }),
    };
    const definitions = [AppCallback.method.listTopicSubscriptions, AppCallback.method.onTopicEvent];
    if (options.stableBulk ?? true) {
      definitions.push(AppCallback.method.onBulkTopicEvent as never);
      callback["OnBulkTopicEvent"] = unary(AppCallback.method.onBulkTopicEvent, bulk);
    }
    this.#server.addService(definitionOf(definitions), callback);
    this.#server.addService(definitionOf([AppCallbackAlpha.method.onBulkTopicEventAlpha1]), {
      OnBulkTopicEventAlpha1: unary(AppCallbackAlpha.method.onBulkTopicEventAlpha1, bulk),
    });
    this.#server.addService(definitionOf([AppCallbackHealthCheck.method.healthCheck]), {
      HealthCheck: unary(AppCallbackHealthCheck.method.healthCheck, () => {
        if (!this.healthy) throw new Error("not well");
        return {};
      }),
    });
  }

  static async start(options: GrpcAppOptions = {}): Promise<GrpcApp> {
    const app = new GrpcApp(options);
    const credentials = options.tls
      ? grpc.ServerCredentials.createSsl(null, [
          { cert_chain: options.tls.cert, private_key: options.tls.key },
        ])
      : grpc.ServerCredentials.createInsecure();
    app.port = await new Promise<number>((resolve, reject) =>
      app.#server.bindAsync(`127.0.0.1:${options.port ?? 0}`, credentials, (error, port) =>
        error ? reject(error) : resolve(port),
      ),
    );
    return app;
  }

  /** Events of a topic. */
  of(topic: string): readonly TopicEventCall[] {
    return this.events.filter(({ event }) => event.topic === topic);
  }

  /** The event of that number, of a topic, once it has come. */
  async delivered(topic: string, index = 0): Promise<TopicEventCall> {
    await expect.poll(() => this.of(topic).length, { timeout: 5000, interval: 5 }).toBeGreaterThan(index);
    return this.of(topic)[index]!;
  }

  /** Ends when what is under way has been answered. */
  end(): Promise<void> {
    return new Promise((resolve) => this.#server.tryShutdown(() => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }
}

function unary<Method extends DescMethodUnary>(
  _method: Method,
  answer: (
    request: MessageShape<Method["input"]>,
    metadata: grpc.Metadata,
  ) => MessageInitShape<Method["output"]> | Promise<MessageInitShape<Method["output"]>>,
): grpc.handleUnaryCall<MessageShape<Method["input"]>, MessageInitShape<Method["output"]>> {
  return (call, done) => {
    Promise.resolve()
      .then(() => answer(call.request, call.metadata))
      .then(
        (value) => done(null, value),
        (error: unknown) =>
          done(isStatus(error) ? error : { code: grpc.status.UNKNOWN, details: String(error) }),
      );
  };
}

function isStatus(error: unknown): error is { code: grpc.status; details: string } {
  return typeof error === "object" && error !== null && "code" in error && "details" in error;
}

function definitionOf(methods: readonly DescMethodUnary[]): grpc.ServiceDefinition {
  return Object.fromEntries(
    methods.map((method) => [
      method.name,
      {
        path: `/${method.parent.typeName}/${method.name}`,
        requestStream: false,
        responseStream: false,
        requestSerialize: (value: Message) => Buffer.from(toBinary(method.input, value)),
        requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
        responseSerialize: (value: object) =>
          Buffer.from(toBinary(method.output, create(method.output, value as MessageInitShape<DescMessage>))),
        responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
      },
    ]),
  );
}
