/** The HTTP pipelines of a Configuration, as Dapr has them: each handler in order, the body last. */
import type { MiddlewareResource } from "../../../config/middlewares.ts";
import type { PipelineHandler } from "../../../config/settings.ts";
import type { HttpPipeline, PassingRequest } from "../../../server/http-pipeline.ts";
import type { RouteAnswer } from "../../../server/http-route.ts";
import { RateLimit } from "./rate-limit.ts";

/** One handler of a pipeline; what it leaves out, it does not change. */
interface Middleware {
  begin?(request: PassingRequest): { readonly url: string } | { readonly answer: RouteAnswer };
  body?(body: Uint8Array): Uint8Array;
}

/**
 * The pipeline of those handlers that have a component of their name and type; others are passed over.
 * Undefined when there is none.
 */
export function pipelineOf(
  handlers: readonly PipelineHandler[],
  components: readonly MiddlewareResource[],
): HttpPipeline | undefined {
  const middlewares = handlers.flatMap(({ name, type }) => {
    const found = components.find((each) => each.name === name && each.type === type.toLowerCase());
    return found ? [middlewareOf(found)] : [];
  });
  return middlewares.length > 0 ? new Pipeline(middlewares) : undefined;
}

class Pipeline implements HttpPipeline {
  readonly #middlewares: readonly Middleware[];

  constructor(middlewares: readonly Middleware[]) {
    this.#middlewares = middlewares;
  }

  begin(request: PassingRequest): { readonly url: string } | { readonly answer: RouteAnswer } {
    let { url } = request;
    for (const middleware of this.#middlewares) {
      const passed = middleware.begin?.({ ...request, url });
      if (passed && "answer" in passed) return passed;
      url = passed?.url ?? url;
    }
    return { url };
  }

  body(body: Uint8Array): Uint8Array {
    return this.#middlewares.reduce((given, middleware) => middleware.body?.(given) ?? given, body);
  }
}

function middlewareOf(resource: MiddlewareResource): Middleware {
  switch (resource.type) {
    case "middleware.http.uppercase":
      return upperCase;
    case "middleware.http.routeralias":
      return routeAlias(resource.settings.routes);
    case "middleware.http.ratelimit":
      return new RateLimit(resource.settings.maxRequestsPerSecond);
    case "middleware.http.routerchecker":
      return routerChecker(resource.settings.rule);
  }
}

const upperCase: Middleware = {
  body: (body) => Buffer.from(Buffer.from(body).toString("utf8").toUpperCase()),
};

/** Replaces the whole path, once. What the alias has for a query comes before the request's own. */
function routeAlias(routes: ReadonlyMap<string, string>): Middleware {
  return {
    begin({ url }) {
      const [path = "", query] = url.split(/\?(.*)/s, 2);
      const to = routes.get(path) ?? routes.get(path.replace(/^\/+/, "/"));
      if (to === undefined) return { url };
      if (query === undefined) return { url: to };
      return { url: `${to}${to.includes("?") ? "&" : "?"}${query}` };
    },
  };
}

/** Refuses paths that the rule does not match. */
function routerChecker(rule: RegExp): Middleware {
  return {
    begin: ({ url }) =>
      rule.test(url.split("?", 1)[0]!)
        ? { url }
        : { answer: { status: 400, headers: { "content-type": "text/plain" }, body: "Bad Request" } },
  };
}
