/**
 * The HTTP port: the same services as on the gRPC port, for curl, browsers and Connect clients.
 *
 * One port speaks HTTP/1.1 and HTTP/2 without TLS. No other site's pages may call it, unless origins are
 * let in: there are no CORS headers.
 */
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { Socket } from "node:net";
import { fault } from "../faults.ts";
import { Cors } from "./cors.ts";
import { errorForClient } from "./errors.ts";
import type { HttpCalls } from "./http-calls.ts";
import { type HttpRequest, type HttpResponse, sendError } from "./http-exchange.ts";
import type { HttpPipeline } from "./http-pipeline.ts";
import { tellProtocol } from "./http-protocols.ts";
import type { HttpRoutes } from "./http-route.ts";
import { HttpRouting, send } from "./http-routing.ts";
import { Http2Sessions } from "./http2-sessions.ts";
import { defaultLimits, type Limits } from "./limits.ts";
import { Connections, type Listening, listen } from "./listening.ts";
import { type ServerOptions, serviceName } from "./mount.ts";

/** What an HTTP server is made of. */
export interface HttpServerOptions extends ServerOptions {
  /** Whether `/healthz/ready` answers 204 or 503. Default: always ready. */
  readonly ready?: () => boolean;
  /** What is served beside RPCs. */
  readonly routes?: readonly HttpRoutes[];
  /** Origins whose pages may call: see `Cors`. Undefined: there is no CORS at all. */
  readonly allowedOrigins?: readonly string[] | undefined;
  /** What requests pass first, at the moment; only routes have it change their bodies. */
  readonly pipeline?: (() => HttpPipeline | undefined) | undefined;
}

/** How long the last answers may take to leave when calls are ended by force, in milliseconds. */
const partingMs = 200;

/** Serves mounts over HTTP. Rejects when the address cannot be had. */
export async function startHttpServer(options: HttpServerOptions): Promise<Listening> {
  const limits = { ...defaultLimits, ...options.limits };
  const stopping = new AbortController();
  const calls = new LateCalls(options, limits, stopping.signal);
  const routing = new HttpRouting(options.routes ?? [], options, limits, stopping.signal);
  const cors = options.allowedOrigins && new Cors(options.allowedOrigins);
  const closing = new AbortController();
  const handle = (request: HttpRequest, response: HttpResponse) => {
    // A client keeps its connection after an answer, unless somebody closes it.
    response.once("close", () => closing.signal.aborted && setImmediate(() => http1.closeIdleConnections()));
    if (cors?.handle(request, response)) return;
    const pipeline = options.pipeline?.();
    if (pipeline && !pass(request, response, pipeline)) return;
    if (routing.serve(request, response)) return;
    serve(request, response, calls, options).catch((error: unknown) => {
      // The query of a Connect request is its message, which no log is to have.
      const rpc = pathOf(request).slice(1);
      const { rawMessage } = errorForClient(error, rpc, options.telemetry.log);
      sendError(response, 500, "internal", rawMessage);
    });
  };

  const http2 = createHttp2Server(http2Options(limits), handle);
  const sessions = new Http2Sessions(limits);
  http2.on("session", (session) => sessions.add(session));
  const http1 = createServer(http1Options(limits), handle);
  // How Node serves a connection, to be called when we know that it is one of HTTP/1.1.
  const [serveHttp1] = http1.listeners("connection") as ((socket: Socket) => void)[];
  http1.removeAllListeners("connection");
  const connections = new Connections();
  http1.on("connection", (socket) => {
    connections.add(socket);
    tellProtocol(socket, limits.headersTimeoutMs, closing.signal, (protocol) => {
      if (protocol === "h2") http2.emit("connection", socket);
      else serveHttp1!.call(http1, socket);
    });
  });
  const { address, port } = await listen(http1, options.host, options.port);

  const stop = () =>
    stopping.abort(fault("SHUTTING_DOWN", "the sidecar is going away", { retryAfterMs: 1000 }));
  options.shutdownSignal?.addEventListener("abort", stop, { once: true });
  if (options.shutdownSignal?.aborted) stop();

  return {
    name: options.name ?? "http",
    address,
    port,
    async close(graceMs) {
      closing.abort();
      http1.close();
      sessions.close();
      if (!(await connections.closed(graceMs))) {
        stop();
        await connections.closed(partingMs);
        connections.destroy();
        await connections.closed(partingMs);
      }
      options.shutdownSignal?.removeEventListener("abort", stop);
    },
  };
}

