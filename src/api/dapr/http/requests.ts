/** What requests in Dapr's form of HTTP and JSON say. */
import * as z from "zod";
import type { RouteRequest } from "../../../server/http-route.ts";
import { DaprError, daprErrors } from "../errors.ts";
import { type ReadJson, readFirst } from "../go-json.ts";
import { type GoType, goMismatch } from "../go-types.ts";

/**
 * The body, which is to be of a schema, and of the type that it has in Dapr. Throws what `refuse` makes of the reason,
 * by default ERR_MALFORMED_REQUEST.
 */
export function jsonBody<Schema extends z.ZodType>(
  { body }: RouteRequest,
  schema: Schema,
  type: GoType,
  refuse: (why: string) => Error = malformed,
): ReadJson<z.output<Schema>> {
  const { text, value } = readFirst(body, refuse);
  const parsed = schema.safeParse(value);
  if (parsed.success) return { text, value: parsed.data };
  throw refuse(goMismatch(value, type) ?? z.prettifyError(parsed.error));
}

/** The error for a request that makes no sense. */
function malformed(why: string): DaprError {
  return malformedAs(`failed deserializing HTTP body: ${why}`);
}

/** The same, in no other words than these. */
export function malformedAs(message: string): DaprError {
  return new DaprError(daprErrors.malformedRequest, message);
}

/** What the query string has as `metadata.<name>`; of several of one name, the first. */
export function queryMetadata({ query }: RouteRequest): Record<string, string> {
  const metadata = new Map<string, string>();
  for (const [parameter, value] of query) {
    const [, name] = /^metadata\.(.*)$/s.exec(parameter) ?? [];
    if (name !== undefined && !metadata.has(name)) metadata.set(name, value);
  }
  return Object.fromEntries(metadata);
}
