/**
 * The blocks of Dapr's API that have no component in this build, and what Dapr 1.18 answers then. Each entry is
 * for RPCs and paths that fail alike.
 */
import { Code } from "@connectrpc/connect";
import type { HttpRoute } from "../../../server/http-route.ts";
import type { DaprErrorKind } from "../errors.ts";

/** RPCs and paths, and how they fail. */
export interface AbsentBlock {
  /** As Dapr's documentation has it. */
  readonly block: string;
  readonly error: DaprErrorKind;
  /** `{}` stands for the component, or the application, that the request names. */
  readonly message: string;
  /** By their names in the service. */
  readonly rpcs: readonly string[];
  readonly paths: readonly AbsentPath[];
}

/** A path as the router has it; `:name` is what the message names. */
export interface AbsentPath {
  readonly methods: readonly HttpRoute["method"][];
  readonly path: string;
}

const { FailedPrecondition, Internal, InvalidArgument, Unavailable, Unimplemented } = Code;

const post = (path: string): AbsentPath => ({ methods: ["POST"], path });
const put = (path: string): AbsentPath => ({ methods: ["PUT"], path });
const get = (path: string): AbsentPath => ({ methods: ["GET"], path });
const remove = (path: string): AbsentPath => ({ methods: ["DELETE"], path });
const write = (path: string): AbsentPath => ({ methods: ["POST", "PUT"], path });

const noPlacement = {
  error: { code: Unavailable, status: 400, errorCode: "ERR_ACTOR_NO_PLACEMENT" },
  message: "placement service is not configured",
} as const;

const workflowPaths = ["/v1.0", "/v1.0-beta1", "/v1.0-alpha1"].flatMap((version) => {
  const path = `${version}/workflows/:component/:instance`;
  return [
    get(path),
    ...["start", "pause", "resume", "terminate", "purge"].map((verb) => post(`${path}/${verb}`)),
    post(`${path}/raiseEvent/:event`),
  ];
});

const actor = "/v1.0/actors/:type/:id";
const jobPaths = ["/v1.0/jobs/:name", "/v1.0-alpha1/jobs/:name"] as const;

/** How a job's operation fails without a scheduler. */
function job(operation: string, reason: string, rpcs: readonly string[], paths: readonly AbsentPath[]) {
  return {
    block: "jobs",
    error: { code: Internal, status: 500, errorCode: reason, reason },
    message: `failed to ${operation} due to: no scheduler client initialized`,
    rpcs,
    paths,
  };
}

