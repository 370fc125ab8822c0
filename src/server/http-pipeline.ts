/** What HTTP requests pass on their way in, or on their way to an application. */
import type { RouteAnswer } from "./http-route.ts";

/** A request that passes. */
export interface PassingRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** Names in lower case; "" where there is none. */
  header(name: string): string;
  /** "" where nobody knows. */
  readonly remoteAddress: string;
}

/** See the head of this file. */
export interface HttpPipeline {
  /** Before the body is read: the path and query to go on with, or the answer that ends it. */
  begin(request: PassingRequest): { readonly url: string } | { readonly answer: RouteAnswer };
  /** The body to go on with. */
  body(body: Uint8Array): Uint8Array;
}
