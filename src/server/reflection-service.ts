/** What answers reflection: see reflection.ts. */
import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  type ServerReflectionRequest,
  ServerReflection as V1,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import {
  type ServerReflectionRequest as AlphaRequest,
  ServerReflection as V1Alpha,
} from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { type LateMount, loaded, type Mount, mount } from "./mount.ts";
import type { ReflectionVersion } from "./reflection.ts";

type Question = (ServerReflectionRequest | AlphaRequest)["messageRequest"];

/** What answers a question: the same in both versions, which differ in their package only. */
type Answer =
  | { case: "listServicesResponse"; value: { service: { name: string }[] } }
  | { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: "allExtensionNumbersResponse"; value: { baseTypeName: string; extensionNumber: number[] } }
  | { case: "errorResponse"; value: { errorCode: number; errorMessage: string } };

/** One version of the reflection service, over these mounts. */
export function reflectionMount(version: ReflectionVersion, mounts: readonly (Mount | LateMount)[]): Mount {
  let made: Promise<DescriptorIndex> | undefined;
  const index = () => {
    made ??= DescriptorIndex.of(mounts);
    return made;
  };
  if (version === "v1")
    return mount(V1, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests) {
          const messageResponse = (await index()).answer(request.messageRequest);
          yield { validHost: request.host, originalRequest: request, messageResponse };
        }
      },
    });
  return mount(V1Alpha, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        const messageResponse = (await index()).answer(request.messageRequest);
        yield { validHost: request.host, originalRequest: request, messageResponse };
      }
    },
  });
}

/** Files and symbols by name. */
class DescriptorIndex {
  readonly #services: readonly string[];
  readonly #files = new Map<string, DescFile>();
  /** The full names of messages, enums, services, methods and extensions. */
  readonly #symbols = new Map<string, DescFile>();

  static async of(mounts: readonly (Mount | LateMount)[]): Promise<DescriptorIndex> {
    const all = await Promise.all(mounts.map(loaded));
    return new DescriptorIndex(all.map(({ service }) => service));
  }

  constructor(services: readonly DescService[]) {
    this.#services = services.map(({ typeName }) => typeName).sort();
    for (const { file } of services) this.#addFile(file);
  }

  answer(question: Question): Answer {
    switch (question.case) {
      case "listServices":
        return {
          case: "listServicesResponse",
          value: { service: this.#services.map((name) => ({ name })) },
        };
      case "fileByFilename":
        return found(this.#files.get(question.value), question.value);
      case "fileContainingSymbol":
        return found(this.#symbols.get(question.value.replace(/^\./, "")), question.value);
      case "fileContainingExtension":
        return notFound(`extension ${question.value.extensionNumber} of ${question.value.containingType}`);
      case "allExtensionNumbersOfType":
        // No contract of ours has extensions: proto3 has none.
        if (!this.#symbols.has(question.value)) return notFound(question.value);
        return {
          case: "allExtensionNumbersResponse",
          value: { baseTypeName: question.value, extensionNumber: [] },
        };
      default:
        return failure(Code.InvalidArgument, "the request asks for nothing");
    }
  }

  #addFile(file: DescFile): void {
    if (this.#files.has(file.proto.name)) return;
    this.#files.set(file.proto.name, file);
    for (const service of file.services) {
      this.#symbols.set(service.typeName, file);
      for (const { name } of service.methods) this.#symbols.set(`${service.typeName}.${name}`, file);
    }
    for (const type of [...file.messages, ...file.enums]) this.#addType(type, file);
    for (const extension of file.extensions) this.#symbols.set(extension.typeName, file);
    for (const dependency of file.dependencies) this.#addFile(dependency);
  }

  #addType(type: DescFile["messages"][number] | DescFile["enums"][number], file: DescFile): void {
    this.#symbols.set(type.typeName, file);
    if (type.kind === "enum") return;
    for (const nested of [...type.nestedMessages, ...type.nestedEnums]) this.#addType(nested, file);
  }
}

/** A file and everything that it needs, itself first. */
function found(file: DescFile | undefined, name: string): Answer {
  if (file === undefined) return notFound(name);
  const files = new Set<DescFile>();
  const add = (needed: DescFile) => {
    if (files.has(needed)) return;
    files.add(needed);
    for (const dependency of needed.dependencies) add(dependency);
  };
  add(file);
  const fileDescriptorProto = [...files].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

function notFound(name: string): Answer {
  return failure(Code.NotFound, `not served here: ${name}`);
}

function failure(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
