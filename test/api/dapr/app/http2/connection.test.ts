import { once } from "node:events";
import * as http2 from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { AppUnreachable } from "../../../../../src/api/dapr/app/channel.ts";
import { Http2Connection } from "../../../../../src/api/dapr/app/http2/connection.ts";

const never = new AbortController().signal;
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

type Handler = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void | Promise<void>;

async function serverWith(handler: Handler, options: http2.ServerOptions = {}) {
  const server = http2.createServer(options);
  const sessions: http2.ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream: http2.ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    void handler(stream, headers);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  ends.push(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { server, sessions, port: (server.address() as AddressInfo).port };
}

function connectionTo(port: number, maxAnswerBytes = 4 * 1024 * 1024) {
  const connection = new Http2Connection({ host: "127.0.0.1", port, tls: false, maxAnswerBytes });
  ends.push(() => connection.close());
  const call = (
    path = "/",
    { headers = {}, body = undefined as Uint8Array | undefined, signal = never } = {},
  ) => connection.request({ head: connection.head("POST", path, { a: "b" }), headers, body }, signal);
  return { connection, call };
}

/** Reads a request to its end. */
async function bodyOf(stream: http2.ServerHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe("HTTP/2 to an application", () => {
  it("carries headers, body and trailers, call after call", async () => {
    const { port } = await serverWith(async (stream, headers) => {
      const body = await bodyOf(stream);
      stream.respond(
        {
          ":status": 200,
          "x-said": String(headers["x-said"]),
          "x-path": String(headers[":path"]),
          a: String(headers["a"]),
        },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-length": String(body.length) }));
      stream.end(body);
    });
    const { call } = connectionTo(port);
    // The later answers refer to what the table has from the earlier ones.
    for (let i = 0; i < 300; i++) {
      const said = `"value" ${i % 7} ${"x".repeat(i)} ~^`;
      const answer = await call(`/p${i}`, { headers: { "x-said": said }, body: Buffer.from(`body ${i}`) });
      expect(answer.headers).toMatchObject({ ":status": "200", "x-said": said, "x-path": `/p${i}`, a: "b" });
      expect(answer.trailers).toEqual({ "x-length": String(`body ${i}`.length) });
      expect(String(answer.body)).toBe(`body ${i}`);
    }
  });

  it("joins headers of one name, and takes every byte that headers may have", async () => {
    const visible = Array.from({ length: 0x7f - 0x20 }, (_, i) => String.fromCharCode(0x20 + i)).join("");
    const { port } = await serverWith((stream, headers) => {
      stream.respond({ ":status": 200, "set-cookie": ["a=1", "b=2"], "x-all": String(headers["x-all"]) });
      stream.end();
    });
    const { headers } = await connectionTo(port).call("/", { headers: { "x-all": `.${visible}.` } });
    expect(headers).toMatchObject({ "set-cookie": "a=1, b=2", "x-all": `.${visible}.` });
  });

  it("sends and takes bodies of many windows", async () => {
    const { port } = await serverWith(async (stream) => {
      const body = await bodyOf(stream);
      stream.respond({ ":status": 200 });
      stream.end(body);
    });
    const body = Buffer.alloc(3 * 1024 * 1024 + 17, "0123456789");
    const { call } = connectionTo(port);
    const answers = await Promise.all([call("/", { body }), call("/", { body }), call("/", { body })]);
    for (const answer of answers) expect(answer.body?.equals(body)).toBe(true);
  });

  it("keeps nothing of an answer that is too long, and goes on", async () => {
    const { port } = await serverWith((stream, headers) => {
      stream.respond({ ":status": 200 });
      stream.end(Buffer.alloc(Number(String(headers[":path"]).slice(1))));
    });
    const { call } = connectionTo(port, 1000);
    expect((await call("/5000000")).body).toBeUndefined();
    expect((await call("/1000")).body?.length).toBe(1000);
  });

  it("has no more calls under way than the application takes", async () => {
    let open = 0;
    let most = 0;
    const { port } = await serverWith(
      (stream) => {
        most = Math.max(most, ++open);
        setImmediate(() => {
          open -= 1;
          stream.respond({ ":status": 200 });
          stream.end();
        });
      },
      { settings: { maxConcurrentStreams: 2 } },
    );
    const { call } = connectionTo(port);
    // The limit is known from the first answer on.
    await call();
    await Promise.all(Array.from({ length: 20 }, () => call()));
    expect(most).toBe(2);
  });

  it("resets a call whose signal aborts, and throws its reason", async () => {
    let reset!: (code: number) => void;
    const wasReset = new Promise<number>((resolve) => {
      reset = resolve;
    });
    const abort = new AbortController();
    const reason = new Error("enough");
    const { port } = await serverWith((stream) => {
      stream.on("close", () => reset(stream.rstCode));
      abort.abort(reason);
    });
    await expect(connectionTo(port).call("/", { signal: abort.signal })).rejects.toBe(reason);
    expect(await wasReset).toBe(http2.constants.NGHTTP2_CANCEL);
  });

  it("tells a call that was seen from one that was not", async () => {
    const { port, sessions } = await serverWith((stream, headers) => {
      if (headers[":path"] === "/refuse") stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      else if (headers[":path"] === "/reset") stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      else if (headers[":path"] === "/break") sessions.at(-1)!.destroy();
      else {
        stream.respond({ ":status": 204 });
        stream.end();
      }
    });
    const { call } = connectionTo(port);
    await expect(call("/refuse")).rejects.toMatchObject({ name: "AppUnreachable", unseen: true });
    await expect(call("/reset")).rejects.toMatchObject({ name: "AppUnreachable", unseen: false });
    await expect(call("/break")).rejects.toMatchObject({ name: "AppUnreachable", unseen: false });
    expect((await call("/")).headers[":status"]).toBe("204");
    const nobody = connectionTo(1);
    await expect(nobody.call()).rejects.toMatchObject({ name: "AppUnreachable", unseen: true });
  });

  it("finishes what is under way when the application says goodbye, and connects anew for the next", async () => {
    const { port, sessions } = await serverWith((stream, headers) => {
      if (headers[":path"] === "/slow") {
        sessions[0]!.close();
        setImmediate(() => {
          stream.respond({ ":status": 200 });
          stream.end("late");
        });
        return;
      }
      stream.respond({ ":status": 200 });
      stream.end("new");
    });
    const { call } = connectionTo(port);
    expect(String((await call("/slow")).body)).toBe("late");
    expect(String((await call("/")).body)).toBe("new");
    expect(sessions.length).toBe(2);
  });

  it("is not led astray by an application that speaks no HTTP/2", async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => {});
      socket.write("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    ends.push(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { call } = connectionTo((server.address() as AddressInfo).port);
    await expect(call()).rejects.toBeInstanceOf(AppUnreachable);
  });

  it("survives any bytes that an application may send", async () => {
    let answer = Buffer.alloc(0);
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", () => {
        socket.write(answer);
        socket.end();
      });
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    ends.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    let seed = 7;
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return seed % below;
    };
    const { call } = connectionTo(port);
    for (let i = 0; i < 200; i++) {
      const length = random(40);
      const bytes = Buffer.from(Array.from({ length: 9 + length }, () => random(256)));
      // A frame that looks like one, with anything in it.
      bytes.writeUIntBE(length, 0, 3);
      bytes[3] = random(11);
      bytes.writeUInt32BE(random(3), 5);
      answer = bytes;
      await expect(call("/", { body: Buffer.alloc(10) })).rejects.toBeInstanceOf(AppUnreachable);
    }
  });
});
