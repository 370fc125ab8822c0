/**
 * Unary gRPC calls to one application, straight on HTTP/2. A library costs several times as much for
 * each call, and events are delivered one by one.
 */
import type { DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Http2Connection } from "./http2/connection.ts";
import type { Http2Answer } from "./http2/exchange.ts";
import type { Http2Options } from "./http2/session.ts";

/** A status other than OK that the application has answered. */
export class GrpcStatus extends Error {
  override readonly name = "GrpcStatus";
  readonly code: Code;

  constructor(code: Code, message: string) {
    super(message);
    this.code = code;
  }

  /** For the log. */
  get summary(): string {
    return `the application answered ${Code[this.code] ?? this.code}: ${this.message}`;
  }
}

/** Before each message: whether it is compressed, and its length. */
const prefixBytes = 5;
const codesOfHttp: Readonly<Record<number, Code>> = {
  400: Code.Internal,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.Unimplemented,
  429: Code.Unavailable,
  502: Code.Unavailable,
  503: Code.Unavailable,
  504: Code.Unavailable,
};

const common: Readonly<Record<string, string>> = {
  "content-type": "application/grpc",
  te: "trailers",
  "user-agent": "outrider",
};

/** See the head of this file. */
export class GrpcClient {
  readonly #connection: Http2Connection;
  /** What the headers of all calls of a method have in common. */
  readonly #heads = new Map<DescMethodUnary, Buffer>();

  constructor(options: Http2Options) {
    this.#connection = new Http2Connection(options);
  }

  /** `message` may be its bytes already. Throws GrpcStatus, AppUnreachable, and the signal's reason when that aborts. */
  async call<Method extends DescMethodUnary>(
    method: Method,
    message: MessageShape<Method["input"]> | Uint8Array,
    metadata: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<MessageShape<Method["output"]>> {
    const sent = message instanceof Uint8Array ? message : toBinary(method.input, message);
    const request = { head: this.#head(method), headers: metadata, body: framed(sent) };
    const bytes = messageOf(await this.#connection.request(request, signal));
    try {
      return fromBinary<Method["output"]>(method.output, bytes);
    } catch (error) {
      throw new GrpcStatus(Code.Internal, `the answer is no ${method.output.typeName}: ${String(error)}`);
    }
  }

  close(): void {
    this.#connection.close();
  }

  #head(method: DescMethodUnary): Buffer {
    let head = this.#heads.get(method);
    if (!head) {
      head = this.#connection.head("POST", `/${method.parent.typeName}/${method.name}`, common);
      this.#heads.set(method, head);
    }
    return head;
  }
}

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(prefixBytes + message.byteLength);
  frame[0] = 0;
  frame.writeUInt32BE(message.byteLength, 1);
  frame.set(message, prefixBytes);
  return frame;
}

/** The only message of an answer that is OK. Throws GrpcStatus. */
function messageOf({ headers, trailers, body }: Http2Answer): Buffer {
  const status = Number(headers[":status"] ?? 0);
  // An answer without a message has its status among the headers.
  const code = trailers["grpc-status"] ?? headers["grpc-status"];
  if (code === undefined) {
    const known = status === 200 ? Code.Internal : (codesOfHttp[status] ?? Code.Unknown);
    throw new GrpcStatus(known, `no gRPC status; the HTTP status is ${status}`);
  }
  if (code !== "0") {
    const text = trailers["grpc-message"] ?? headers["grpc-message"] ?? "";
    throw new GrpcStatus((Number(code) || Code.Unknown) as Code, decoded(text));
  }
  if (body === undefined) throw new GrpcStatus(Code.ResourceExhausted, "the answer is too long");
  const length = body.byteLength < prefixBytes ? -1 : body.readUInt32BE(1);
  if (body[0] !== 0 || length !== body.byteLength - prefixBytes)
    throw new GrpcStatus(Code.Internal, "the answer is not one message without compression");
  return body.subarray(prefixBytes);
}

function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
