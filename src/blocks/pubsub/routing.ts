/** Names deliveries by what is in them. */
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { compileRules } from "./rules.ts";

/** The routes of a subscription. */
export interface Routing {
  /** The route of an event, "" when there are no routes; undefined when the event is not for this group. */
  routeOf(event: Event): string | undefined;
  /** The same for the same routes: for comparing. */
  readonly text: string;
}

const maxRoutes = 64;
const maxRouteNameBytes = 256;

/** Compiles routes; tells each mistake to `no` with its field. */
export function compileRouting(
  routes: readonly { readonly name: string; readonly rule: string }[],
  defaultRoute: string,
  no: (field: string, description: string) => void,
): Routing {
  const text = JSON.stringify([routes.map(({ name, rule }) => [name, rule]), defaultRoute]);
  if (routes.length === 0) return { text, routeOf: () => defaultRoute };
  if (routes.length > maxRoutes) no("open.routes", `must be at most ${maxRoutes}`);
  for (const [index, { name }] of routes.entries()) {
    if (name === "" || Buffer.byteLength(name) > maxRouteNameBytes) {
      no(`open.routes[${index}].name`, `must have 1 to ${maxRouteNameBytes} bytes`);
    }
  }
  const compiled = compileRules(routes);
  for (const { field, description } of compiled.violations) no(`open.${field}`, description);
  return { text, routeOf: (event) => compiled.match(event) ?? (defaultRoute || undefined) };
}
