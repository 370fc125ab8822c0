/** Components of the HTTP pipelines: declared like others, and opened by nobody. */
import type { ZodType } from "zod";
import * as z from "zod";
import type { Declared } from "./declared-components.ts";
import { text } from "./fields.ts";
import { Metadata } from "./metadata.ts";
import type { Values } from "./values.ts";

const upperCase = z.object({});

/** A map of paths, in JSON or YAML: whoever asks for `/a` gets `/b`. */
const routeAlias = z.object({
  routes: text()
    .default("")
    .transform((value, context) => {
      const routes = routesIn(value);
      if (routes) return routes;
      context.addIssue({ code: "custom", message: "expected a map of paths in JSON or YAML" });
      return z.NEVER;
    }),
});

const rateLimit = z.object({
  maxRequestsPerSecond: text()
    .default("100")
    .transform((value, context) => {
      const rate = Number(value);
      if (Number.isFinite(rate) && rate > 0) return rate;
      context.addIssue({ code: "custom", message: "expected a number above 0" });
      return z.NEVER;
    }),
});

const routerChecker = z.object({
  rule: text().transform((value, context) => {
    try {
      return new RegExp(value, "u");
    } catch {
      context.addIssue({ code: "custom", message: "expected a regular expression" });
      return z.NEVER;
    }
  }),
});

/** The types of this build, and the schemas of their `spec.metadata`. */
export const middlewareTypes = {
  "middleware.http.uppercase": upperCase,
  "middleware.http.routeralias": routeAlias,
  "middleware.http.ratelimit": rateLimit,
  "middleware.http.routerchecker": routerChecker,
} as const;

/** A key of `middlewareTypes`. */
export type MiddlewareType = keyof typeof middlewareTypes;

/** A component of a pipeline. */
export type MiddlewareResource = {
  readonly [Type in MiddlewareType]: {
    readonly name: string;
    readonly type: Type;
    readonly version: string;
    readonly settings: z.output<(typeof middlewareTypes)[Type]>;
  };
}[MiddlewareType];

/** Whether a component is one of a pipeline. */
export function isMiddleware({ spec }: Declared): boolean {
  return Object.hasOwn(middlewareTypes, spec.type);
}

/** Reads one; undefined when there is a mistake. */
export function readMiddleware(
  { resource, spec, storeName }: Declared,
  values: Values,
): MiddlewareResource | undefined {
  const type = spec.type as MiddlewareType;
  const schema: ZodType = middlewareTypes[type];
  const settings = new Metadata(resource, type, [schema], spec.metadata, storeName, values).parse(schema);
  if (settings === undefined) return undefined;
  // The schema is the one of the type, which the compiler cannot follow.
  return Object.freeze({
    name: resource.name,
    type,
    version: spec.version || "v1",
    settings,
  }) as MiddlewareResource;
}

function routesIn(value: string): ReadonlyMap<string, string> | undefined {
  try {
    const routes: unknown = value.trim() === "" ? {} : JSON.parse(value);
    if (typeof routes !== "object" || routes === null || Array.isArray(routes)) return undefined;
    return new Map(Object.entries(routes).map(([from, to]) => [from, String(to)]));
  } catch {
    return linesIn(value);
  }
}

/** `/from: /to`, a line each, which is the YAML that people write there. */
function linesIn(value: string): ReadonlyMap<string, string> | undefined {
  const routes = new Map<string, string>();
  for (const line of value.split("\n").filter((each) => each.trim() !== "")) {
    const [, from, to] = /^\s*["']?(\/[^"']*?)["']?\s*:\s*["']?(\S*?)["']?\s*$/.exec(line) ?? [];
    if (from === undefined || to === undefined) return undefined;
    routes.set(from, to);
  }
  return routes;
}
