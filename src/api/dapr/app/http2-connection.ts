/** One connection of HTTP/2 to an application, made anew when it has ended. */
import * as http2 from "node:http2";
import { AppUnreachable } from "./channel.ts";

/** Where the application is. */
export interface Http2Options {
  readonly host: string;
  readonly port: number;
  /** Whatever its certificate is: those of applications beside a sidecar are signed by nobody. */
  readonly tls: boolean;
  /** What is kept of an answer, in bytes. */
  readonly maxAnswerBytes: number;
}

/** An answer. */
export interface Http2Answer {
  readonly headers: http2.IncomingHttpHeaders & { readonly ":status"?: number };
  /** Empty without any. */
  readonly trailers: http2.IncomingHttpHeaders;
  /** Undefined: it was longer than is kept. */
  readonly body: Buffer | undefined;
}

/** What an application may send before it is told that there is room for more, in bytes. */
const windowBytes = 1024 * 1024;

/** See the head of this file. */
export class Http2Connection {
  readonly #options: Http2Options;
  #session: Session | undefined;

  constructor(options: Http2Options) {
    this.#options = options;
  }

  /** Throws AppUnreachable, and the signal's reason when that aborts. */
  request(
    headers: http2.OutgoingHttpHeaders,
    body: Uint8Array | undefined,
    signal: AbortSignal,
  ): Promise<Http2Answer> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const session = this.#connected();
      const stream = session.http2.request(headers, { endStream: body === undefined });
      const { maxAnswerBytes } = this.#options;
      const chunks: Buffer[] = [];
      let bytes = 0;
      let answered: http2.IncomingHttpHeaders | undefined;
      let trailers: http2.IncomingHttpHeaders = {};
      let failure: unknown;
      let ended = false;
      const abort = () => stream.close(http2.constants.NGHTTP2_CANCEL);
      signal.addEventListener("abort", abort, { once: true });
      stream.on("response", (given) => {
        answered = given;
      });
      stream.on("data", (chunk: Buffer) => {
        bytes += chunk.byteLength;
        if (bytes <= maxAnswerBytes) chunks.push(chunk);
      });
      stream.on("trailers", (given) => {
        trailers = given;
      });
      stream.on("end", () => {
        ended = true;
      });
      stream.on("error", (error) => {
        failure = error;
      });
      stream.on("close", () => {
        signal.removeEventListener("abort", abort);
        const complete = ended && answered && stream.rstCode === http2.constants.NGHTTP2_NO_ERROR;
        if (complete) {
          const body = bytes > maxAnswerBytes ? undefined : Buffer.concat(chunks);
          resolve({ headers: answered!, trailers, body });
        } else if (signal.aborted) reject(signal.reason);
        else {
          const refused = stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM;
          const why = failure ?? session.failure ?? new Error("the connection ended before the answer");
          reject(new AppUnreachable(!session.connected || refused, why));
        }
      });
      if (body !== undefined) stream.end(body);
    });
  }

  close(): void {
    this.#session?.http2.destroy();
  }

  #connected(): Session {
    const current = this.#session?.http2;
    if (current && !current.closed && !current.destroyed) return this.#session!;
    this.#session = new Session(this.#options);
    return this.#session;
  }
}

/** A connection, and what is known of it when it has ended. */
class Session {
  readonly http2: http2.ClientHttp2Session;
  connected = false;
  failure: Error | undefined;

  constructor({ host, port, tls }: Http2Options) {
    const authority = `${host.includes(":") ? `[${host}]` : host}:${port}`;
    const settings = { enablePush: false, initialWindowSize: windowBytes };
    this.http2 = http2.connect(`${tls ? "https" : "http"}://${authority}`, {
      settings,
      rejectUnauthorized: false,
    });
    this.http2.on("connect", () => {
      this.connected = true;
      this.http2.setLocalWindowSize(windowBytes);
    });
    this.http2.on("error", (error) => {
      this.failure = error;
    });
    // What is under way may still be answered; what comes next gets a connection of its own.
    this.http2.on("goaway", () => this.http2.close());
  }
}
