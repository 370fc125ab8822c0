/** What no sidecar wants to hear, over its real gRPC port: each gets a typed error, and nobody else notices. */
import type { ClientHttp2Stream } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { SubscribeRequestSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { connected, type Ending, ending, framed, open } from "../server/raw-call.ts";
import { Application, Outbox } from "./application.ts";
import { Witness } from "./witness.ts";

let witness: Witness;
let app: Application;
beforeAll(async () => {
  witness = await Witness.start();
  app = new Application(witness.sidecar.grpcPort);
});
afterEach(() => witness.expectUndisturbed());
afterAll(async () => {
  app?.[Symbol.dispose]();
  await witness?.[Symbol.asyncDispose]();
});

const service = "/outrider.pubsub.v1.PubSubService";
const fiveMebibytes = new Uint8Array(5 * 1024 * 1024);
const entries = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`x${index}`, "v"]));
const failureOf = (promise: Promise<unknown>): Promise<ConnectError | undefined> =>
  promise.then(
    () => undefined,
    (error: unknown) => ConnectError.from(error),
  );

describe("a message of 5 MiB", () => {
  it("is refused as the event of a publish, and the next call of the connection is served", async () => {
    const outgoing = { event: { data: fiveMebibytes } };
    const error = await failureOf(app.pubsub.publish({ topic: "large", outgoing }));
    expect(error?.code).toBe(Code.ResourceExhausted);
    await app.publish("large", "small");
  });

  it("ends a publish stream, whose acknowledged events stay", async () => {
    const outbox = new Outbox<Parameters<typeof request>[0]>();
    const answers = app.pubsub.publishStream(map(outbox, request))[Symbol.asyncIterator]();
    outbox.send({ topic: "before-large", data: Buffer.from("kept") });
    expect((await answers.next()).value.settledThrough).toBe(1n);
    outbox.send({ topic: "", data: fiveMebibytes });
    expect((await failureOf(answers.next()))?.code).toBe(Code.ResourceExhausted);
    using stream = app.subscribe([{ topic: "before-large" }]);
    const [delivery] = await stream.delivered(1);
    expect(Buffer.from(delivery!.event!.data).toString()).toBe("kept");
  });

  it("ends a subscribe stream, and what it held is delivered again", async () => {
    await app.publish("held-large", "held");
    using stream = app.subscribe([{ topic: "held-large" }]);
    await stream.delivered(1);
    const reason = "x".repeat(fiveMebibytes.length);
    stream.send({ message: { case: "settle", value: { deliveries: [{ first: 1n }], reason } } });
    expect((await stream.ended)?.code).toBe(Code.ResourceExhausted);
    using next = app.subscribe([{ topic: "held-large" }]);
    expect((await next.delivered(1))[0]!.attempt).toBe(2);
  });
});

describe("10,000 metadata entries", () => {
  it("in the headers of a call are refused, and other calls of the connection go on", async () => {
    const session = await connected(witness.sidecar.grpcPort, { maxSendHeaderBlockLength: 10_000_000 });
    try {
      const other = open(session, { ":path": `${service}/Subscribe` });
      const opening = create(SubscribeRequestSchema, {
        message: { case: "open", value: { subscription: 1, topic: "beside" } },
      });
      let heard = 0;
      other.on("data", () => {
        heard += 1;
      });
      other.write(framed(toBinary(SubscribeRequestSchema, opening)));
      await expect.poll(() => heard).toBe(1);
      const headers = { ":path": `${service}/Publish`, ...entries(10_000) };
      const refused = open(session, headers);
      refused.end(framed(new Uint8Array()));
      const { headers: told, reset } = await ending(refused);
      expect(told["grpc-status"] === String(Code.ResourceExhausted) || reset !== 0).toBe(true);
      await app.publish("beside", "still there");
      await expect.poll(() => heard).toBe(2);
    } finally {
      session.destroy();
    }
  });

  it("on an event are refused by name", async () => {
    const event = { data: new Uint8Array(1) };
    const headers = await failureOf(
      app.pubsub.publish({ topic: "t", outgoing: { event, headers: entries(10_000) } }),
    );
    expect(headers?.findDetails(ErrorInfoSchema)[0]?.reason).toBe("INVALID_REQUEST");
    expect(headers?.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field).toContain("headers");
  });
});

describe("bytes that are no protobuf", () => {
  const nonsense = framed(Buffer.from("ffffffffffffffffffffff", "hex"));

  it.each(["Publish", "PublishStream", "Subscribe"])(
    "are refused by %s as an invalid request",
    async (name) => {
      const session = await connected(witness.sidecar.grpcPort);
      try {
        const call = open(session, { ":path": `${service}/${name}` });
        call.end(nonsense);
        const { headers } = await ending(call);
        expect(headers["grpc-status"]).toBe(String(Code.InvalidArgument));
        expect(decodeURIComponent(String(headers["grpc-message"]))).toContain("not a outrider.pubsub.v1");
      } finally {
        session.destroy();
      }
    },
  );

  it("in the middle of a subscribe stream end it, and what it held is delivered again", async () => {
    await app.publish("held-nonsense", "payload");
    const session = await connected(witness.sidecar.grpcPort);
    try {
      const call = open(session, { ":path": `${service}/Subscribe` });
      const opening = create(SubscribeRequestSchema, {
        message: { case: "open", value: { subscription: 1, topic: "held-nonsense" } },
      });
      const delivered = new Promise((heard) =>
        call.on("data", (bytes: Buffer) => bytes.includes("payload") && heard(true)),
      );
      call.write(framed(toBinary(SubscribeRequestSchema, opening)));
      await delivered;
      call.write(nonsense);
      expect((await refusal(call)).headers["grpc-status"]).toBe(String(Code.InvalidArgument));
      using next = app.subscribe([{ topic: "held-nonsense" }]);
      expect((await next.delivered(1))[0]!.attempt).toBe(2);
    } finally {
      session.destroy();
    }
  });

  it("with a frame that promises more than the limit end the call before it has come", async () => {
    const session = await connected(witness.sidecar.grpcPort);
    try {
      const call = open(session, { ":path": `${service}/Subscribe` });
      const head = Buffer.alloc(5);
      head.writeUInt32BE(0xffffffff, 1);
      call.write(head);
      expect((await refusal(call)).headers["grpc-status"]).toBe(String(Code.ResourceExhausted));
    } finally {
      session.destroy();
    }
  });

  it("instead of HTTP/2 end the connection", async () => {
    const answer = await fetch(`http://127.0.0.1:${witness.sidecar.grpcPort}/`).then(
      () => "answered",
      () => "refused",
    );
    expect(answer).toBe("refused");
  });
});

/** How a call ends whose client would go on. */
function refusal(call: ClientHttp2Stream): Promise<Ending> {
  call.once("end", () => call.end());
  return ending(call);
}

function request({ topic, data }: { readonly topic: string; readonly data: Uint8Array }) {
  return { topic, outgoing: [{ event: { data } }] };
}

async function* map<A, B>(all: AsyncIterable<A>, make: (one: A) => B): AsyncGenerator<B> {
  for await (const one of all) yield make(one);
}
