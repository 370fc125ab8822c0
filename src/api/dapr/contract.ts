/** The names in Dapr's gRPC contract. The rest of it, which is large, is loaded with `service.ts` when it is called first. */
import { absentBlocks } from "./absent/blocks.ts";

/** The service's full name. */
export const daprTypeName = "dapr.proto.runtime.v1.Dapr";

/** The RPCs of blocks that there are. */
const servedRpcs: readonly string[] = [
  ...["GetState", "GetBulkState", "SaveState", "QueryStateAlpha1", "DeleteState", "DeleteBulkState"],
  ...["ExecuteStateTransaction", "PublishEvent", "BulkPublishEvent", "BulkPublishEventAlpha1"],
  ...["SubscribeTopicEventsAlpha1", "GetSecret", "GetBulkSecret", "GetMetadata", "SetMetadata", "Shutdown"],
];

/** Every RPC of the service. */
export const daprRpcs: readonly string[] = [...servedRpcs, ...absentBlocks.flatMap(({ rpcs }) => rpcs)];
