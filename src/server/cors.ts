/** Cross-origin requests: which pages of other sites may call from a browser. */
import type { HttpRequest, HttpResponse } from "./http-exchange.ts";

/** How long a browser may remember what it was allowed, in seconds. */
const maxAgeSeconds = 5;

/** The origins that are let in, each exact or with one `*` in it; `*` alone lets in all. */
export class Cors {
  readonly #all: boolean;
  readonly #allowed: (origin: string) => boolean;

  constructor(origins: readonly string[]) {
    this.#all = origins.includes("*");
    const patterns = origins.map(patternOf);
    this.#allowed = (origin) => patterns.some((pattern) => pattern.test(origin));
  }

  /** Puts the headers on an answer. Returns true when the request was a question of the browser's only, and answered. */
  handle(request: HttpRequest, response: HttpResponse): boolean {
    const origin = String(request.headers["origin"] ?? "");
    const asked = String(request.headers["access-control-request-method"] ?? "");
    const isQuestion = request.method === "OPTIONS" && asked !== "";
    response.setHeader(
      "vary",
      isQuestion ? "Origin, Access-Control-Request-Method, Access-Control-Request-Headers" : "Origin",
    );
    const allowed = origin !== "" && (this.#all || this.#allowed(origin));
    if (allowed) response.setHeader("access-control-allow-origin", this.#all ? "*" : origin);
    if (!isQuestion) return false;
    if (allowed) {
      response.setHeader("access-control-allow-methods", asked.toUpperCase());
      const headers = String(request.headers["access-control-request-headers"] ?? "");
      if (headers !== "") response.setHeader("access-control-allow-headers", headers);
      response.setHeader("access-control-max-age", maxAgeSeconds);
    }
    response.statusCode = 200;
    response.end();
    return true;
  }
}

function patternOf(origin: string): RegExp {
  const parts = origin.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "i");
}
