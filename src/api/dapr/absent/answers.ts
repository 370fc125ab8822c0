/** What the RPCs and routes of blocks without a component answer: each its error, as Dapr has it. */
import { Code, type ServiceImpl } from "@connectrpc/connect";
import type { Dapr } from "../../../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import type { HttpRoute } from "../../../server/http-route.ts";
import { daprPaths } from "../contract.ts";
import { DaprError, type DaprErrorKind } from "../errors.ts";
import { type AbsentBlock, absentBlocks } from "./blocks.ts";

/** Who answers. */
export interface AbsentOptions {
  readonly appId: string;
  /** "" for none. */
  readonly namespace: string;
}

/** Where requests have the name that the message repeats. */
const nameFields = ["name", "storeName", "componentName", "id"] as const;

const noAppId: DaprErrorKind = { code: Code.NotFound, status: 404, errorCode: "ERR_DIRECT_INVOKE" };
const notReady: DaprErrorKind = { code: Code.Internal, status: 500, errorCode: "ERR_DIRECT_INVOKE" };

/** The RPCs of these blocks, by their local names. */
export function absentMethods(options: AbsentOptions): Partial<ServiceImpl<typeof Dapr>> {
  const methods = absentBlocks.flatMap((block) =>
    block.rpcs.map((rpc) => {
      const fail = (request: unknown): never => {
        throw errorOf(block, nameIn(request), options);
      };
      return [rpc.charAt(0).toLowerCase() + rpc.slice(1), fail];
    }),
  );
  // Of the same methods, which the compiler cannot know.
  return Object.fromEntries(methods) as Partial<ServiceImpl<typeof Dapr>>;
}

/** The routes of these blocks, and those for what else begins like a path of Dapr's API. */
export function absentRoutes(options: AbsentOptions): HttpRoute[] {
  const routes = absentBlocks.flatMap((block) =>
    block.paths.flatMap(({ methods, path }) =>
      methods.map((method): HttpRoute => {
        const handle: HttpRoute["handle"] = ({ params }) => {
          throw errorOf(block, params["name"] ?? "", options);
        };
        return { method, path, handle };
      }),
    ),
  );
  // Dapr takes every path that it does not know for a call of an application that it cannot find.
  const unknown: HttpRoute["handle"] = () => {
    throw new DaprError(noAppId, "failed getting app id either from the URL path or the header dapr-app-id");
  };
  return [
    ...routes,
    ...daprPaths.flatMap((start) =>
      [start, `${start}/*`].map(
        (path): HttpRoute => ({ method: "ANY", path, isFallback: true, handle: unknown }),
      ),
    ),
  ];
}

function errorOf({ block, error, message }: AbsentBlock, name: string, options: AbsentOptions): DaprError {
  // It would be found: but nobody could call it.
  if (block === "service invocation" && (name === options.appId || /^https?:/.test(name)))
    return new DaprError(notReady, "invoke API is not ready");
  const { appId, namespace } = options;
  return new DaprError(
    error,
    message.replaceAll("{}", () => name),
    {
      metadata: { appID: appId, namespace },
    },
  );
}

function nameIn(request: unknown): string {
  const fields = request as Readonly<Record<string, unknown>>;
  const name = nameFields.map((field) => fields[field]).find((value) => typeof value === "string");
  return typeof name === "string" ? name : "";
}
