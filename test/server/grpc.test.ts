/** What only the gRPC port has to deal with. */
import type { OutgoingHttpHeaders } from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../gen/google/rpc/status_pb.ts";
import {
  GetRequestSchema,
  SetRequestSchema,
  WriteRequestSchema,
} from "../../gen/outrider/state/v1/state_pb.ts";
import type { Listening } from "../../src/server/listening.ts";
import { connected, type Ending, ending, framed, open, rawCall } from "./raw-call.ts";
import { mountsOf, Scene, startServer } from "./service.ts";

const scene = new Scene();
let server: Listening;
beforeAll(async () => {
  server = await startServer("grpc", mountsOf(scene));
});
afterAll(() => server.close(0));

const call = (headers: OutgoingHttpHeaders, body?: Uint8Array) => rawCall(server.port, headers, body);
const codeOf = ({ headers }: Ending) => Number(headers["grpc-status"]);
const reasonOf = ({ headers }: Ending) => {
  const status = fromBinary(StatusSchema, Buffer.from(String(headers["grpc-status-details-bin"]), "base64"));
  return fromBinary(ErrorInfoSchema, status.details[0]!.value).reason;
};
const writePath = "/outrider.state.v1.StateService/Write";
const chunk = (bytes: number) => {
  const part = { case: "chunk" as const, value: new Uint8Array(bytes) };
  return framed(toBinary(WriteRequestSchema, create(WriteRequestSchema, { part })));
};

describe("bytes that are no protobuf", () => {
  it("are the client's mistake, and end its call with a reason", async () => {
    const ended = await call({}, framed(Buffer.from([0xff])));
    expect([codeOf(ended), reasonOf(ended)]).toEqual([Code.InvalidArgument, "INVALID_REQUEST"]);
  });

  it("end a stream in the middle", async () => {
    const ended = await call(
      { ":path": writePath },
      Buffer.concat([chunk(10), framed(Buffer.from([0x0a, 0x7f]))]),
    );
    expect([codeOf(ended), reasonOf(ended)]).toEqual([Code.InvalidArgument, "INVALID_REQUEST"]);
    await expect.poll(() => scene.ended.has("write")).toBe(true);
  });
});

it.each<[string, OutgoingHttpHeaders, Uint8Array, Code]>([
  ["no message where one is needed", {}, new Uint8Array(), Code.Unimplemented],
  ["two messages where one is needed", {}, new Uint8Array(10), Code.Unimplemented],
  ["a message that is cut off", {}, Buffer.from([0, 0, 0, 0, 9, 1]), Code.Unimplemented],
  [
    "a message that says it is longer than any may be",
    {},
    Buffer.from([0, 255, 255, 255, 255]),
    Code.ResourceExhausted,
  ],
  [
    "a compression that nobody knows",
    { "grpc-encoding": "zip" },
    Buffer.from([1, 0, 0, 0, 1, 0]),
    Code.Unimplemented,
  ],
  ["gzip that is none", { "grpc-encoding": "gzip" }, Buffer.from([1, 0, 0, 0, 1, 0]), Code.Internal],
  ["a timeout that is none", { "grpc-timeout": "soon" }, new Uint8Array(5), Code.Internal],
  [
    "a method that is not there",
    { ":path": "/outrider.state.v1.StateService/Gone" },
    new Uint8Array(5),
    Code.Unimplemented,
  ],
  ["a path that is none", { ":path": "/\u00e9%0a" }, new Uint8Array(5), Code.Unimplemented],
])("refuses %s", async (_, headers, body, code) => {
  expect(codeOf(await call(headers, body))).toBe(code);
  expect(codeOf(await call({}))).toBe(0);
});

it("refuses what is not gRPC", async () => {
  expect((await call({ "content-type": "application/json" })).headers[":status"]).toBe(415);
});

it("passes over headers that gRPC does not allow, and prints nothing", async () => {
  expect(codeOf(await call({ "x-wrong": "\u00e9", "x-data-bin": "!" }))).toBe(0);
});

it("takes messages that come in single bytes", async () => {
  const session = await connected(server.port);
  const stream = open(session);
  const done = ending(stream);
  const message = framed(toBinary(GetRequestSchema, create(GetRequestSchema, { key: "drip" })));
  for (const byte of message) {
    await new Promise((resolve) => stream.write(Buffer.of(byte), resolve));
  }
  stream.end();
  expect(codeOf(await done)).toBe(0);
  expect(scene.begun.has("drip")).toBe(true);
  session.destroy();
});

it("keeps values apart that came in one piece", async () => {
  const value = Buffer.from("a value");
  const ended = await call(
    { ":path": "/outrider.state.v1.StateService/Set" },
    framed(toBinary(SetRequestSchema, create(SetRequestSchema, { key: "k", value }))),
  );
  expect(ended.body.toString("latin1")).toContain("7");
});

it("reads no faster than its handler", async () => {
  const session = await connected(server.port);
  const stream = open(session, { ":path": "/outrider.pubsub.v1.PubSubService/Subscribe" });
  // Each request is answered, and nobody reads the answers: in the end the handler reads no more.
  let written = 0;
  const request = framed(Buffer.from([0x22, 0x02, 0x08, 0x07]));
  const many = Buffer.concat(Array.from({ length: 1000 }, () => request));
  let full = false;
  while (!full && written < 10_000) {
    full = !stream.write(many);
    written++;
  }
  await expect.poll(() => scene.begun.has("subscribe")).toBe(true);
  expect(full).toBe(true);
  expect(codeOf(await call({}))).toBe(0);
  session.destroy();
  await expect.poll(() => scene.ended.has("requests")).toBe(true);
});

it("ends the handler of a client whose connection breaks", async () => {
  const session = await connected(server.port);
  const stream = open(session, { ":path": writePath });
  stream.on("error", () => {});
  scene.ended.delete("write");
  scene.begun.delete("write");
  stream.write(chunk(10));
  await expect.poll(() => scene.begun.has("write")).toBe(true);
  session.socket.destroy();
  await expect.poll(() => scene.ended.has("write")).toBe(true);
  expect(scene.aborted.get("write")).toMatchObject({ code: Code.Canceled });
});
