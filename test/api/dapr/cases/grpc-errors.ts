/** Errors of Dapr's gRPC API, with all of their details. */
import type { JsonObject } from "@bufbuild/protobuf";
import { type DescMessage, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  HelpSchema,
  ResourceInfoSchema,
} from "../../../../gen/google/rpc/error_details_pb.ts";

const schemas: readonly DescMessage[] = [ErrorInfoSchema, ResourceInfoSchema, BadRequestSchema, HelpSchema];

/** What a call fails with: its code by name, its message, how many details there are, and those by name. */
export async function errorOf(call: Promise<unknown>) {
  const error = await call.then(
    () => {
      throw new Error("the call succeeded");
    },
    (thrown: unknown) => ConnectError.from(thrown),
  );
  const details = Object.fromEntries(
    schemas.flatMap((schema) =>
      error.findDetails(schema).map((detail) => [schema.name, toJson(schema, detail) as JsonObject]),
    ),
  );
  return { code: Code[error.code], message: error.rawMessage, count: error.details.length, ...details };
}
