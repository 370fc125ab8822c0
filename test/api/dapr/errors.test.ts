/** What both protocols say of an error of Dapr's API, as protobuf-es would write it. */
import { type DescMessage, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorToJson } from "@connectrpc/connect/protocol-connect";
import { describe, expect, it } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  HelpSchema,
  ResourceInfoSchema,
} from "../../../gen/google/rpc/error_details_pb.ts";
import { DaprError, type DaprErrorDetails, daprErrors } from "../../../src/api/dapr/errors.ts";
import { errorAnswer } from "../../../src/api/dapr/http/answers.ts";
import { errorForClient } from "../../../src/server/errors.ts";
import { silentLog } from "../../telemetry/quiet-telemetry.ts";

const kind = daprErrors.pubsubNotFound;
const reason = kind.reason;
const resource = { type: "pubsub", name: "größe" };
const link = { url: "https://docs.dapr.io/", description: "" };

function outgoing<Desc extends DescMessage>(desc: Desc, value: MessageInitShape<Desc>) {
  return { desc, value };
}

const cases: readonly (readonly [string, DaprErrorDetails, ReturnType<typeof outgoing>[]])[] = [
  ["nothing more", {}, [outgoing(ErrorInfoSchema, { reason, domain: "dapr.io" })]],
  [
    "everything",
    { metadata: { ["__proto__"]: "a", b: "" }, resource, field: "key", help: link, cause: new Error("why") },
    [
      outgoing(ErrorInfoSchema, { reason, domain: "dapr.io", metadata: { ["__proto__"]: "a", b: "" } }),
      outgoing(ResourceInfoSchema, { resourceType: "pubsub", resourceName: "größe" }),
      outgoing(BadRequestSchema, { fieldViolations: [{ field: "key", description: "a sentence" }] }),
      outgoing(HelpSchema, { links: [link] }),
    ],
  ],
  [
    "a component's own domain, and a resource without a name",
    { domain: "", metadata: {}, resource: { type: "", name: "" }, field: "" },
    [outgoing(ErrorInfoSchema, { reason, domain: "" }), outgoing(ResourceInfoSchema, {})],
  ],
];

describe.each(cases)("an error with %s", (_, details, expected) => {
  const error = new DaprError(kind, "a sentence", details);

  it("has the details of its messages over gRPC", () => {
    const other = new ConnectError("a sentence", kind.code, undefined, expected);
    expect(JSON.stringify(errorToJson(error, undefined))).toBe(JSON.stringify(errorToJson(other, undefined)));
  });

  it("has the same details over HTTP, with every member and its name in the contract", () => {
    const written = new ConnectError("", Code.Unknown, undefined, expected);
    const wanted = expected.flatMap(({ desc }) =>
      written.findDetails(desc).map((message) => ({
        "@type": `type.googleapis.com/${desc.typeName}`,
        ...(toJson(desc, message, { useProtoFieldName: true, alwaysEmitImplicit: true }) as object),
      })),
    );
    // Go writes no metadata as null; and its structures of violations have two members only.
    const text = JSON.stringify({ errorCode: kind.errorCode, message: "a sentence", details: wanted })
      .replace('"metadata":{}', '"metadata":null')
      .replace(',"reason":""}', "}");
    expect(errorAnswer(error)).toMatchObject({ status: 404, body: text });
  });
});

it("an older error has no details in either protocol", () => {
  const error = new DaprError(daprErrors.stateGet, "a sentence", { metadata: { a: "b" }, resource });
  expect(error.details).toEqual([]);
  expect(errorAnswer(error)).toMatchObject({ body: '{"errorCode":"ERR_STATE_GET","message":"a sentence"}' });
});

it("an error keeps its status, code and details when it quotes half of a surrogate pair", () => {
  const error = new DaprError(daprErrors.stateIllegalKey, "key a\ud800 is illegal", { field: "a" });
  const answer = errorAnswer(errorForClient(error, "POST /v1.0/state/{store}", silentLog()));
  expect(answer.status).toBe(400);
  expect(JSON.parse(String(answer.body))).toMatchObject({
    errorCode: "ERR_MALFORMED_REQUEST",
    message: "key a\ufffd is illegal",
    details: [{}, { field_violations: [{ field: "a", description: "key a\ufffd is illegal" }] }],
  });
});