/** Has a request begin its way; false when that has ended it already. */
function pass(request: HttpRequest, response: HttpResponse, pipeline: HttpPipeline): boolean {
  const passed = pipeline.begin({
    method: request.method ?? "",
    url: request.url ?? "",
    header: (name) => String(request.headers[name] ?? ""),
    remoteAddress: request.socket?.remoteAddress ?? "",
  });
  if ("answer" in passed) {
    request.resume();
    send(response, passed.answer, request.method === "HEAD");
    return false;
  }
  request.url = passed.url;
  return true;
}

/** Calls of services, loaded with the first of them: most applications make theirs on the gRPC port. */
class LateCalls {
  readonly #services: ReadonlySet<string>;
  readonly #make: () => Promise<HttpCalls>;
  #calls: Promise<HttpCalls> | undefined;

  constructor(options: HttpServerOptions, limits: Limits, stopping: AbortSignal) {
    this.#services = new Set(options.mounts.map(serviceName));
    this.#make = async () => {
      const { HttpCalls } = await import("./http-calls.ts");
      return new HttpCalls(options, limits, stopping);
    };
  }

  /** See HttpCalls. */
  async serve(path: string, request: HttpRequest, response: HttpResponse): Promise<boolean> {
    if (!this.#services.has(path.slice(1, path.indexOf("/", 1)))) return false;
    this.#calls ??= this.#make().catch((error: unknown) => {
      this.#calls = undefined;
      throw error;
    });
    return (await this.#calls).serve(path, request, response);
  }
}

async function serve(
  request: HttpRequest,
  response: HttpResponse,
  calls: LateCalls,
  options: HttpServerOptions,
): Promise<void> {
  const path = pathOf(request);
  if (await calls.serve(path, request, response)) return;
  const health = healthStatus(path, options);
  if (health === undefined) {
    sendError(response, 404, "not_found", "nothing is served at this path");
  } else if (request.method !== "GET" && request.method !== "HEAD") {
    sendError(response, 405, "unimplemented", "only GET and HEAD are served at this path");
  } else {
    response.statusCode = health;
    response.end();
  }
}

function pathOf(request: HttpRequest): string {
  return (request.url ?? "").split("?", 1)[0]!;
}

/** The answer of the health paths: live is who answers at all. */
function healthStatus(path: string, { ready }: HttpServerOptions): 204 | 503 | undefined {
  if (path === "/healthz") return 204;
  if (path === "/healthz/ready") return (ready?.() ?? true) ? 204 : 503;
  return undefined;
}

function http1Options(limits: Limits) {
  return {
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: limits.headersTimeoutMs,
    // A streaming request may last as long as its call.
    requestTimeout: 0,
    keepAliveTimeout: limits.maxConnectionIdleMs,
    // Finds clients that are gone from a stream on which nothing is said.
    keepAlive: true,
    keepAliveInitialDelay: limits.keepaliveTimeMs,
    noDelay: true,
  };
}

function http2Options(limits: Limits) {
  return {
    settings: {
      maxConcurrentStreams: limits.maxConcurrentStreams,
      maxHeaderListSize: limits.maxHeaderBytes,
    },
    // In MB. Node's 10 would refuse streams while a few large messages are under way.
    maxSessionMemory: 64,
  };
}
