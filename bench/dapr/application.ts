/** Applications that listen, as Dapr knows them: they count the events that they are called with. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { fromBinary } from "@bufbuild/protobuf";
import {
  ListTopicSubscriptionsResponseSchema,
  TopicEventBulkRequestSchema,
  TopicEventBulkResponseSchema,
} from "../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import type { Receiver } from "../client/receiver.ts";
import { bytesOf } from "../messages.ts";
import { daprPaths } from "./messages.ts";

/** What an application subscribes to. */
export interface ApplicationSettings {
  readonly protocol: "grpc" | "http";
  readonly pubsubName: string;
  readonly topic: string;
  /** Events in a call at most; 1: it is called with each by itself. */
  readonly batch: number;
}

/** How long the first event of a call waits for others, in milliseconds. */
const maxAwaitDurationMs = 5;
const emptyMessage = Buffer.alloc(5);

/** See the head of this file. */
export class Application implements Receiver {
  received = 0;
  onReceived: () => void = () => {};
  onEnd: () => void = () => {};
  readonly protocol: "grpc" | "http";
  readonly #settings: ApplicationSettings;
  readonly #server: Server;

  private constructor(settings: ApplicationSettings) {
    this.#settings = settings;
    this.protocol = settings.protocol;
    if (settings.protocol === "http") {
      this.#server = createServer((request, response) => this.#overHttp(request, response));
    } else {
      const server = http2.createServer();
      server.on("stream", (stream: http2.ServerHttp2Stream, headers) =>
        this.#overGrpc(stream, String(headers[":path"])),
      );
      this.#server = server;
    }
  }

  /** Listens on a free port. */
  static async listen(settings: ApplicationSettings): Promise<Application> {
    const application = new Application(settings);
    await once(application.#server.listen(0, "127.0.0.1"), "listening");
    return application;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }

  #take(events: number): void {
    this.received += events;
    this.onReceived();
  }

  #overGrpc(stream: http2.ServerHttp2Stream, path: string): void {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", () => {});
    stream.on("end", () => {
      const answer = this.#grpcAnswer(path, chunks);
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": answer ? "0" : "12" }));
      stream.end(answer);
    });
  }

  #grpcAnswer(path: string, chunks: readonly Buffer[]): Buffer | undefined {
    switch (path) {
      case daprPaths.onEvent:
        this.#take(1);
        return emptyMessage;
      case daprPaths.onBulkEvent: {
        const { entries } = fromBinary(TopicEventBulkRequestSchema, Buffer.concat(chunks).subarray(5));
        this.#take(entries.length);
        return framed(
          bytesOf(TopicEventBulkResponseSchema, { statuses: entries.map(({ entryId }) => ({ entryId })) }),
        );
      }
      case daprPaths.listSubscriptions: {
        const { pubsubName, topic, batch } = this.#settings;
        const bulkSubscribe = { enabled: batch > 1, maxMessagesCount: batch, maxAwaitDurationMs };
        return framed(
          bytesOf(ListTopicSubscriptionsResponseSchema, {
            subscriptions: [{ pubsubName, topic, bulkSubscribe }],
          }),
        );
      }
      default:
        return undefined;
    }
  }

  #overHttp(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.from(this.#httpAnswer(request.url ?? "", chunks));
      response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
      response.end(body);
    });
  }

  #httpAnswer(path: string, chunks: readonly Buffer[]): string {
    const { pubsubName, topic, batch } = this.#settings;
    if (path === "/dapr/subscribe") {
      const bulkSubscribe = { enabled: batch > 1, maxMessagesCount: batch, maxAwaitDurationMs };
      return JSON.stringify([{ pubsubname: pubsubName, topic, route: "/event", bulkSubscribe }]);
    }
    if (path !== "/event") return "{}";
    if (batch === 1) {
      this.#take(1);
      return '{"status":"SUCCESS"}';
    }
    const { entries } = JSON.parse(String(Buffer.concat(chunks))) as { entries: { entryId: string }[] };
    this.#take(entries.length);
    return JSON.stringify({ statuses: entries.map(({ entryId }) => ({ entryId, status: "SUCCESS" })) });
  }
}

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}
