/** A collector of traces that runs inside a test: OTLP over HTTP and gRPC, and Zipkin. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import * as grpc from "@grpc/grpc-js";

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  readonly kind: number;
  readonly attributes: Record<string, unknown>;
  readonly status: { code: number; message: string };
  readonly resource: Record<string, unknown>;
}

export interface Collector {
  readonly port: number;
  readonly requests: {
    readonly path: string;
    readonly headers: IncomingHttpHeaders;
    readonly body: Buffer;
  }[];
  spans(): CollectedSpan[];
  close(): Promise<void>;
}

/** Takes whatever is posted. `answer` decides what is said; default 200. */
export async function httpCollector(answer?: (response: ServerResponse) => void): Promise<Collector> {
  const requests: Collector["requests"] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    requests.push({ path: request.url ?? "", headers: request.headers, body });
    if (answer) answer(response);
    else response.writeHead(200, { "content-type": "application/x-protobuf" }).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    spans: () => requests.flatMap(({ body }) => spansOf(body)),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** A TraceService that takes everything. */
export async function grpcCollector(): Promise<Collector> {
  const requests: Collector["requests"] = [];
  const path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
  const bytes = (value: Buffer) => value;
  const server = new grpc.Server();
  server.addService(
    {
      export: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: bytes,
        requestDeserialize: bytes,
        responseSerialize: bytes,
        responseDeserialize: bytes,
      },
    },
    {
      export: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
        const headers = Object.fromEntries(
          Object.entries(call.metadata.getMap()).map(([name, value]) => [name, String(value)]),
        );
        requests.push({ path, headers, body: call.request });
        done(null, Buffer.alloc(0));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return {
    port,
    requests,
    spans: () => requests.flatMap(({ body }) => spansOf(body)),
    close: async () => server.forceShutdown(),
  };
}

/** The spans of an ExportTraceServiceRequest, of which only the fields that we look at are read. */
function spansOf(body: Uint8Array): CollectedSpan[] {
  return all(body, 1).flatMap((resourceSpans) => {
    const resource = attributes(all(one(resourceSpans, 1), 1));
    return all(resourceSpans, 2).flatMap((scopeSpans) =>
      all(scopeSpans, 2).map((span) => spanOf(span, resource)),
    );
  });
}

function spanOf(span: Uint8Array, resource: Record<string, unknown>): CollectedSpan {
  const status = one(span, 15);
  return {
    traceId: Buffer.from(one(span, 1)).toString("hex"),
    spanId: Buffer.from(one(span, 2)).toString("hex"),
    parentSpanId: Buffer.from(one(span, 4)).toString("hex"),
    traceState: text(one(span, 3)),
    name: text(one(span, 5)),
    kind: number(span, 6),
    attributes: attributes(all(span, 9)),
    status: { code: number(status, 3), message: text(one(status, 2)) },
    resource,
  };
}

function attributes(keyValues: readonly Uint8Array[]): Record<string, unknown> {
  return Object.fromEntries(
    keyValues.map((keyValue) => [text(one(keyValue, 1)), anyValue(one(keyValue, 2))]),
  );
}

function anyValue(bytes: Uint8Array): unknown {
  const reader = new BinaryReader(bytes);
  const [field] = reader.tag();
  if (field === 1) return reader.string();
  if (field === 2) return reader.bool();
  if (field === 3) return Number(reader.int64());
  if (field === 4) return reader.double();
  throw new Error(`AnyValue with field ${field}`);
}

function all(message: Uint8Array, wanted: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === wanted && type === WireType.LengthDelimited) found.push(reader.bytes());
    else reader.skip(type, field);
  }
  return found;
}

function one(message: Uint8Array, wanted: number): Uint8Array {
  return all(message, wanted).at(-1) ?? new Uint8Array();
}

function number(message: Uint8Array, wanted: number): number {
  const reader = new BinaryReader(message);
  let found = 0;
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === wanted && type === WireType.Varint) found = reader.uint32();
    else reader.skip(type, field);
  }
  return found;
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
