/** Metadata, health and shutdown over HTTP. */
import type { HttpRoute } from "../../../server/http-route.ts";
import { isForced } from "../force-shutdown.ts";
import type { DaprMetadata } from "../metadata.ts";
import { json, noContent } from "./answers.ts";

/** What the routes ask of the sidecar. */
export interface SidecarHealth {
  readonly appId: string;
  /** Everything that was configured works, the application included. */
  readonly ready: () => boolean;
  /** Components and ports work: what an application waits for that needs a store to start. */
  readonly outboundReady: () => boolean;
}

/** The routes that the public port has as well. */
export function healthAndMetadataRoutes(metadata: DaprMetadata, health: SidecarHealth): HttpRoute[] {
  return [
    {
      method: "GET",
      path: "/v1.0/healthz",
      withoutToken: true,
      handle({ query }) {
        const asked = query.get("appid");
        if (asked !== null && asked !== health.appId)
          return notReady("ERR_HEALTH_APPID_NOT_MATCH", "dapr app-id does not match");
        return health.ready() ? noContent : notReady("ERR_HEALTH_NOT_READY", "dapr is not ready");
      },
    },
    {
      method: "GET",
      path: "/v1.0/healthz/outbound",
      withoutToken: true,
      handle: () =>
        health.outboundReady()
          ? noContent
          : notReady("ERR_OUTBOUND_HEALTH_NOT_READY", "dapr outbound is not ready"),
    },
    { method: "GET", path: "/v1.0/metadata", handle: () => json(metadata.json()) },
  ];
}

/** The routes that change something. */
export function controlRoutes(metadata: DaprMetadata, shutdown: (force: boolean) => void): HttpRoute[] {
  return [
    {
      method: "PUT",
      path: "/v1.0/metadata/:key",
      handle({ params, body }) {
        metadata.set(params["key"]!, Buffer.from(body).toString());
        return noContent;
      },
    },
    {
      method: "POST",
      path: "/v1.0/shutdown",
      handle({ header }) {
        // After the answer has left.
        setImmediate(() => shutdown(isForced(header("dapr-force-shutdown"))));
        return noContent;
      },
    },
  ];
}

function notReady(errorCode: string, message: string) {
  return { ...json({ errorCode, message }), status: 500 };
}
