/** Calls made of HTTP/2 frames, for what no decent client sends. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type OutgoingHttpHeaders,
  type SecureClientSessionOptions,
} from "node:http2";

/** How a call ended. */
export interface Ending {
  /** Headers and trailers. */
  readonly headers: Record<string, unknown>;
  /** The code that the stream was reset with; 0 when it ended well. */
  readonly reset: number;
  readonly body: Buffer;
}

const getPath = "/outrider.state.v1.StateService/Get";
export const watchPath = "/outrider.state.v1.StateService/Watch";

/** A message as gRPC frames it. */
export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** Connects, and waits for the server's settings. */
export async function connected(
  port: number,
  options: SecureClientSessionOptions = {},
): Promise<ClientHttp2Session> {
  const session = connect(`http://127.0.0.1:${port}`, options);
  session.on("error", () => {});
  await new Promise((resolve) => session.once("remoteSettings", resolve));
  return session;
}

/** Opens a gRPC call; the body is up to the caller. */
export function open(session: ClientHttp2Session, headers: OutgoingHttpHeaders = {}): ClientHttp2Stream {
  return session.request({
    ":method": "POST",
    ":path": getPath,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
}

/** Waits for the end of a call. */
export function ending(stream: ClientHttp2Stream): Promise<Ending> {
  const headers: Record<string, unknown> = {};
  const body: Buffer[] = [];
  stream.on("response", (got) => Object.assign(headers, got));
  stream.on("trailers", (got) => Object.assign(headers, got));
  stream.on("data", (chunk: Buffer) => body.push(chunk));
  stream.on("error", () => {});
  return new Promise((resolve) => {
    stream.once("close", () => resolve({ headers, reset: stream.rstCode ?? 0, body: Buffer.concat(body) }));
  });
}

/** One call from its headers to its end, on a connection of its own. */
export async function rawCall(
  port: number,
  headers: OutgoingHttpHeaders,
  body: Uint8Array = framed(new Uint8Array()),
  options: SecureClientSessionOptions = {},
): Promise<Ending> {
  const session = await connected(port, options);
  try {
    const stream = open(session, headers);
    stream.end(body);
    return await ending(stream);
  } finally {
    session.destroy();
  }
}
