/** Sends spans to a collector over gRPC, with the gRPC library that is there anyway. */
import * as grpc from "@grpc/grpc-js";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import type { SpanExporter } from "@opentelemetry/sdk-trace";
import type { OtlpGrpcOptions } from "./tracing-options.ts";

const exportPath = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/** OTLP over gRPC. A collector that is away is waited for, up to the timeout of a batch. */
export class OtlpGrpcExporter implements SpanExporter {
  readonly #client: grpc.Client;
  readonly #metadata: grpc.Metadata;
  readonly #timeoutMs: number;

  constructor(options: OtlpGrpcOptions) {
    const credentials = options.secure ? grpc.credentials.createSsl() : grpc.credentials.createInsecure();
    this.#client = new grpc.Client(options.address, credentials);
    this.#metadata = new grpc.Metadata({ waitForReady: true });
    for (const [name, value] of Object.entries(options.headers)) this.#metadata.set(name, value);
    this.#timeoutMs = options.timeoutMs;
  }

  export(...[spans, done]: Parameters<SpanExporter["export"]>): void {
    const body = ProtobufTraceSerializer.serializeRequest(spans);
    if (body === undefined) {
      done({ code: 1, error: new Error("spans could not be serialized") });
      return;
    }
    this.#client.makeUnaryRequest(
      exportPath,
      (message: Uint8Array) => Buffer.from(message.buffer, message.byteOffset, message.byteLength),
      (bytes: Buffer) => bytes,
      body,
      this.#metadata,
      { deadline: Date.now() + this.#timeoutMs },
      (error) => done(error ? { code: 1, error } : { code: 0 }),
    );
  }

  async shutdown(): Promise<void> {
    this.#client.close();
  }
}
