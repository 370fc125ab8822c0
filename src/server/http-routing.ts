/** Serves routes on the HTTP port, with the limits, tokens, measures and traces that RPCs have. */
import { Code, ConnectError } from "@connectrpc/connect";
import { fault, invalidRequest } from "../faults.ts";
import { type Log, logTrace } from "../telemetry/log.ts";
import type { Counter, Histogram } from "../telemetry/metrics.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { checkedTrace, type Span, type TraceHeaders } from "../telemetry/tracing.ts";
import { ApiTokens, tokenHeaders } from "./authentication.ts";
import { errorForClient } from "./errors.ts";
import type { HttpRequest, HttpResponse } from "./http-exchange.ts";
import type { HttpPipeline } from "./http-pipeline.ts";
import type { HttpRoute, HttpRoutes, LateRoutes, RouteAnswer } from "./http-route.ts";
import type { Limits } from "./limits.ts";
import type { ServerOptions } from "./mount.ts";
import { RouteTree } from "./route-tree.ts";

/** A route, and who speaks for its errors. */
interface Served {
  readonly route: HttpRoute;
  readonly owner: HttpRoutes;
  observe(seconds: number, status: number): void;
}

/** Routes that are not in the tree yet. */
interface Late {
  readonly routes: LateRoutes;
  readonly owner: HttpRoutes;
  /** Under way; rejects as `LateRoutes.load` does. */
  loading: Promise<void> | undefined;
}

/** What routing is made of. */
export interface RoutingOptions extends ServerOptions {
  /** Has the bodies first, at the moment. */
  readonly pipeline?: (() => HttpPipeline | undefined) | undefined;
}

/** See the head of this file. */
export class HttpRouting {
  readonly #tree = new RouteTree<Served>();
  readonly #late = new Set<Late>();
  readonly #limits: Limits;
  readonly #tokens: ApiTokens;
  readonly #telemetry: Telemetry;
  readonly #stopping: AbortSignal;
  readonly #pipeline: (() => HttpPipeline | undefined) | undefined;
  /** Where calls are logged, if they are. */
  readonly #callLog: Log | undefined;

  constructor(groups: readonly HttpRoutes[], options: RoutingOptions, limits: Limits, stopping: AbortSignal) {
    this.#limits = limits;
    this.#tokens = new ApiTokens(options.apiTokens);
    this.#telemetry = options.telemetry;
    this.#stopping = stopping;
    this.#pipeline = options.pipeline;
    if (options.telemetry.callLog) this.#callLog = options.telemetry.log.child({ scope: "api" });
    for (const owner of groups) {
      this.#add(owner.routes, owner);
      if (owner.late) this.#late.add({ routes: owner.late, owner, loading: undefined });
    }
  }

