/**
 * The yardstick: what grpc-js itself costs on this machine, now.
 *
 * A bare grpc-js server with handlers that do nothing, but with the messages of the real contract and their real
 * codec, so that its calls have the same sizes as the sidecar's. On a publish stream it counts what comes, and acknowledges
 * once in a turn of the event loop. Prints its port when it listens.
 */
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  PublishRequestSchema,
  type PublishResponse,
  PublishResponseSchema,
  type PublishStreamRequest,
  PublishStreamRequestSchema,
  type PublishStreamResponse,
  PublishStreamResponseSchema,
} from "../gen/outrider/pubsub/v1/pubsub_pb.ts";
import {
  GetRequestSchema,
  type GetResponse,
  GetResponseSchema,
  SetRequestSchema,
  type SetResponse,
  SetResponseSchema,
} from "../gen/outrider/state/v1/state_pb.ts";
import { keyOf, paths, payload } from "./messages.ts";

const value = payload();
const etag = "0123456789abcdef";

function definition<I extends DescMessage, O extends DescMessage>(
  path: string,
  input: I,
  output: O,
  streams = false,
) {
  return {
    path,
    requestStream: streams,
    responseStream: streams,
    requestSerialize: (message: MessageShape<I>) => Buffer.from(toBinary(input, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(input, bytes),
    responseSerialize: (message: MessageShape<O>) => Buffer.from(toBinary(output, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(output, bytes),
  } as const;
}

const server = new grpc.Server();
server.addService(
  {
    get: definition(paths.get, GetRequestSchema, GetResponseSchema),
    set: definition(paths.set, SetRequestSchema, SetResponseSchema),
    publish: definition(paths.publish, PublishRequestSchema, PublishResponseSchema),
    publishStream: definition(
      paths.publishStream,
      PublishStreamRequestSchema,
      PublishStreamResponseSchema,
      true,
    ),
  },
  {
    get(call: { request: { key: string } }, answer: grpc.sendUnaryData<GetResponse>) {
      const item = { key: call.request.key, value, etag, valueBytes: BigInt(value.length) };
      answer(null, create(GetResponseSchema, { item }));
    },
    set(_call: unknown, answer: grpc.sendUnaryData<SetResponse>) {
      answer(null, create(SetResponseSchema, { etag }));
    },
    publish(_call: unknown, answer: grpc.sendUnaryData<PublishResponse>) {
      const published = { id: "5f0c9c1e-8f5e-4a57-9d4a-0d1d9f8f3a11", position: keyOf(1) };
      answer(null, create(PublishResponseSchema, { published }));
    },
    publishStream(call: grpc.ServerDuplexStream<PublishStreamRequest, PublishStreamResponse>) {
      let settledThrough = 0n;
      let acknowledging = false;
      const acknowledge = () => {
        acknowledging = false;
        call.write(create(PublishStreamResponseSchema, { settledThrough }));
      };
      call.on("data", ({ outgoing }: PublishStreamRequest) => {
        settledThrough += BigInt(outgoing.length);
        if (!acknowledging) setImmediate(acknowledge);
        acknowledging = true;
      });
      call.on("end", () => call.end());
    },
  },
);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  process.stdout.write(`${port}\n`);
});
