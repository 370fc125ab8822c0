/** The names in Dapr's API. The rest of it, which is large, is loaded when it is called first. */
import { absentBlocks } from "./absent/blocks.ts";

/** The service's full name. */
export const daprTypeName = "dapr.proto.runtime.v1.Dapr";

/** What paths of Dapr's HTTP API begin with. */
export const daprPaths = ["/v1.0", "/v1.0-alpha1", "/v1.0-alpha2", "/v1.0-beta1"] as const;

/** Whether Dapr's HTTP API answers at a path; it has an error for those that it does not know. */
export function isDaprPath(path: string): boolean {
  return daprPaths.some((start) => path === start || path.startsWith(`${start}/`));
}

/** The RPCs of blocks that there are. */
const servedRpcs: readonly string[] = [
  ...["GetState", "GetBulkState", "SaveState", "QueryStateAlpha1", "DeleteState", "DeleteBulkState"],
  ...["ExecuteStateTransaction", "PublishEvent", "BulkPublishEvent", "BulkPublishEventAlpha1"],
  ...["SubscribeTopicEventsAlpha1", "GetSecret", "GetBulkSecret", "GetMetadata", "SetMetadata", "Shutdown"],
];

/** Every RPC of the service. */
export const daprRpcs: readonly string[] = [...servedRpcs, ...absentBlocks.flatMap(({ rpcs }) => rpcs)];
