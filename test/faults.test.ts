import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorToJson } from "@connectrpc/connect/protocol-connect";
import { expect, it } from "vitest";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { fault, faultCodes, invalidRequest, type Reason, reasonOf } from "../src/faults.ts";

it("a fault has its reason's code, and details that any client can read", () => {
  const violations = [{ field: "writes[2].set.key", description: "is too long" }];
  const cause = new Error("why");
  const details = { metadata: { store: "größe" }, violations, retryAfterMs: 1500, cause };
  const error = fault("COMPONENT_UNAVAILABLE", "the store is away", details);
  const expected = new ConnectError("the store is away", Code.Unavailable, undefined, [
    {
      desc: ErrorInfoSchema,
      value: { reason: "COMPONENT_UNAVAILABLE", domain: "outrider.dev", metadata: { store: "größe" } },
    },
    { desc: BadRequestSchema, value: { fieldViolations: violations } },
    { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(1500) } },
  ]);
  expect(JSON.stringify(errorToJson(error, undefined))).toBe(
    JSON.stringify(errorToJson(expected, undefined)),
  );
  expect([error.name, error.message, error.cause]).toEqual([expected.name, expected.message, cause]);
});

it("a fault without anything more has an ErrorInfo alone, without metadata", () => {
  const error = fault("CANCELLED", "the client ended the call");
  expect(errorToJson(error, undefined)).toEqual({
    code: "canceled",
    message: "the client ended the call",
    details: [
      {
        type: "google.rpc.ErrorInfo",
        value: expect.any(String),
        debug: { reason: "CANCELLED", domain: "outrider.dev" },
      },
    ],
  });
});

it("an invalid request names each field at fault", () => {
  const error = invalidRequest(
    { field: "key", description: "is empty" },
    { field: "etag", description: "x" },
  );
  expect([reasonOf(error), error.rawMessage]).toEqual(["INVALID_REQUEST", "key: is empty; etag: x"]);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject([
    { field: "key", description: "is empty" },
    { field: "etag", description: "x" },
  ]);
});

it("every fault gives its reason, and is an error of Connect", () => {
  for (const reason of Object.keys(faultCodes) as Reason[]) {
    const error = fault(reason, "a sentence");
    expect([reasonOf(error), error.code]).toEqual([reason, faultCodes[reason]]);
    expect(error).toBeInstanceOf(ConnectError);
    expect(ConnectError.from(error)).toBe(error);
  }
});

it("what is no fault has no reason, whatever else it is", () => {
  const others = [undefined, null, "TOO_LARGE", new Error("a"), new ConnectError("b", Code.Aborted)];
  // As another sidecar's fault arrives, which says nothing of this one.
  const arrived = new ConnectError("c", Code.Aborted);
  arrived.details = fault("ETAG_MISMATCH", "c").details;
  const posing = Object.assign(new Error("d"), { reason: "TOO_LARGE" });
  for (const other of [...others, arrived, posing]) expect(reasonOf(other)).toBeUndefined();
});

it("half of a surrogate pair in a fault's sentence is replaced, since it could not be sent", () => {
  const error = fault("NOT_SUPPORTED", "half \ud800 a character");
  expect(error.rawMessage).toBe("half \ufffd a character");
});
