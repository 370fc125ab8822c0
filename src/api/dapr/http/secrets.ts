/** `/v1.0/secrets`: Dapr's secrets API over HTTP. */
import type { HttpRoute } from "../../../server/http-route.ts";
import type { DaprSecrets } from "../secrets.ts";
import { json } from "./answers.ts";

/** The routes of the secrets API. */
export function secretRoutes(secrets: DaprSecrets): HttpRoute[] {
  return [
    {
      method: "GET",
      path: "/v1.0/secrets/:store/bulk",
      handle: ({ params }) => {
        const all = [...secrets.getBulk(params["store"]!)];
        return json(Object.fromEntries(all.map(([name, fields]) => [name, Object.fromEntries(fields)])));
      },
    },
    {
      method: "GET",
      path: "/v1.0/secrets/:store/:name",
      handle: ({ params }) => json(Object.fromEntries(secrets.get(params["store"]!, params["name"]!))),
    },
  ];
}