/** See the head of this file. */
export const absentBlocks: readonly AbsentBlock[] = [
  {
    block: "service invocation",
    error: { code: Internal, status: 500, errorCode: "ERR_DIRECT_INVOKE" },
    message: "failed to invoke, id: {}, err: couldn't find service: {}",
    rpcs: ["InvokeService"],
    paths: [{ methods: ["ANY"], path: "/v1.0/invoke/:name/method/*" }],
  },
  {
    block: "bindings",
    error: { code: Internal, status: 500, errorCode: "ERR_INVOKE_OUTPUT_BINDING" },
    message: "error invoking output binding {}: couldn't find output binding {}",
    rpcs: ["InvokeBinding"],
    paths: [write("/v1.0/bindings/:name")],
  },
  {
    block: "actors",
    ...noPlacement,
    rpcs: [
      ...["RegisterActorTimer", "UnregisterActorTimer", "RegisterActorReminder", "UnregisterActorReminder"],
      ...["UnregisterActorRemindersByType", "ListActorReminders", "ListActorTimers", "GetActorState"],
      ...["GetActorReminder", "GetActorTimer", "ExecuteActorStateTransaction", "InvokeActor"],
    ],
    paths: [
      { methods: ["GET", "POST", "PUT", "DELETE"], path: `${actor}/method/:method` },
      write(`${actor}/state`),
      get(`${actor}/state/:key`),
      { methods: ["GET", "POST", "PUT", "DELETE"], path: `${actor}/reminders/:reminder` },
      { methods: ["POST", "PUT", "DELETE"], path: `${actor}/timers/:timer` },
    ],
  },
  {
    block: "actors",
    error: { code: FailedPrecondition, status: 500, errorCode: "" },
    message: "actor callback streaming requires a gRPC app channel",
    rpcs: ["SubscribeActorEventsAlpha1"],
    paths: [],
  },
  {
    block: "workflow",
    ...noPlacement,
    rpcs: ["Start", "Get", "Purge", "Terminate", "Pause", "Resume", "RaiseEvent"].flatMap((verb) => [
      `${verb}WorkflowAlpha1`,
      `${verb}WorkflowBeta1`,
    ]),
    paths: workflowPaths,
  },
  {
    block: "configuration",
    error: { code: FailedPrecondition, status: 500, errorCode: "ERR_CONFIGURATION_STORE_NOT_CONFIGURED" },
    message: "configuration stores not configured",
    rpcs: ["Get", "Subscribe", "Unsubscribe"].flatMap((verb) => [
      `${verb}Configuration`,
      `${verb}ConfigurationAlpha1`,
    ]),
    paths: ["/v1.0", "/v1.0-alpha1"].flatMap((version) => [
      get(`${version}/configuration/:name`),
      get(`${version}/configuration/:name/subscribe`),
      get(`${version}/configuration/:name/:subscription/unsubscribe`),
    ]),
  },
  {
    block: "distributed lock",
    error: { code: FailedPrecondition, status: 500, errorCode: "ERR_LOCK_STORE_NOT_CONFIGURED" },
    message: "lock store is not configured",
    rpcs: ["TryLockAlpha1", "UnlockAlpha1"],
    paths: [post("/v1.0-alpha1/lock/:name"), post("/v1.0-alpha1/unlock/:name")],
  },
  {
    block: "cryptography",
    error: { code: Internal, status: 500, errorCode: "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED" },
    message: "crypto providers not configured",
    rpcs: ["EncryptAlpha1", "DecryptAlpha1"],
    paths: [put("/v1.0-alpha1/crypto/:name/encrypt"), put("/v1.0-alpha1/crypto/:name/decrypt")],
  },
  {
    // Closed in Dapr's own builds, too.
    block: "cryptography",
    error: { code: Unimplemented, status: 501, errorCode: "ERR_API_UNIMPLEMENTED" },
    message: "this API is currently not implemented",
    rpcs: ["GetKey", "Encrypt", "Decrypt", "WrapKey", "UnwrapKey", "Sign", "Verify"].map(
      (verb) => `Subtle${verb}Alpha1`,
    ),
    paths: ["getkey", "encrypt", "decrypt", "wrapkey", "unwrapkey", "sign", "verify"].map((verb) =>
      post(`/v1.0-alpha1/subtlecrypto/:name/${verb}`),
    ),
  },
  job(
    "schedule job",
    "DAPR_SCHEDULER_SCHEDULE_JOB",
    ["ScheduleJob", "ScheduleJobAlpha1"],
    jobPaths.map(post),
  ),
  job("get job", "DAPR_SCHEDULER_GET_JOB", ["GetJob", "GetJobAlpha1"], jobPaths.map(get)),
  job("list jobs", "DAPR_SCHEDULER_LIST_JOBS", ["ListJobs", "ListJobsAlpha1"], []),
  job(
    "delete job",
    "DAPR_SCHEDULER_DELETE_JOB",
    ["DeleteJob", "DeleteJobAlpha1", "DeleteJobsByPrefix", "DeleteJobsByPrefixAlpha1"],
    jobPaths.map(remove),
  ),
  {
    block: "conversation",
    error: { code: InvalidArgument, status: 400, errorCode: "ERR_CONVERSATION_NOT_FOUND" },
    message: "failed finding conversation component {}",
    rpcs: ["ConverseAlpha1", "ConverseAlpha2"],
    paths: ["/v1.0-alpha1", "/v1.0-alpha2"].map((version) => post(`${version}/conversation/:name/converse`)),
  },
  {
    // These three are not in Dapr 1.18; its later versions have them over gRPC.
    block: "search",
    error: { code: FailedPrecondition, status: 500, errorCode: "" },
    message: "search store {} is not configured",
    rpcs: [
      ...["CreateIndexAlpha1", "GetIndexAlpha1", "ListIndexesAlpha1", "DeleteIndexAlpha1", "SearchAlpha1"],
      ...["IndexDocumentsAlpha1", "GetDocumentsAlpha1", "DeleteDocumentsAlpha1"],
    ],
    paths: [],
  },
  {
    block: "vectors",
    error: { code: FailedPrecondition, status: 500, errorCode: "" },
    message: "vector store {} is not configured",
    rpcs: [
      ...["CreateCollectionAlpha1", "GetCollectionAlpha1", "ListCollectionsAlpha1", "DeleteCollectionAlpha1"],
      ...["UpsertVectorsAlpha1", "DeleteVectorsAlpha1", "GetVectorsAlpha1", "QueryVectorsAlpha1"],
      "BatchQueryVectorsAlpha1",
    ],
    paths: [],
  },
  {
    block: "binary files",
    error: { code: InvalidArgument, status: 400, errorCode: "" },
    message: "failed finding binary store component {}",
    rpcs: ["SetBinaryFileAlpha1", "GetBinaryFileAlpha1", "DeleteBinaryFileAlpha1"],
    paths: [],
  },
];
