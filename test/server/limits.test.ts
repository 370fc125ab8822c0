/** Every limit, at it and one past it. */
import { request } from "node:http";
import { constants } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { WatchRequestSchema } from "../../gen/outrider/state/v1/state_pb.ts";
import { defaultLimits, type Limits } from "../../src/server/limits.ts";
import type { Listening } from "../../src/server/listening.ts";
import { connected, ending, framed, open, rawCall, watchPath } from "./raw-call.ts";
import { mountsOf, protocols, Scene, type Stage, setStage, startServer } from "./service.ts";

const servers: Listening[] = [];
let scene = new Scene();

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close(0)));
  scene = new Scene();
});

async function stageOf(protocol: (typeof protocols)[number], limits: Partial<Limits>): Promise<Stage> {
  const stage = await setStage(protocol, mountsOf(scene), { limits });
  servers.push(stage.server);
  return stage;
}

async function portOf(name: "grpc" | "http", limits: Partial<Limits> = {}): Promise<number> {
  const server = await startServer(name, mountsOf(scene), { limits });
  servers.push(server);
  return server.port;
}

const codeOf = (promise: Promise<unknown>): Promise<Code | "ok"> =>
  promise.then(
    () => "ok",
    (error: unknown) => ConnectError.from(error).code,
  );

describe.each(protocols)("messages: $name", (protocol) => {
  const json = protocol.name.includes("JSON");
  // What stands around the key: a tag and a length, or {"key":""}.
  const around = json ? 10 : 4;

  it("takes a request of just the limit, and refuses one of a byte more", async () => {
    const { state } = await stageOf(protocol, { maxMessageBytes: 100_000 });
    expect(await codeOf(state.set({ key: "k".repeat(100_000 - around) }))).toBe("ok");
    expect(await codeOf(state.set({ key: "k".repeat(100_001 - around) }))).toBe(Code.ResourceExhausted);
  });

  it("sends an answer under the limit, and an error instead of one over it", async () => {
    const { state } = await stageOf(protocol, { maxMessageBytes: 100_000 });
    expect(await codeOf(state.get({ key: "size:70000" }))).toBe("ok");
    expect(await codeOf(state.get({ key: "size:100000" }))).toBe(Code.ResourceExhausted);
  });

  it("refuses 5 MiB by default, and serves the next call", async () => {
    const { state } = await stageOf(protocol, {});
    const value = new Uint8Array(5 * 1024 * 1024);
    expect(await codeOf(state.set({ value }))).toBe(Code.ResourceExhausted);
    expect(await codeOf(state.get({ key: "size:5242880" }))).toBe(Code.ResourceExhausted);
    expect(await codeOf(state.get({ key: "next" }))).toBe("ok");
  });
});

describe("headers", () => {
  const entry = (bytes: number) => ({ "x-a": "v".repeat(bytes - "x-a".length - 32) });

  it("of 4 KiB are taken on the gRPC port, and one byte more is refused with a reason", async () => {
    const port = await portOf("grpc");
    const fits = await rawCall(port, entry(defaultLimits.maxHeaderBytes));
    expect(fits.headers["grpc-status"]).toBe("0");
    const over = await rawCall(port, entry(defaultLimits.maxHeaderBytes + 1));
    expect(over.headers["grpc-status"]).toBe(String(Code.ResourceExhausted));
    expect(over.headers["grpc-message"]).toContain("4097");
  });

  it("may be configured", async () => {
    const port = await portOf("grpc", { maxHeaderBytes: 8192 });
    expect((await rawCall(port, entry(8192))).headers["grpc-status"]).toBe("0");
    expect((await rawCall(port, entry(8193))).headers["grpc-status"]).toBe(String(Code.ResourceExhausted));
  });

  it("of 4 KiB in all are taken over HTTP/1.1, and one byte more is answered with 431", async () => {
    const port = await portOf("http");
    const status = (bytes: number) =>
      new Promise<number | undefined>((resolve, reject) => {
        const headers = { host: "h", connection: "close", "x-a": "v".repeat(bytes) };
        request({ port, path: "/healthz", headers }, (response) => {
          response.resume();
          resolve(response.statusCode);
        })
          .on("error", reject)
          .end();
      });
    const most = 4096 - "GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-a: \r\n\r\n".length;
    expect(await status(most)).toBe(204);
    // Node does not count line ends and the like.
    expect(await status(most + 64)).toBe(431);
  });

  it("over the limit end an HTTP/2 stream of the HTTP port", async () => {
    const port = await portOf("http");
    expect((await rawCall(port, entry(3500))).headers["grpc-status"]).toBe("0");
    expect((await rawCall(port, entry(4097))).reset).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });

  it.each(["grpc", "http"] as const)(
    "of 10,000 entries disturb no other call of the %s port",
    async (name) => {
      const port = await portOf(name);
      const session = await connected(port, { maxSendHeaderBlockLength: 10_000_000 });
      const watching = open(session, { ":path": watchPath });
      watching.end(framed(toBinary(WatchRequestSchema, create(WatchRequestSchema, idle))));
      await expect.poll(() => scene.begun.has("idle")).toBe(true);
      const entries = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`x-${i}`, "v"]));
      const refused = open(session, entries);
      refused.end(framed(new Uint8Array()));
      expect((await ending(refused)).reset).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      const other = open(session);
      other.end(framed(new Uint8Array()));
      expect((await ending(other)).headers["grpc-status"]).toBe("0");
      expect(scene.aborted.has("idle")).toBe(false);
      session.destroy();
    },
  );
});

