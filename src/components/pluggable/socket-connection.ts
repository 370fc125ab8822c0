/** One HTTP/2 connection to a socket, from its beginning to its end: who needs another makes another. */
import * as http2 from "node:http2";
import { connect } from "node:net";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, type GrpcTransportOptions } from "@connectrpc/connect-node";

/** Whoever connects by HTTP has to name a host; there is none. */
const authority = "http://localhost";
/** The longest answer that is taken, in bytes: some values of the largest size. */
const maxAnswerBytes = 64 * 1024 * 1024;
/** What all answers together may have on the way, in bytes. */
const windowBytes = 1024 * 1024;

/** What the library asks for streams. */
type SessionManager = NonNullable<GrpcTransportOptions["sessionManager"]>;

/** See the head of this file. */
export class SocketConnection implements SessionManager {
  readonly authority = authority;
  /** Makes calls. Each fails as unavailable once the connection has ended. */
  readonly transport: Transport;
  readonly #session: http2.ClientHttp2Session;
  #ended = false;

  private constructor(path: string) {
    this.#session = http2.connect(authority, {
      createConnection: () => connect(path).on("close", () => this.#end()),
      settings: { enablePush: false },
    });
    const end = () => this.#end();
    // What is under way may still be answered after a GOAWAY; nothing new is.
    this.#session.on("goaway", end).on("close", end).on("error", end);
    this.transport = createGrpcTransport({
      baseUrl: authority,
      sessionManager: this,
      readMaxBytes: maxAnswerBytes,
    });
  }

  /** Connects. Throws when nobody is there, or somebody who does not speak HTTP/2; and the signal's reason. */
  static async open(path: string, signal: AbortSignal): Promise<SocketConnection> {
    signal.throwIfAborted();
    const connection = new SocketConnection(path);
    const session = connection.#session;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    session.once("remoteSettings", () => resolve());
    session.once("error", reject);
    session.once("close", () => reject(new Error("it has hung up")));
    try {
      await promise;
      session.setLocalWindowSize(windowBytes);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** Calls back when nothing is under way on it any more. */
  onClosed(listener: () => void): void {
    this.#session.once("close", listener);
  }

  /** Whether it takes no more calls. */
  get ended(): boolean {
    return this.#ended;
  }

  request(
    method: string,
    path: string,
    headers: http2.OutgoingHttpHeaders,
    options: Omit<http2.ClientSessionRequestOptions, "signal">,
  ): Promise<http2.ClientHttp2Stream> {
    if (this.#ended) return Promise.reject(new ConnectError("the connection has ended", Code.Unavailable));
    const all = { ...headers, ":method": method, ":path": path };
    return Promise.resolve(this.#session.request(all, options));
  }

  notifyResponseByteRead(): void {}

  /** Ends it, and every call. */
  close(): void {
    this.#end();
    this.#session.destroy();
  }

  #end(): void {
    this.#ended = true;
  }
}
