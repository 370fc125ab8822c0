/** The errors that Dapr's clients know: a gRPC status, an HTTP status with a code of its own, and details. */
import { Code, ConnectError } from "@connectrpc/connect";
import { badRequest, errorInfo, help, resourceInfo } from "../../protobuf/error-details.ts";

/** `ErrorInfo.domain` of every error of this API. */
const daprErrorDomain = "dapr.io";

/** What kind of error it is, in both protocols. */
export interface DaprErrorKind {
  readonly code: Code;
  /** The HTTP status. */
  readonly status: number;
  /** `errorCode` in the HTTP body. */
  readonly errorCode: string;
  /** `ErrorInfo.reason`; undefined for the older errors, which have no details. */
  readonly reason?: string;
}

/** What an error carries beside its message. */
export interface DaprErrorDetails {
  /** ResourceInfo. */
  readonly resource?: { readonly type: string; readonly name: string };
  /** `ErrorInfo.domain`, where it is not Dapr's. */
  readonly domain?: string;
  /** `ErrorInfo.metadata`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** BadRequest: the field at fault; its description is the message. */
  readonly field?: string;
  /** Help: where to read on. */
  readonly help?: { readonly url: string; readonly description: string };
  /** Logged here, never sent. */
  readonly cause?: unknown;
}

/** What `details` are made of, with what is there by default. */
export interface ToldDetails extends Omit<DaprErrorDetails, "cause"> {
  readonly reason: string;
  readonly domain: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** An error of this API. */
export class DaprError extends ConnectError {
  readonly kind: DaprErrorKind;
  /** The details, for those who write them in another form; undefined where there are none. */
  readonly told: ToldDetails | undefined;

