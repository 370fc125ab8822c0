/** `middleware.http.ratelimit`: so many requests a second from each client, counted in this sidecar. */
import type { PassingRequest } from "../../../server/http-pipeline.ts";
import type { RouteAnswer } from "../../../server/http-route.ts";

/** What a client may still do. */
interface Bucket {
  tokens: number;
  /** When that was counted, in milliseconds of `performance.now()`. */
  atMs: number;
}

/** Clients that are remembered; the one that came first is forgotten, and has everything again. */
const maxClients = 10_000;

const refused: RouteAnswer = {
  status: 429,
  headers: { "content-type": "text/plain; charset=utf-8" },
  body: "You have reached maximum request limit.",
};

/** See the head of this file. */
export class RateLimit {
  readonly #perSecond: number;
  readonly #buckets = new Map<string, Bucket>();

  /** More than 0. */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  begin(request: PassingRequest): { readonly url: string } | { readonly answer: RouteAnswer } {
    const bucket = this.#bucketOf(clientOf(request));
    if (bucket.tokens < 1) return { answer: refused };
    bucket.tokens -= 1;
    return { url: request.url };
  }

  #bucketOf(client: string): Bucket {
    const now = performance.now();
    const most = Math.max(1, this.#perSecond);
    let bucket = this.#buckets.get(client);
    if (!bucket) {
      if (this.#buckets.size >= maxClients) this.#buckets.delete(this.#buckets.keys().next().value!);
      bucket = { tokens: most, atMs: now };
      this.#buckets.set(client, bucket);
    }
    bucket.tokens = Math.min(most, bucket.tokens + ((now - bucket.atMs) / 1000) * this.#perSecond);
    bucket.atMs = now;
    return bucket;
  }
}

/** Who asks: as the proxy before us has it, else by its address. */
function clientOf({ header, remoteAddress }: PassingRequest): string {
  return header("x-forwarded-for") || header("x-real-ip") || remoteAddress;
}
