/** Dapr's HTTP API: the routes that are loaded when one of them is asked for first. Health and metadata are there from the start. */
import type { HttpRoute } from "../../../server/http-route.ts";
import { type AbsentOptions, absentRoutes } from "../absent/answers.ts";
import type { DaprApi } from "../calls.ts";
import { publishRoutes } from "./publish.ts";
import { secretRoutes } from "./secrets.ts";
import { controlRoutes } from "./sidecar.ts";
import { stateRoutes } from "./state.ts";

/** Makes the routes, with those of blocks that have no component. */
export function daprRoutes(api: DaprApi, absent: AbsentOptions): HttpRoute[] {
  return [...servedRoutes(api), ...absentRoutes(absent)];
}

/** The routes of blocks that there are. */
export function servedRoutes(api: DaprApi): HttpRoute[] {
  return [
    ...stateRoutes(api.state),
    ...publishRoutes(api.publish),
    ...secretRoutes(api.secrets),
    ...controlRoutes(api.metadata, (force) => api.shutdown(force)),
  ];
}
