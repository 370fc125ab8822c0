/** What callers over gRPC are told that come without an API token, or with another. */
import { Code } from "@connectrpc/connect";
import type { TokenRefusals } from "../../server/authentication.ts";
import { DaprError } from "./errors.ts";

const unauthorized = "Unauthorized";
const kind = { code: Code.Unauthenticated, status: 401, errorCode: "", reason: unauthorized } as const;

/** The words are Dapr's: the HTTP status, with what is wrong in its details. */
export const daprTokenRefusals: TokenRefusals = {
  missing: () => refusal("missing api token in request metadata"),
  wrong: () => refusal("authentication error: api token mismatch"),
};

function refusal(why: string): DaprError {
  return new DaprError(kind, unauthorized, {
    metadata: { "http.code": String(kind.status), "http.error_message": why },
  });
}