  #add(routes: readonly HttpRoute[], owner: HttpRoutes): void {
    for (const route of routes) this.#tree.add(route.method, route.path, this.#served(route, owner));
  }

  /** Serves the request, or returns false: no route has its path and method. */
  serve(request: HttpRequest, response: HttpResponse): boolean {
    const [path = "", query = ""] = originFormOf(request.url ?? "").split(/\?(.*)/s, 2);
    const plain = path.replace(/\/{2,}/g, "/").replaceAll("+", "%20");
    const readable = readablePath(plain);
    const found = this.#find(request.method ?? "", readable) ?? this.#find("ANY", readable);
    const late = found ? undefined : [...this.#late].find(({ routes }) => routes.covers(readable));
    if (!found && !late) return false;
    const params = readable === plain ? found?.params : undefined;
    const answered = found
      ? this.#run(found.value, params, query, request, response)
      : this.#load(late!).then(() => void this.serve(request, response));
    answered.catch((err: unknown) => {
      this.#telemetry.log.error({ err, path }, "an answer could not be made");
      response.destroy();
    });
    return true;
  }

  /** Puts late routes into the tree. */
  #load(late: Late): Promise<void> {
    late.loading ??= late.routes.load().then(
      (routes) => {
        this.#add(routes, late.owner);
        this.#late.delete(late);
      },
      (error: unknown) => {
        late.loading = undefined;
        throw error;
      },
    );
    return late.loading;
  }

  /** A slash at the end is one too many, unless a route has a wildcard there. Parameters are never empty. */
  #find(method: string, path: string) {
    const found = this.#tree.find(method, path);
    if (!path.endsWith("/")) return found;
    const wanted = found && "*" in found.params && !found.value.route.isFallback;
    return wanted ? found : this.#tree.find(method, path.slice(0, -1));
  }

  /** `params` undefined: the path cannot be read. */
  async #run(
    served: Served,
    params: Readonly<Record<string, string>> | undefined,
    query: string,
    request: HttpRequest,
    response: HttpResponse,
  ): Promise<void> {
    const { route } = served;
    const startedAt = performance.now();
    const header = (name: string) => String(request.headers[name] ?? "");
    const parent = checkedTrace(header("traceparent"), header("tracestate"), header("baggage"));
    const span = this.#startSpan(route, parent);
    const gone = new AbortController();
    const leave = () => {
      if (!response.writableFinished) gone.abort(new ConnectError("the client has left", Code.Canceled));
    };
    response.once("close", leave);
    const trace = span?.headers ?? parent;
    let answer: RouteAnswer;
    let failure: unknown;
    try {
      this.#admit(route, header);
      if (!params) throw invalidRequest({ field: "path", description: "must be percent-encoded UTF-8" });
      const signal = AbortSignal.any([gone.signal, this.#stopping]);
      const read = await this.#read(request);
      const body = this.#pipeline?.()?.body(read) ?? read;
      const parsed = new URLSearchParams(query);
      answer = await route.handle({ params, query: parsed, header, body, trace, signal, protocol: "http" });
    } catch (error) {
      const name = `${route.method} ${route.path}`;
      failure = errorForClient(error, name, this.#telemetry.log);
      answer = served.owner.errorAnswer(failure);
    }
    request.resume();
    send(response, answer, request.method === "HEAD");
    const durationMs = performance.now() - startedAt;
    served.observe(durationMs / 1000, answer.status);
    this.#log(route, request, answer.status, durationMs, trace);
    span?.set("http.response.status_code", answer.status);
    span?.end(answer.status >= 500 ? failure : undefined);
  }

  #admit(route: HttpRoute, header: (name: string) => string): void {
    if (!this.#tokens.required || route.withoutToken) return;
    const refusal = this.#tokens.refusal(tokenHeaders.map(header).find((token) => token !== ""));
    if (refusal) throw refusal;
  }

  /** A line for the call, where that is asked for. Probes are those that need no token. */
  #log(
    route: HttpRoute,
    { url }: HttpRequest,
    status: number,
    durationMs: number,
    trace: TraceHeaders,
  ): void {
    const options = this.#telemetry.callLog;
    if (!this.#callLog || !options || (options.omitHealthChecks && route.withoutToken)) return;
    const path = options.obfuscateUrls ? route.path : (url ?? "").split("?", 1)[0];
    const fields = {
      http: `${route.method} ${path}`,
      status,
      duration_ms: Math.round(durationMs * 1000) / 1000,
    };
    this.#callLog.info({ ...fields, ...logTrace(trace) }, "call");
  }

  /** The whole body. Throws TOO_LARGE as soon as it is. */
  async #read(request: HttpRequest): Promise<Uint8Array> {
    const { maxMessageBytes } = this.#limits;
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      bytes += (chunk as Buffer).length;
      if (bytes > maxMessageBytes)
        throw fault("TOO_LARGE", `the body is longer than ${maxMessageBytes} bytes, the limit`);
      chunks.push(chunk as Buffer);
    }
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  }

  #startSpan(route: HttpRoute, parent: Span["headers"]): Span | undefined {
    const { tracing } = this.#telemetry;
    if (!tracing.enabled) return undefined;
    return tracing.startSpan(`${route.method} ${route.path}`, "server", parent, {
      "http.request.method": route.method,
      "http.route": route.path,
    });
  }

  #served(route: HttpRoute, owner: HttpRoutes): Served {
    const { metrics } = this.#telemetry;
    const labels = { method: route.method, route: route.path };
    const requests = metrics.counter("outrider_http_requests_total", "Requests to paths that are no RPCs.", [
      "method",
      "route",
      "status",
    ]);
    const durations = metrics.histogram("outrider_http_request_duration_seconds", "How long they took.", [
      "method",
      "route",
    ]);
    // Made when they are needed first: most routes never are.
    let duration: Histogram | undefined;
    const counters = new Map<number, Counter>();
    return {
      route,
      owner,
      observe(seconds, status) {
        duration ??= durations.with(labels);
        duration.observe(seconds);
        const counter = counters.get(status) ?? requests.with({ ...labels, status: String(status) });
        counters.set(status, counter);
        counter.add();
      },
    };
  }
}

/** Sends an answer, if it still can be. */
export function send(
  response: HttpResponse,
  { status, headers = {}, body }: RouteAnswer,
  headOnly: boolean,
): void {
  if (response.destroyed || response.headersSent) return;
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const all: Record<string, string | number> = { ...headers };
  if (bytes !== undefined) all["content-length"] = bytes.byteLength;
  if ("stream" in response) response.writeHead(status, all);
  else response.writeHead(status, all);
  if (bytes === undefined || headOnly) response.end();
  else response.end(bytes);
}

/** A target without the scheme and host that proxies, and clients that take this for one, put before it. */
function originFormOf(target: string): string {
  return target.startsWith("/") ? target : target.replace(/^https?:\/\/[^/?]*/i, "");
}

/** A path with something else in the place of what is no percent-encoded UTF-8, so that it leads where it was meant to. */
function readablePath(path: string): string {
  return path.replace(/(?:%[0-9a-f]{2})+|%/gi, (encoded) => {
    try {
      decodeURIComponent(encoded);
      return encoded;
    } catch {
      return "%EF%BF%BD";
    }
  });
}
