/** Asks a server which services it has. */
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  type ServerReflectionResponse,
  ServerReflection as V1,
} from "../../../gen/grpc/reflection/v1/reflection_pb.ts";
import {
  type ServerReflectionResponse as AlphaResponse,
  ServerReflection as V1Alpha,
} from "../../../gen/grpc/reflection/v1alpha/reflection_pb.ts";

/** The question, the same in both versions. */
const question = { messageRequest: { case: "listServices", value: "" } } as const;

/** The full names of a server's services. Throws ConnectError; Unimplemented: it cannot be asked. */
export async function servicesOf(transport: Transport, signal: AbortSignal): Promise<ReadonlySet<string>> {
  try {
    // What Dapr asks, and servers have that have either.
    return await namesIn(createClient(V1Alpha, transport).serverReflectionInfo(one(), { signal }));
  } catch (error) {
    if (ConnectError.from(error).code !== Code.Unimplemented) throw error;
    return await namesIn(createClient(V1, transport).serverReflectionInfo(one(), { signal }));
  }
}

async function* one() {
  yield question;
}

async function namesIn(
  answers: AsyncIterable<ServerReflectionResponse | AlphaResponse>,
): Promise<ReadonlySet<string>> {
  for await (const { messageResponse } of answers) {
    if (messageResponse.case === "listServicesResponse")
      return new Set(messageResponse.value.service.map(({ name }) => name));
  }
  throw new ConnectError("reflection gave no list of services", Code.Internal);
}
