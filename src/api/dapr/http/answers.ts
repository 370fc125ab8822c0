/** Answers in Dapr's form of HTTP and JSON. */
import { Code, ConnectError } from "@connectrpc/connect";
import { reasonOf } from "../../../faults.ts";
import type { HttpRoute, RouteAnswer } from "../../../server/http-route.ts";
import { DaprError, daprErrors } from "../errors.ts";

const jsonType = "application/json";

/** Success without a body. */
export const noContent: RouteAnswer = { status: 204 };

/** Success with JSON. */
export function json(value: unknown): RouteAnswer {
  return jsonText(JSON.stringify(value));
}

/** Success with what is JSON already. */
export function jsonText(body: string): RouteAnswer {
  return { status: 200, headers: { "content-type": jsonType }, body };
}

/** The answer to a request without a token, or with another. */
const noToken: RouteAnswer = {
  status: 401,
  headers: { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" },
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

function kindOf(error: unknown): { status: number; errorCode: string } {
  if (error instanceof DaprError) return error.kind;
  if (reasonOf(error) === "INVALID_REQUEST") return daprErrors.malformedRequest;
  if (reasonOf(error) === "TOO_LARGE") return { status: 413, errorCode: "ERR_BODY_TOO_LARGE" };
  if (error instanceof ConnectError && error.code === Code.DeadlineExceeded)
    return { status: 504, errorCode: "ERR_DEADLINE_EXCEEDED" };
  return { status: 500, errorCode: "ERR_INTERNAL" };
}

/** Names as in the messages' sources, and every member, as Go writes structures: no metadata is `null`. */
function detailsOf({ told, rawMessage }: DaprError): unknown[] {
  if (!told) return [];
  const { reason, domain, metadata, resource, field, help } = told;
  const entries = Object.keys(metadata).length > 0 ? metadata : null;
  const details: unknown[] = [detail("ErrorInfo", { reason, domain, metadata: entries })];
  if (resource) {
    const named = { resource_type: resource.type, resource_name: resource.name };
    details.push(detail("ResourceInfo", { ...named, owner: "", description: "" }));
  }
  if (field) {
    details.push(detail("BadRequest", { field_violations: [{ field, description: rawMessage }] }));
  }
  if (help) {
    const { description, url } = help;
    details.push(detail("Help", { links: [{ description, url }] }));
  }
  return details;
}

function detail(name: string, members: object): object {
  return { "@type": `type.googleapis.com/google.rpc.${name}`, ...members };
}
