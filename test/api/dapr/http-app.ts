/** An application that listens for HTTP, for tests: it remembers what it was asked. */
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { createServer as createHttp2Server, type Http2Server } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Readable } from "node:stream";
import { expect } from "vitest";

/** A call that came. */
export interface AppCall {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** As JSON; undefined for an empty body. */
  readonly body: Readonly<Record<string, unknown>> | undefined;
}

/** What it answers: a status, or a status with a body. */
export type AppAnswer = number | { readonly status: number; readonly body: string };
/** Answers a call, perhaps later. */
export type AppRoute = (call: AppCall) => AppAnswer | Promise<AppAnswer>;

/** What can be said about an application. */
export interface HttpAppOptions {
  /** What `/dapr/subscribe` answers. */
  readonly subscribe?: unknown;
  /** By path; everything else is 404. */
  readonly routes?: Readonly<Record<string, AppAnswer | AppRoute>>;
  /** True: HTTP/2 without TLS. */
  readonly h2c?: boolean;
  /** Served with TLS: a certificate and its key, in PEM. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer };
  /** 0: a free one. */
  readonly port?: number;
}

/** A running application. */
export class HttpApp {
  readonly calls: AppCall[] = [];
  /** What `/healthz` answers. */
  healthy = true;
  readonly #server: Server | Http2Server;
  readonly #options: HttpAppOptions;

  private constructor(options: HttpAppOptions) {
    this.#options = options;
    const listener = (
      request: Readable & {
        method?: string | undefined;
        url?: string | undefined;
        headers: IncomingHttpHeaders;
      },
      response: {
        writeHead(status: number, headers?: Record<string, string>): unknown;
        end(body: string): unknown;
      },
    ) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        void this.#answer(request.method ?? "", request.url ?? "", request.headers, text).then((answer) => {
          const { status, body } = typeof answer === "number" ? { status: answer, body: "" } : answer;
          response.writeHead(status);
          response.end(body);
        });
      });
    };
    this.#server = options.h2c
      ? createHttp2Server((request, response) => listener(request, response))
      : options.tls
        ? createHttpsServer(options.tls, (request, response) => listener(request, response))
        : createServer((request, response) => listener(request, response));
  }

  static async start(options: HttpAppOptions = {}): Promise<HttpApp> {
    const app = new HttpApp(options);
    await new Promise<void>((listening) => app.#server.listen(options.port ?? 0, "127.0.0.1", listening));
    return app;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Deliveries to a path. */
  to(path: string): readonly AppCall[] {
    return this.calls.filter((call) => call.path === path);
  }

  /** The delivery of that number to a path, 0 for the first, once it has come. */
  async delivered(path: string, index = 0): Promise<AppCall> {
    await expect.poll(() => this.to(path).length, { timeout: 5000, interval: 5 }).toBeGreaterThan(index);
    return this.to(path)[index]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((done) => this.#server.close(done));
    if ("closeAllConnections" in this.#server) this.#server.closeAllConnections();
    await closed;
  }

  async #answer(
    method: string,
    path: string,
    headers: IncomingHttpHeaders,
    text: string,
  ): Promise<AppAnswer> {
    if (path === "/dapr/config") return { status: 200, body: "{}" };
    if (path === "/dapr/subscribe")
      return { status: 200, body: JSON.stringify(this.#options.subscribe ?? []) };
    if (path === "/healthz") return this.healthy ? 200 : 503;
    const call = { method, path, headers, body: text === "" ? undefined : JSON.parse(text) };
    this.calls.push(call);
    const route = this.#options.routes?.[path] ?? 404;
    return typeof route === "function" ? route(call) : route;
  }
}