  /** ConnectError's own says yes to every ConnectError. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof ConnectError && "kind" in value;
  }

  constructor(kind: DaprErrorKind, message: string, details: DaprErrorDetails = {}) {
    // Half of a surrogate pair, from a key or a topic that is quoted, cannot be sent.
    super(message.toWellFormed(), kind.code, undefined, undefined, details.cause);
    this.kind = kind;
    const { reason } = kind;
    if (reason === undefined) return;
    const { cause: _, ...given } = details;
    this.told = { reason, domain: daprErrorDomain, ...given, metadata: { ...given.metadata } };
    const { domain, metadata, resource, field, help: link } = this.told;
    this.details.push(errorInfo(reason, domain, metadata));
    if (resource) this.details.push(resourceInfo(resource.type, resource.name));
    if (field) this.details.push(badRequest([{ field, description: this.rawMessage }]));
    if (link) this.details.push(help([link]));
  }
}

const { InvalidArgument, FailedPrecondition, Internal, Unimplemented, PermissionDenied, Aborted } = Code;

/** The kinds of the blocks that are served, by their names in Dapr's documentation. */
export const daprErrors = {
  stateNotConfigured: {
    code: FailedPrecondition,
    status: 500,
    errorCode: "ERR_STATE_STORE_NOT_CONFIGURED",
    reason: "DAPR_STATE_NOT_CONFIGURED",
  },
  stateNotFound: {
    code: InvalidArgument,
    status: 400,
    errorCode: "ERR_STATE_STORE_NOT_FOUND",
    reason: "DAPR_STATE_NOT_FOUND",
  },
  stateIllegalKey: {
    code: InvalidArgument,
    status: 400,
    errorCode: "ERR_MALFORMED_REQUEST",
    reason: "DAPR_STATE_ILLEGAL_KEY",
  },
  malformedRequest: { code: InvalidArgument, status: 400, errorCode: "ERR_MALFORMED_REQUEST" },
  stateGet: { code: Internal, status: 500, errorCode: "ERR_STATE_GET" },
  stateSave: { code: Internal, status: 500, errorCode: "ERR_STATE_SAVE" },
  stateSaveMismatch: { code: Aborted, status: 409, errorCode: "ERR_STATE_SAVE" },
  stateDelete: { code: Internal, status: 500, errorCode: "ERR_STATE_DELETE" },
  stateDeleteMismatch: { code: Aborted, status: 409, errorCode: "ERR_STATE_DELETE" },
  stateBulkDelete: { code: Internal, status: 500, errorCode: "ERR_STATE_BULK_DELETE" },
  stateBulkDeleteMismatch: { code: Aborted, status: 409, errorCode: "ERR_STATE_BULK_DELETE" },
  stateTransaction: { code: Internal, status: 500, errorCode: "ERR_STATE_TRANSACTION" },
  stateTransactionsNotSupported: {
    code: Unimplemented,
    status: 500,
    errorCode: "ERR_STATE_STORE_NOT_SUPPORTED",
    reason: "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
  },
  stateTooManyTransactions: {
    code: InvalidArgument,
    status: 400,
    errorCode: "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
    reason: "DAPR_STATE_TOO_MANY_TRANSACTIONS",
  },
  stateOperation: { code: Unimplemented, status: 400, errorCode: "ERR_NOT_SUPPORTED_STATE_OPERATION" },
  stateQueryNotSupported: {
    code: Internal,
    status: 500,
    errorCode: "ERR_STATE_STORE_NOT_SUPPORTED",
    reason: "DAPR_STATE_QUERYING_NOT_SUPPORTED",
  },
  stateQuery: {
    code: Internal,
    status: 500,
    errorCode: "ERR_STATE_QUERY",
    reason: "DAPR_STATE_QUERY_FAILED",
  },
  pubsubNameEmpty: {
    code: InvalidArgument,
    status: 404,
    errorCode: "ERR_PUBSUB_EMPTY",
    reason: "DAPR_PUBSUB_NAME_EMPTY",
  },
  pubsubNotFound: {
    code: InvalidArgument,
    status: 404,
    errorCode: "ERR_PUBSUB_NOT_FOUND",
    reason: "DAPR_PUBSUB_NOT_FOUND",
  },
  pubsubTopicEmpty: {
    code: InvalidArgument,
    status: 404,
    errorCode: "ERR_TOPIC_NAME_EMPTY",
    reason: "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
  },
  pubsubForbidden: {
    code: PermissionDenied,
    status: 403,
    errorCode: "ERR_PUBSUB_FORBIDDEN",
    reason: "DAPR_PUBSUB_FORBIDDEN",
  },
  pubsubMetadata: {
    code: InvalidArgument,
    status: 400,
    errorCode: "ERR_PUBSUB_REQUEST_METADATA",
    reason: "DAPR_PUBSUB_METADATA_DESERIALIZATION",
  },
  pubsubCloudEvent: {
    code: InvalidArgument,
    status: 500,
    errorCode: "ERR_PUBSUB_CLOUD_EVENTS_SER",
    reason: "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
  },
  pubsubMarshalEnvelope: {
    code: InvalidArgument,
    status: 400,
    errorCode: "ERR_PUBSUB_EVENTS_SER",
    reason: "DAPR_PUBSUB_MARSHAL_ENVELOPE",
  },
  pubsubMarshalEvents: {
    code: InvalidArgument,
    status: 400,
    errorCode: "ERR_PUBSUB_EVENTS_SER",
    reason: "DAPR_PUBSUB_MARSHAL_EVENTS",
  },
  pubsubUnmarshalEvents: {
    code: InvalidArgument,
    status: 400,
    errorCode: "ERR_PUBSUB_EVENTS_SER",
    reason: "DAPR_PUBSUB_UNMARSHAL_EVENTS",
  },
  pubsubPublish: {
    code: Internal,
    status: 500,
    errorCode: "ERR_PUBSUB_PUBLISH_MESSAGE",
    reason: "DAPR_PUBSUB_PUBLISH_MESSAGE",
  },
  pubsubOutbox: {
    code: Internal,
    status: 500,
    errorCode: "ERR_PUBLISH_OUTBOX",
    reason: "DAPR_PUBSUB_OUTBOX",
  },
  secretsNotConfigured: {
    code: FailedPrecondition,
    status: 500,
    errorCode: "ERR_SECRET_STORES_NOT_CONFIGURED",
  },
  secretsNotFound: { code: InvalidArgument, status: 401, errorCode: "ERR_SECRET_STORE_NOT_FOUND" },
  secretsDenied: { code: PermissionDenied, status: 403, errorCode: "ERR_PERMISSION_DENIED" },
  secretsGet: { code: Internal, status: 500, errorCode: "ERR_SECRET_GET" },
} as const satisfies Record<string, DaprErrorKind>;
