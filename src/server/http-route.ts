/** A path on the HTTP port that is no RPC: who serves it says so as a value, and knows no server. */
import type { TraceHeaders } from "../telemetry/tracing.ts";

/** A request to a route. */
export interface RouteRequest {
  /** The parameters of the path, decoded as forms are: `+` is a blank. `*` has the rest of the path. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** Names in lower case; "" where there is none. */
  header(name: string): string;
  readonly body: Uint8Array;
  /** Of the span that the server started, else of the headers. */
  readonly trace: TraceHeaders;
  /** Aborts when the client has left, or the sidecar stops. */
  readonly signal: AbortSignal;
  readonly protocol: "http";
}

/** An answer. */
export interface RouteAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
}

/** One method at one path. */
export interface HttpRoute {
  /** "ANY": for requests that are no other route's, whatever their method. HEAD is no GET. */
  readonly method: "GET" | "POST" | "PUT" | "DELETE" | "PATCH" | "ANY";
  /** Such as `/state/:store/:key`, or with `*` at the end for the rest: see `RouteTree`. */
  readonly path: string;
  /** True: served without an API token, where others need one. */
  readonly withoutToken?: boolean;
  /** True: for paths that are no other route's, not even without a slash at the end. */
  readonly isFallback?: boolean;
  /** What it throws goes to `HttpRoutes.errorAnswer`. */
  handle(request: RouteRequest): RouteAnswer | Promise<RouteAnswer>;
}

/** Routes that belong together. */
export interface HttpRoutes {
  readonly routes: readonly HttpRoute[];
  /** More of them. */
  readonly late?: LateRoutes;
  /** The answer for what a route threw, or for a request that the server itself refuses with a fault. */
  errorAnswer(error: unknown): RouteAnswer;
}

/** Routes that are loaded when one of them is asked for first: what nobody calls takes no time at the start, and no memory. */
export interface LateRoutes {
  /** Whether one of them is at this path, whatever the method. */
  covers(path: string): boolean;
  /** Rejects when a file of the program cannot be read; it can be tried again. */
  load(): Promise<readonly HttpRoute[]>;
}
