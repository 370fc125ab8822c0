/** Answers and requests in Dapr's form of HTTP and JSON. */
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  HelpSchema,
  ResourceInfoSchema,
} from "../../../../gen/google/rpc/error_details_pb.ts";
import { reasonOf } from "../../../faults.ts";
import type { HttpRoute, RouteAnswer, RouteRequest } from "../../../server/http-route.ts";
import { DaprError, daprErrors } from "../errors.ts";

const jsonType = "application/json";
const detailSchemas: readonly DescMessage[] = [
  ErrorInfoSchema,
  ResourceInfoSchema,
  BadRequestSchema,
  HelpSchema,
];

/** Success without a body. */
export const noContent: RouteAnswer = { status: 204 };

/** Success with JSON. */
export function json(value: unknown): RouteAnswer {
  return { status: 200, headers: { "content-type": jsonType }, body: JSON.stringify(value) };
}

/** The answer to a request without a token, or with another. */
const noToken: RouteAnswer = {
  status: 401,
  headers: { "content-type": "text/plain; charset=utf-8" },
  body: "invalid api token\n",
};

/** What a route threw: `{errorCode, message, details}`. */
export function errorAnswer(error: unknown): RouteAnswer {
  if (reasonOf(error) === "UNAUTHENTICATED") return noToken;
  const { status, errorCode } = kindOf(error);
  const message = error instanceof ConnectError ? error.rawMessage : "internal error";
  const details = error instanceof DaprError ? detailsOf(error) : [];
  const body = JSON.stringify({ errorCode, message, ...(details.length > 0 && { details }) });
  return { status, headers: { "content-type": jsonType }, body };
}

/** Dapr takes both methods wherever something is written. */
export function postAndPut(path: string, handle: HttpRoute["handle"]): HttpRoute[] {
  return [
    { method: "POST", path, handle },
    { method: "PUT", path, handle },
  ];
}

/** The body as JSON. Throws ERR_MALFORMED_REQUEST. */
export function jsonBody({ body }: RouteRequest): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw malformed("the body is no JSON");
  }
}

/** The error for a request that makes no sense. */
export function malformed(why: string): DaprError {
  return new DaprError(daprErrors.malformedRequest, `failed deserializing HTTP body: ${why}`);
}

/** What the query string has as `metadata.<name>`. */
export function queryMetadata({ query }: RouteRequest): Record<string, string> {
  const metadata: Record<string, string> = {};
  for (const [name, value] of query)
    if (name.startsWith("metadata.")) metadata[name.slice("metadata.".length)] = value;
  return metadata;
}

function kindOf(error: unknown): { status: number; errorCode: string } {
  if (error instanceof DaprError) return error.kind;
  if (reasonOf(error) === "TOO_LARGE") return { status: 413, errorCode: "ERR_BODY_TOO_LARGE" };
  if (error instanceof ConnectError && error.code === Code.DeadlineExceeded)
    return { status: 504, errorCode: "ERR_DEADLINE_EXCEEDED" };
  return { status: 500, errorCode: "ERR_INTERNAL" };
}

function detailsOf(error: DaprError): unknown[] {
  return detailSchemas.flatMap((schema) =>
    error.findDetails(schema).map((detail) => detailOf(schema, detail, error.isForeign)),
  );
}

function detailOf(schema: DescMessage, detail: MessageShape<DescMessage>, isForeign: boolean): unknown {
  const value = toJson(schema, detail) as Record<string, unknown>;
  // Dapr writes what a component says by another way than what it says itself.
  const nothing = isForeign && schema === ErrorInfoSchema ? { metadata: null } : {};
  return { "@type": `type.googleapis.com/${schema.typeName}`, ...nothing, ...value };
}
