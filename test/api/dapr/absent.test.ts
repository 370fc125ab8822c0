/** Blocks of Dapr's API that have no component here answer as Dapr does when none is configured. */
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, it } from "vitest";
import { Dapr } from "../../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import { absentBlocks } from "../../../src/api/dapr/absent/blocks.ts";
import { daprRpcs, daprTypeName } from "../../../src/api/dapr/contract.ts";
import { errorOf } from "./cases/grpc-errors.ts";
import { Daprd } from "./daprd.ts";

type AnyMethod = (input: unknown) => Promise<unknown> | AsyncIterable<unknown>;

/** Calls an RPC of any kind, and reads what it answers. */
async function call(daprd: Daprd, rpc: string, request: object): Promise<unknown> {
  const { localName, methodKind } = Dapr.methods.find(({ name }) => name === rpc)!;
  const client = createClient(Dapr, createGrpcTransport({ baseUrl: `http://127.0.0.1:${daprd.grpcPort}` }));
  const method = client[localName as keyof typeof client] as AnyMethod;
  const streams = methodKind === "bidi_streaming" || methodKind === "client_streaming";
  async function* one() {
    yield request;
  }
  const answer = method(streams ? one() : request);
  if (!(Symbol.asyncIterator in answer)) return answer;
  for await (const message of answer) return message;
  return undefined;
}

async function ask(daprd: Daprd, method: string, path: string, headers: Record<string, string> = {}) {
  const answer = await fetch(daprd.url(path), { method: method === "ANY" ? "PATCH" : method, headers });
  return { status: answer.status, body: await answer.json() };
}

describe("a block without a component", () => {
  it("has every RPC of Dapr's service that nothing else serves", () => {
    expect(daprTypeName).toBe(Dapr.typeName);
    expect(daprRpcs.toSorted()).toEqual(Dapr.methods.map(({ name }) => name).sort());
    const absent = absentBlocks.flatMap(({ rpcs }) => rpcs);
    expect(new Set(absent).size).toBe(absent.length);
    const served = Dapr.methods.map(({ name }) => name).filter((name) => !absent.includes(name));
    expect(served.sort()).toEqual([
      ...["BulkPublishEvent", "BulkPublishEventAlpha1", "DeleteBulkState", "DeleteState"],
      ...["ExecuteStateTransaction", "GetBulkSecret", "GetBulkState", "GetMetadata", "GetSecret", "GetState"],
      ...["PublishEvent", "QueryStateAlpha1", "SaveState", "SetMetadata", "Shutdown"],
      "SubscribeTopicEventsAlpha1",
    ]);
  });

  it("answers each of its RPCs with Dapr's error", async () => {
    await using daprd = await Daprd.start({ appId: "me" });
    const { appId } = daprd;
    for (const { rpcs, error, message } of absentBlocks) {
      for (const rpc of rpcs) {
        const named = { name: "x", id: "x", storeName: "x", componentName: "x" };
        const streamed = /^(SetBinaryFile|Encrypt|Decrypt|SubscribeActor)/.test(rpc);
        const expected = message.replaceAll("{}", streamed ? "" : "x");
        const ErrorInfo = {
          domain: "dapr.io",
          reason: error.reason,
          metadata: { appID: appId, namespace: "" },
        };
        const failure = await errorOf(call(daprd, rpc, named));
        const code = Code[error.code];
        expect({ rpc, ...failure }).toMatchObject({ rpc, code, message: expected });
        expect(failure.count).toBe(error.reason ? 1 : 0);
        if (error.reason) expect(failure).toMatchObject({ ErrorInfo });
      }
    }
  });

  it("answers each of its paths with Dapr's status and error code", async () => {
    await using daprd = await Daprd.start({ appId: "me" });
    for (const { error, message, paths } of absentBlocks) {
      for (const { methods, path } of paths) {
        for (const method of methods) {
          const answer = await ask(daprd, method, path.replace("*", "a/b").replaceAll(/:\w+/g, "x"));
          const expected = { errorCode: error.errorCode, message: message.replaceAll("{}", "x") };
          expect({ method, path, ...answer }).toMatchObject({ status: error.status, body: expected });
        }
      }
    }
  });

  it("answers a call of its own application, and one of a URL, with another error", async () => {
    await using daprd = await Daprd.start({ appId: "me" });
    const body = { errorCode: "ERR_DIRECT_INVOKE", message: "invoke API is not ready" };
    expect(await ask(daprd, "POST", "/v1.0/invoke/me/method/a")).toEqual({ status: 500, body });
    const url = encodeURIComponent("http://localhost:1");
    expect(await ask(daprd, "GET", `/v1.0/invoke/${url}/method/a`)).toEqual({ status: 500, body });
    expect(await errorOf(daprd.grpc.invokeService({ id: "me" }))).toMatchObject({ code: "Internal" });
  });

  it("answers paths of no API as calls without an application", async () => {
    await using daprd = await Daprd.start({ appId: "me" });
    const message = "failed getting app id either from the URL path or the header dapr-app-id";
    const expected = { status: 404, body: { errorCode: "ERR_DIRECT_INVOKE", message } };
    expect(await ask(daprd, "GET", "/v1.0/nothing/here")).toEqual(expected);
    expect(await ask(daprd, "GET", "/v1.0/publish/a/b")).toEqual(expected);
    expect(await ask(daprd, "PATCH", "/v1.0-alpha2/x")).toEqual(expected);
    expect(await ask(daprd, "POST", "/v1.0/invoke/x")).toEqual(expected);
  });
});