const idle = { selector: { case: "key" as const, value: "idle" } };

describe.each(protocols.filter(({ duplex }) => duplex))("streams: $name", (protocol) => {
  /** Opens idle streams, and waits until their handlers run. */
  async function openIdle({ state }: Stage, count: number): Promise<AbortController[]> {
    const leaving = Array.from({ length: count }, () => new AbortController());
    await Promise.all(
      leaving.map(async ({ signal }) => {
        const messages = state.watch(idle, { signal })[Symbol.asyncIterator]();
        for (let i = 0; i < 3; i++) await messages.next();
        messages.next().catch(() => {});
      }),
    );
    return leaving;
  }

  it("may be as many as the limit, and one more is refused until another ends", async () => {
    const stage = await stageOf(protocol, { maxOpenStreams: 2 });
    const [first] = await openIdle(stage, 2);
    const error = await openIdle(stage, 1).then(() => undefined, ConnectError.from);
    expect(error?.code).toBe(Code.ResourceExhausted);
    expect(error?.findDetails(ErrorInfoSchema)[0]?.reason).toBe("TOO_MANY_STREAMS");
    expect(await codeOf(stage.state.get({ key: "beside" }))).toBe("ok");
    first!.abort();
    await expect
      .poll(() =>
        openIdle(stage, 1).then(
          () => "open",
          () => "refused",
        ),
      )
      .toBe("open");
  });

  it("beyond the limit of a connection wait for one to end", async () => {
    const stage = await stageOf(protocol, { maxConcurrentStreams: 3 });
    const [first] = await openIdle(stage, 3);
    const waiting = codeOf(stage.state.get({ key: "waiting" }));
    const session = await connected(stage.server.port);
    expect(session.remoteSettings.maxConcurrentStreams).toBe(3);
    session.destroy();
    expect(scene.begun.has("waiting")).toBe(false);
    first!.abort();
    // Node refuses the one that comes before the other's end is complete.
    expect(["ok", Code.Internal]).toContain(await waiting);
    expect(await codeOf(stage.state.get({ key: "next" }))).toBe("ok");
  });

  it("are by default a thousand over one connection, with calls beside them", async () => {
    const stage = await stageOf(protocol, {});
    await openIdle(stage, 1000);
    expect(await codeOf(stage.state.get({ key: "beside" }))).toBe("ok");
  });
});

describe.each(["grpc", "http"] as const)("a client of the %s port that reads nothing", (name) => {
  it("has its handler asked for no more than fits in its buffers, and holds up no other call", async () => {
    const session = await connected(await portOf(name));
    const stuck = open(session, { ":path": watchPath });
    const endless = { selector: { case: "key" as const, value: "endless" } };
    stuck.end(framed(toBinary(WatchRequestSchema, create(WatchRequestSchema, endless))));
    await expect.poll(() => scene.made).toBeGreaterThan(3);
    for (let i = 0; i < 50; i++) {
      const other = open(session);
      other.end(framed(new Uint8Array()));
      expect((await ending(other)).headers["grpc-status"]).toBe("0");
    }
    // 16 KiB each: the client's window, Node's buffers and ours are 64 KiB each at most.
    expect(scene.made).toBeLessThan(16);
    stuck.resume();
    await expect.poll(() => scene.made).toBeGreaterThan(100);
    session.destroy();
  });
});
