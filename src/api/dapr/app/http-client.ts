/** HTTP to one application: HTTP/1.1 with or without TLS, and HTTP/2 without. */
import * as http from "node:http";
import * as https from "node:https";
import { AppUnreachable } from "./channel.ts";
import { Http2Connection } from "./http2/connection.ts";

/** A request to the application. */
export interface AppRequest {
  readonly method: "GET" | "POST";
  /** With a leading slash, and escaped. */
  readonly path: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

/** Its answer. */
export interface AppAnswer {
  readonly status: number;
  /** As text; "" for one that is too long to be read. */
  readonly body: string;
}

/** Sends requests. */
export interface HttpClient {
  /** Throws AppUnreachable, and the signal's reason when that aborts. */
  request(request: AppRequest, signal: AbortSignal): Promise<AppAnswer>;
  close(): void;
}

/** Where the application is. */
export interface HttpClientOptions {
  readonly protocol: "http" | "https" | "h2c";
  readonly host: string;
  readonly port: number;
  /** Answers past that are not read, in bytes. */
  readonly maxAnswerBytes: number;
}

/** Connections kept for the next request. */
const maxIdleConnections = 64;
/** Errors of a connection that was never made. */
const neverConnected = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)$/;

/** Makes the client for a protocol. It connects when there is something to send. */
export function httpClient(options: HttpClientOptions): HttpClient {
  return options.protocol === "h2c" ? new Http2Client(options) : new Http1Client(options);
}

class Http1Client implements HttpClient {
  readonly #options: HttpClientOptions;
  readonly #agent: http.Agent;
  readonly #send: typeof http.request;

  constructor(options: HttpClientOptions) {
    this.#options = options;
    const common = { keepAlive: true, maxFreeSockets: maxIdleConnections, scheduling: "lifo" } as const;
    // Applications beside a sidecar have certificates that nobody signed; Dapr does not check them either.
    this.#agent =
      options.protocol === "https"
        ? new https.Agent({ ...common, rejectUnauthorized: false })
        : new http.Agent(common);
    this.#send = options.protocol === "https" ? https.request : http.request;
  }

  async request(request: AppRequest, signal: AbortSignal): Promise<AppAnswer> {
    for (;;) {
      const result = await this.#try(request, signal);
      if (!("stale" in result)) return result;
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  /** `stale`: the application had closed the connection when the request came. */
  #try({ method, path, headers, body }: AppRequest, signal: AbortSignal) {
    const { host, port, maxAnswerBytes } = this.#options;
    return new Promise<AppAnswer | { stale: true }>((resolve, reject) => {
      const request = this.#send({
        agent: this.#agent,
        host,
        port,
        method,
        path,
        headers: { ...headers },
        signal,
      });
      const failed = (error: Error & { code?: string }) => {
        if (signal.aborted) reject(signal.reason);
        else if (request.reusedSocket && /^(ECONNRESET|EPIPE)$/.test(error.code ?? ""))
          resolve({ stale: true });
        else reject(new AppUnreachable(neverConnected.test(error.code ?? ""), error));
      };
      request.on("error", failed);
      request.on("response", (response) => {
        const answer = new AnswerBody(maxAnswerBytes);
        response.on("data", (chunk: Buffer) => answer.add(chunk));
        response.on("error", (error) =>
          reject(signal.aborted ? signal.reason : new AppUnreachable(false, error)),
        );
        response.on("end", () => resolve({ status: response.statusCode!, body: answer.text }));
      });
      request.end(body);
    });
  }
}

class Http2Client implements HttpClient {
  readonly #connection: Http2Connection;

  constructor(options: HttpClientOptions) {
    this.#connection = new Http2Connection({ ...options, tls: false });
  }

  async request({ method, path, headers, body }: AppRequest, signal: AbortSignal): Promise<AppAnswer> {
    const head = this.#connection.head(method, path, {});
    const answer = await this.#connection.request({ head, headers, body }, signal);
    return { status: Number(answer.headers[":status"] ?? 0), body: answer.body?.toString("utf8") ?? "" };
  }

  close(): void {
    this.#connection.close();
  }
}

/** Gathers an answer, up to a limit. */
class AnswerBody {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(chunk: Buffer): void {
    this.#bytes += chunk.byteLength;
    if (this.#bytes > this.#maxBytes) this.#chunks = [];
    else this.#chunks.push(chunk);
  }

  get text(): string {
    return this.#bytes > this.#maxBytes ? "" : Buffer.concat(this.#chunks).toString("utf8");
  }
}
