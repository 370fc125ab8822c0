/** RPCs on the HTTP port: Connect, gRPC-Web and gRPC by Connect's handlers, with our limits and telemetry. */
import type { ServerResponse } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import {
  Code,
  ConnectError,
  type ContextKey,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { fault } from "../faults.ts";
import { checkedTrace, type Span, traceKey } from "../telemetry/tracing.ts";
import { ApiTokens, tokenHeaders } from "./authentication.ts";
import { errorForClient } from "./errors.ts";
import { type HttpRequest, type HttpResponse, sendError } from "./http-exchange.ts";
import type { Limits } from "./limits.ts";
import { type LateMount, loaded, type Mount, type ServerOptions, serviceName } from "./mount.ts";
import { Rpc } from "./rpc.ts";
import { longestTimeoutMs, timeoutMsOf } from "./timeouts.ts";

type Serve = (request: HttpRequest, response: HttpResponse) => void;

/** What is known of one call beside what Connect knows. */
interface HttpCall {
  readonly rpc: Rpc;
  readonly startedAt: number;
  readonly span: Span | undefined;
  /** Whether the request could be read, so that the handler was called. */
  reached: boolean;
  error: ConnectError | undefined;
}

const callKey: ContextKey<HttpCall | undefined> = createContextKey<HttpCall | undefined>(undefined);

/** Serves the methods of all mounts. `stopping` aborts the signals of open calls. */
export class HttpCalls {
  /** By path, of the services that have been called. */
  readonly #handlers = new Map<string, Serve>();
  /** Those that have not been, by name: Connect takes its time to prepare a service. */
  readonly #unprepared: Map<string, Mount | LateMount>;
  readonly #options: ServerOptions;
  readonly #stopping: AbortSignal;
  readonly #limits: Limits;
  readonly #tokens: ApiTokens;
  readonly #telemetry: ServerOptions["telemetry"];
  #openStreams = 0;

  constructor(options: ServerOptions, limits: Limits, stopping: AbortSignal) {
    this.#limits = limits;
    this.#tokens = new ApiTokens(options.apiTokens);
    this.#telemetry = options.telemetry;
    this.#options = options;
    this.#stopping = stopping;
    this.#unprepared = new Map(options.mounts.map((mounted) => [serviceName(mounted), mounted]));
  }

  /** Serves the request, or resolves to false: it is for no method. Rejects when the service cannot be loaded. */
  async serve(path: string, request: HttpRequest, response: HttpResponse): Promise<boolean> {
    const name = path.slice(1, path.indexOf("/", 1));
    const unprepared = this.#unprepared.get(name);
    if (unprepared) {
      const mounted = await loaded(unprepared);
      // Another call may have been faster.
      if (this.#unprepared.delete(name)) this.#prepare(mounted);
      // A client that has left meanwhile would not be seen leaving.
      if (("stream" in response ? response.stream : response).destroyed) return true;
    }
    const handler = this.#handlers.get(path);
    handler?.(request, response);
    return handler !== undefined;
  }

  #prepare(mounted: Mount): void {
    const rpcs = new Map<string, Rpc>();
    const router = createConnectRouter({
      readMaxBytes: this.#limits.maxMessageBytes,
      writeMaxBytes: this.#limits.maxMessageBytes,
      acceptCompression: [compressionGzip, compressionBrotli],
      interceptors: [this.#interceptor()],
      requestGate: (context) => this.#admit(context),
      shutdownSignal: this.#stopping,
    });
    router.service(mounted.service, mounted.implementation);
    for (const method of mounted.service.methods) {
      const rpc = new Rpc(mounted, method, this.#options.telemetry);
      rpcs.set(`/${rpc.name}`, rpc);
    }
    for (const handler of router.handlers) {
      const rpc = rpcs.get(handler.requestPath)!;
      this.#handlers.set(handler.requestPath, (request, response) => {
        const call = this.#begin(rpc, request, response);
        const values = createContextValues().set(callKey, call);
        if (call.span) values.set(traceKey, call.span.headers);
        this.#run(handler, request, response, values).catch((error) => this.#broken(call, error, response));
      });
    }
  }

  async #run(
    handler: ReturnType<typeof createConnectRouter>["handlers"][number],
    request: HttpRequest,
    response: HttpResponse,
    values: ReturnType<typeof createContextValues>,
  ): Promise<void> {
    const received = universalRequestFromNodeRequest(request, response, undefined, values);
    // Connect's own iterator destroys a request that is not read to its end, and with it its connection.
    const body = request.iterator({ destroyOnReturn: false });
    const answer = await handler({ ...received, body });
    await universalResponseToNodeResponse(answer, response);
  }

  #begin(rpc: Rpc, request: HttpRequest, response: HttpResponse): HttpCall {
    const { headers } = request;
    dropEndlessTimeouts(headers);
    const grpc = headers["content-type"]?.startsWith("application/grpc");
    const text = (name: string) => String(headers[name] ?? "");
    const span = rpc.telemetry.tracing.enabled
      ? rpc.startSpan(
          checkedTrace(text("traceparent"), text("tracestate"), text("baggage")),
          grpc ? "grpc" : "connect_rpc",
        )
      : undefined;
    const call: HttpCall = { rpc, startedAt: rpc.metrics.begin(), span, reached: false, error: undefined };
    if (rpc.streams) this.#openStreams++;
    // What nobody wants of a request that is answered is read all the same: it would keep an HTTP/2
    // stream open, and the connection of an HTTP/1.1 client stuck.
    const written = "stream" in response ? response.stream : response;
    written.once("finish", () => request.resume());
    written.once("close", () => this.#end(call, written));
    return call;
  }

  #end(call: HttpCall, response: ServerResponse | ServerHttp2Stream): void {
    const { rpc, span } = call;
    if (rpc.streams) this.#openStreams--;
    const error = call.error ?? failureOf(call, response);
    rpc.ended(call.startedAt, error, span);
  }

  /** Before a request is read. Throws what refuses it. */
  #admit(context: HandlerContext): void {
    const call = context.values.get(callKey)!;
    call.error = this.#refusal(call.rpc, context.requestHeader);
    if (call.error) throw call.error;
  }

  #refusal(rpc: Rpc, headers: Headers): ConnectError | undefined {
    if (this.#tokens.required && !rpc.withoutToken) {
      const token = tokenHeaders.map((name) => headers.get(name) ?? undefined).find(Boolean);
      const refusal = this.#tokens.refusal(token, rpc.tokenRefusals);
      if (refusal) return refusal;
    }
    const { maxOpenStreams } = this.#limits;
    if (rpc.streams && this.#openStreams > maxOpenStreams) {
      return fault("TOO_MANY_STREAMS", `the server has ${maxOpenStreams} streams open, its limit`);
    }
    return undefined;
  }

  /** Around every handler: what it throws is made fit for clients, and remembered for the metrics. */
  #interceptor(): Interceptor {
    return (next) => async (request) => {
      const call = request.contextValues.get(callKey)!;
      call.reached = true;
      try {
        const response = await next(request);
        if (!response.stream) return response;
        return { ...response, message: this.#watched(response.message, call, request.signal) };
      } catch (error) {
        throw this.#failed(error, call, request.signal);
      }
    };
  }

  async *#watched<T>(messages: AsyncIterable<T>, call: HttpCall, signal: AbortSignal): AsyncGenerator<T> {
    try {
      yield* messages;
    } catch (error) {
      throw this.#failed(error, call, signal);
    }
  }

  #failed(thrown: unknown, call: HttpCall, signal: AbortSignal): ConnectError {
    // What a handler throws because its call is over is no news, whatever it is.
    call.error =
      signal.aborted && !(thrown instanceof ConnectError)
        ? ConnectError.from(signal.reason, Code.Canceled)
        : errorForClient(thrown, call.rpc.name, this.#telemetry.log);
    return call.error;
  }

  /** Connect could not answer: mostly, the client is gone. */
  #broken(call: HttpCall, error: unknown, response: HttpResponse): void {
    this.#telemetry.log.debug({ err: error, rpc: call.rpc.name }, "an answer could not be sent");
    if (response.headersSent) response.destroy();
    else sendError(response, 400, "invalid_argument", "the request is not one that can be served");
  }
}

/** Connect would start a timer that ends at once. */
function dropEndlessTimeouts(headers: HttpRequest["headers"]): void {
  const timeoutMs = Number(headers["connect-timeout-ms"]);
  if (timeoutMs > longestTimeoutMs) delete headers["connect-timeout-ms"];
  if (timeoutMsOf(String(headers["grpc-timeout"])) > longestTimeoutMs) delete headers["grpc-timeout"];
}

/** What Connect makes of requests that it cannot read, by HTTP status. */
const unreadCodes: Readonly<Record<number, Code>> = {
  405: Code.Unimplemented,
  415: Code.Unimplemented,
  429: Code.ResourceExhausted,
  500: Code.Internal,
};

/** What became of a call whose handler did not say. */
function failureOf(call: HttpCall, response: ServerResponse | ServerHttp2Stream): ConnectError | undefined {
  const reset = "rstCode" in response && response.rstCode !== 0;
  if (reset || !response.writableFinished)
    return new ConnectError("the client has ended the call", Code.Canceled);
  if (call.reached) return undefined;
  const status = "statusCode" in response ? response.statusCode : Number(response.sentHeaders[":status"]);
  const code = unreadCodes[status] ?? Code.InvalidArgument;
  return new ConnectError("the request could not be read", code);
}
