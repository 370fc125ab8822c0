/** Dapr's HTTP API: every route. */
import type { HttpRoute, HttpRoutes } from "../../../server/http-route.ts";
import type { ErrorCodes } from "../error-codes.ts";
import type { DaprApi } from "../service.ts";
import { errorAnswer } from "./answers.ts";
import { publishRoutes } from "./publish.ts";
import { secretRoutes } from "./secrets.ts";
import { controlRoutes, healthAndMetadataRoutes, type SidecarHealth } from "./sidecar.ts";
import { stateRoutes } from "./state.ts";

/** Makes the routes of the public port. */
export function publicRoutes({ metadata }: DaprApi, health: SidecarHealth): HttpRoutes {
  return { routes: healthAndMetadataRoutes(metadata, health), errorAnswer };
}

/** Makes the routes, `absent` being those of blocks without a component. Errors are counted where that is asked for. */
export function daprRoutes(
  api: DaprApi,
  absent: readonly HttpRoute[],
  health: SidecarHealth,
  errorCodes?: ErrorCodes,
): HttpRoutes {
  return {
    routes: [
      ...stateRoutes(api.state),
      ...publishRoutes(api.publish),
      ...secretRoutes(api.secrets),
      ...healthAndMetadataRoutes(api.metadata, health),
      ...controlRoutes(api.metadata, (force) => api.shutdown(force)),
      ...absent,
    ],
    errorAnswer(error) {
      errorCodes?.count(error);
      return errorAnswer(error);
    },
  };
}
