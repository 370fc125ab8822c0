/** Reflection, asked as grpcurl asks it. */
import { create, createFileRegistry, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type ServerReflectionRequestSchema,
  ServerReflection as V1,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import type { Listening } from "../../src/server/listening.ts";
import { reflectionMounts } from "../../src/server/reflection.ts";
import { mountsOf, Scene, startServer } from "./service.ts";

type Question = NonNullable<MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"]>;

let server: Listening;
beforeAll(async () => {
  const mounts = mountsOf(new Scene());
  server = await startServer("grpc", [...mounts, ...reflectionMounts(mounts)]);
});
afterAll(() => server.close(0));

describe.each([
  ["v1", V1],
  ["v1alpha", V1Alpha],
] as const)("%s", (_, service) => {
  async function ask(...questions: Question[]) {
    const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${server.port}` });
    const client = createClient(service as typeof V1, transport);
    async function* requests() {
      for (const messageRequest of questions) yield { host: "h", messageRequest };
    }
    const answers = [];
    for await (const { messageResponse } of client.serverReflectionInfo(requests()))
      answers.push(messageResponse);
    return answers;
  }

  it("lists what is served, itself included", async () => {
    const [answer] = await ask({ case: "listServices", value: "" });
    expect(answer?.case === "listServicesResponse" && answer.value.service.map(({ name }) => name)).toEqual([
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      "outrider.pubsub.v1.PubSubService",
      "outrider.state.v1.StateService",
    ]);
  });

  it.each<Question>([
    { case: "fileContainingSymbol", value: "outrider.state.v1.StateService" },
    { case: "fileContainingSymbol", value: "outrider.state.v1.StateService.Get" },
    { case: "fileContainingSymbol", value: ".outrider.state.v1.Item" },
    { case: "fileByFilename", value: "outrider/state/v1/state.proto" },
  ])("gives the file for $value, with all that it needs", async (question) => {
    const [answer] = await ask(question);
    if (answer?.case !== "fileDescriptorResponse") throw new Error(JSON.stringify(answer));
    const file = answer.value.fileDescriptorProto.map((bytes) =>
      fromBinary(FileDescriptorProtoSchema, bytes),
    );
    expect(file[0]?.name).toBe("outrider/state/v1/state.proto");
    // Dependencies first, as compilers have them; a missing one is an error.
    const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: file.toReversed() }));
    expect(registry.getService("outrider.state.v1.StateService")?.method.get?.output.typeName).toBe(
      "outrider.state.v1.GetResponse",
    );
  });

  it("answers what it does not know, and goes on", async () => {
    const answers = await ask(
      { case: "fileContainingSymbol", value: "nobody.Knows" },
      { case: "fileByFilename", value: "nobody.proto" },
      { case: "fileContainingExtension", value: { containingType: "a.B", extensionNumber: 1 } },
      { case: "allExtensionNumbersOfType", value: "outrider.state.v1.Item" },
      { case: undefined },
    );
    expect(
      answers.map((answer) => (answer.case === "errorResponse" ? answer.value.errorCode : "fine")),
    ).toEqual([Code.NotFound, Code.NotFound, Code.NotFound, "fine", Code.InvalidArgument]);
  });
});
