import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Exchange } from "../../../../../src/api/dapr/app/http2/exchange.ts";
import { flags, frame, frameTypes, type Http2Error } from "../../../../../src/api/dapr/app/http2/frames.ts";
import { HeaderWriter } from "../../../../../src/api/dapr/app/http2/header-writer.ts";
import { Session } from "../../../../../src/api/dapr/app/http2/session.ts";
import { headersFrame, RawApp, type ReceivedFrame, settingsFrame, word } from "./raw-app.ts";

const apps: RawApp[] = [];
afterEach(() => {
  vi.useRealTimers();
  for (const app of apps.splice(0)) app.close();
});

/** An application that answers the headers of each call with these bytes. */
async function appThat(answer: (stream: number, nth: number) => Buffer, greeting?: Buffer): Promise<RawApp> {
  let nth = 0;
  const app = new RawApp(({ type, stream }, socket) => {
    if (type === frameTypes.headers) socket.write(answer(stream, nth++));
  }, greeting);
  apps.push(app);
  return app.listen();
}

const ok = (stream: number) => headersFrame(stream, { ":status": "200" });
const begun = (stream: number, status = "200") =>
  headersFrame(stream, { ":status": status }, flags.endHeaders);
const data = (stream: number, text: string, flag = 0) =>
  frame(frameTypes.data, flag, stream, Buffer.from(text));
const resetsOf = (app: RawApp) => app.received.filter(({ type }) => type === frameTypes.reset);
const unreachable = (text: string) =>
  expect.objectContaining({ name: "AppUnreachable", message: expect.stringContaining(text) });

describe("an application that breaks the rules of HTTP/2 on one call", () => {
  const answers: Record<string, (stream: number) => Buffer> = {
    "headers without a status": (stream) => headersFrame(stream, { a: "b" }),
    "a status that is none": (stream) => headersFrame(stream, { ":status": "2000" }),
    "nothing but a preliminary answer": (stream) => headersFrame(stream, { ":status": "103" }),
    "a body without headers": (stream) => data(stream, "body", flags.endStream),
    "trailers that do not end it": (stream) =>
      Buffer.concat([begun(stream), headersFrame(stream, { a: "b" }, flags.endHeaders)]),
    "two statuses": (stream) => Buffer.concat([begun(stream), ok(stream)]),
    "a window that opens by nothing": (stream) => frame(frameTypes.windowUpdate, 0, stream, word(0)),
    "a window that opens too far": (stream) => frame(frameTypes.windowUpdate, 0, stream, word(0x7fff_ffff)),
  };
  for (const [what, answer] of Object.entries(answers)) {
    it(`loses that call, and no other: ${what}`, async () => {
      const app = await appThat((stream, nth) => (nth === 0 ? answer(stream) : ok(stream)));
      const call = app.client();
      await expect(call()).rejects.toMatchObject({ name: "AppUnreachable", unseen: false });
      expect((await call()).headers[":status"]).toBe("200");
      expect(app.sockets.length).toBe(1);
      expect(resetsOf(app).map(({ stream }) => stream)).toEqual([1]);
    });
  }
});

describe("an application that breaks the rules of HTTP/2 altogether", () => {
  const answers: Record<string, Buffer> = {
    "a window update of three bytes": frame(frameTypes.windowUpdate, 0, 0, Buffer.alloc(3)),
    "a window of the connection that opens by nothing": frame(frameTypes.windowUpdate, 0, 0, word(0)),
    "a window of the connection that opens too far": frame(frameTypes.windowUpdate, 0, 0, word(0x7fff_ffff)),
    "a reset of five bytes": frame(frameTypes.reset, 0, 1, Buffer.alloc(5)),
    "a reset of the connection": frame(frameTypes.reset, 0, 0, word(8)),
    "a reset of a stream that never was": frame(frameTypes.reset, 0, 99, word(8)),
    "data of a stream that never was": data(99, "x"),
    "headers of a stream of its own": ok(2),
    "headers of the connection": ok(0),
    "a ping of a stream": frame(frameTypes.ping, 0, 1, Buffer.alloc(8)),
    "a ping of seven bytes": frame(frameTypes.ping, 0, 0, Buffer.alloc(7)),
    "settings of five bytes": frame(frameTypes.settings, 0, 0, Buffer.alloc(5)),
    "an acknowledgement with settings": frame(frameTypes.settings, flags.ack, 0, Buffer.alloc(6)),
    "settings with a window that there is not": settingsFrame({ 4: 2 ** 31 }),
    "a goodbye of four bytes": frame(frameTypes.goAway, 0, 0, Buffer.alloc(4)),
    "a push": frame(frameTypes.pushPromise, flags.endHeaders, 1, word(2)),
    "nothing but padding": frame(frameTypes.data, flags.padded, 1, Buffer.from([3, 0, 0])),
    "a frame that is too long": Buffer.from([0, 0x40, 1, 0, 0, 0, 0, 0, 1]),
    "a continuation of nothing": frame(frameTypes.continuation, flags.endHeaders, 1, Buffer.alloc(0)),
    "headers that are broken off": Buffer.concat([headersFrame(1, { ":status": "200" }, 0), data(1, "x")]),
    "headers that nobody can read": frame(frameTypes.headers, flags.endHeaders, 1, Buffer.from([0xff, 0xff])),
  };
  for (const [what, answer] of Object.entries(answers)) {
    it(`loses its connection at once, and the next call has another: ${what}`, async () => {
      const app = await appThat((stream, nth) => (nth === 0 ? answer : ok(stream)));
      const call = app.client();
      const failure: Error = await call().then(
        () => expect.fail("it was answered"),
        (error) => error,
      );
      expect(failure).toMatchObject({ name: "AppUnreachable", unseen: false });
      expect((failure.cause as Http2Error).name).toBe("Http2Error");
      expect((await call()).headers[":status"]).toBe("200");
      expect(app.sockets.length).toBe(2);
    });
  }

  it("is told apart from one that speaks another protocol", async () => {
    const app = await appThat(() => Buffer.alloc(0), Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await expect(app.client()()).rejects.toEqual(unreachable("no HTTP/2"));
  });
});

describe("an application that sends without end", () => {
  const empty = frame(frameTypes.continuation, 0, 1, Buffer.alloc(0));
  const floods: Record<string, Buffer> = {
    "headers in pieces": frame(frameTypes.continuation, 0, 1, Buffer.alloc(100)),
    "empty pieces of headers": empty,
  };
  for (const [what, piece] of Object.entries(floods)) {
    it(`is not listened to: ${what}`, async () => {
      const many = Buffer.concat(Array.from({ length: 10_000 }, () => piece));
      const app = await appThat(() => Buffer.concat([headersFrame(1, { ":status": "200" }, 0), many]));
      await expect(app.client()()).rejects.toEqual(unreachable("a block of headers of more than"));
    });
  }

  it("is not listened to: pings whose answers it does not read", async () => {
    const ping = frame(frameTypes.ping, 0, 0, Buffer.alloc(8));
    const app = await appThat(() => Buffer.concat(Array.from({ length: 5000 }, () => ping)));
    await expect(app.client()()).rejects.toEqual(unreachable("pings and settings without end"));
  });

  it("gets an answer to each of its pings and settings that it waits for", async () => {
    let answered = 0;
    const app = new RawApp(({ type, flag, stream }, socket) => {
      if (type === frameTypes.headers) socket.write(frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
      if (type === frameTypes.ping && flag & flags.ack) {
        answered += 1;
        socket.write(answered < 3000 ? frame(frameTypes.ping, 0, 0, Buffer.alloc(8)) : ok(1));
      }
      expect(stream).toBeLessThan(3);
    });
    apps.push(app);
    await app.listen();
    expect((await app.client()()).headers[":status"]).toBe("200");
    expect(answered).toBe(3000);
  });

  it("keeps no object for each byte of an answer that comes byte by byte", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const count = 1_000_000;
    const request = { head: Buffer.alloc(0), headers: {}, body: undefined };
    const exchange = new Exchange(request, new AbortController().signal, count);
    exchange.receiveHeaders({ ":status": "200" }, false);
    collect();
    const before = process.memoryUsage().heapUsed;
    const bytes = Buffer.alloc(1000, "x");
    for (let i = 0; i < count; i++) exchange.receiveData(bytes.subarray(i % 1000, (i % 1000) + 1));
    collect();
    // As many objects would have taken a hundred megabytes.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(20 * 1024 * 1024);
    exchange.complete();
    expect((await exchange.promise).body?.equals(Buffer.alloc(count, "x"))).toBe(true);
  });
});

describe("what HTTP/2 allows", () => {
  it("is understood: preliminary answers, padding, priorities, unknown frames, pieces of headers, late frames", async () => {
    const block = Buffer.from([0x88]);
    const padded = (type: number, flag: number, stream: number, payload: Buffer) =>
      frame(type, flag | flags.padded, stream, Buffer.concat([Buffer.from([3]), payload, Buffer.alloc(3)]));
    const app = await appThat((stream) =>
      Buffer.concat([
        ...Array.from({ length: 100 }, () => begun(stream, "103")),
        frame(77, 0xff, stream, Buffer.alloc(10)),
        padded(
          frameTypes.headers,
          flags.priority,
          stream,
          Buffer.concat([Buffer.alloc(5), block.subarray(0, 0)]),
        ),
        frame(frameTypes.continuation, 0, stream, block),
        frame(frameTypes.continuation, flags.endHeaders, stream, Buffer.alloc(0)),
        padded(frameTypes.data, 0, stream, Buffer.from("he")),
        padded(frameTypes.data, 0, stream, Buffer.alloc(0)),
        padded(frameTypes.data, 0, stream, Buffer.from("llo")),
        headersFrame(stream, { "grpc-status": "0" }),
        // Nobody waits for these any more.
        frame(frameTypes.windowUpdate, 0, stream, word(0)),
        data(stream, "late"),
        frame(frameTypes.reset, 0, stream, word(0)),
      ]),
    );
    const call = app.client();
    for (let i = 0; i < 3; i++) {
      const { headers, trailers, body } = await call();
      expect([headers[":status"], trailers["grpc-status"], String(body)]).toEqual(["200", "0", "hello"]);
    }
    expect(app.sockets.length).toBe(1);
  });

  it("takes names that every object has", async () => {
    const odd = { constructor: "a", __proto_: "b", valueof: "c" };
    const app = await appThat((stream) =>
      Buffer.concat([
        headersFrame(stream, { ":status": "200", ...odd }, flags.endHeaders),
        frame(
          frameTypes.headers,
          flags.endHeaders | flags.endStream,
          stream,
          Buffer.concat([Buffer.from([0, 9]), Buffer.from("__proto__"), Buffer.from([1, 0x78])]),
        ),
      ]),
    );
    const { headers, trailers } = await app.client()();
    expect({ ...headers }).toEqual({ ":status": "200", ...odd });
    expect(Object.entries(trailers)).toEqual([["__proto__", "x"]]);
  });

  it("takes a whole answer that comes before the request is sent, and sends no more of that", async () => {
    const app = await appThat(ok, settingsFrame({ 4: 10 }));
    const call = app.client();
    await call();
    expect((await call("/", { body: Buffer.alloc(1000) })).headers[":status"]).toBe("200");
    await expect.poll(() => resetsOf(app).map(({ stream }) => stream)).toEqual([3]);
    const sent = app.received.filter(({ type, stream }) => type === frameTypes.data && stream === 3);
    expect(sent.reduce((sum, { payload }) => sum + payload.length, 0)).toBe(10);
  });

  it("sends headers that are longer than a frame in several", async () => {
    const app = await appThat(ok);
    const { headers } = await app.client()("/", { headers: { long: "x".repeat(40_000) } });
    expect(headers[":status"]).toBe("200");
    const [first, ...rest] = app.received.filter(
      ({ type }) => type === frameTypes.headers || type === frameTypes.continuation,
    );
    expect(first).toMatchObject({ type: frameTypes.headers, flag: flags.endStream });
    expect(rest.map(({ type, flag }) => [type, flag])).toEqual([
      [frameTypes.continuation, 0],
      [frameTypes.continuation, flags.endHeaders],
    ]);
    for (const { payload } of [first!, ...rest]) expect(payload.length).toBeLessThanOrEqual(16_384);
  });

  it("stops sending when windows shrink below what is sent, and goes on when they open", async () => {
    const body = Buffer.from("0123456789".repeat(30));
    const got: Buffer[] = [];
    const bytes = () => Buffer.concat(got).length;
    const app = new RawApp(
      ({ type, stream, payload, flag }: ReceivedFrame, socket) => {
        if (type === frameTypes.settings && flag & flags.ack && bytes() === 100) {
          // 20 less than have been sent: 30 more allow 10.
          socket.write(frame(frameTypes.windowUpdate, 0, stream || 3, word(30)));
        }
        if (type !== frameTypes.data || stream !== 3) {
          if (type === frameTypes.headers && stream === 1) socket.write(ok(1));
          return;
        }
        got.push(payload);
        if (bytes() === 100) socket.write(settingsFrame({ 4: 80 }));
        if (bytes() === 110) socket.write(settingsFrame({ 4: 1000 }));
        if (flag & flags.endStream) socket.write(ok(3));
      },
      settingsFrame({ 4: 100 }),
    );
    apps.push(app);
    await app.listen();
    const call = app.client();
    await call();
    await call("/", { body });
    expect(got.map(({ length }) => length)).toEqual([100, 10, 190]);
    expect(Buffer.concat(got).equals(body)).toBe(true);
  });

  it("begins no more than a hundred calls before the application has said how many it takes", async () => {
    let open = 0;
    let atFirst = 0;
    const app = new RawApp(({ type, flag, stream }, socket) => {
      if (type === frameTypes.settings && flag & flags.ack) atFirst = open;
      if (type !== frameTypes.headers) return;
      open += 1;
      if (open === 100) socket.write(settingsFrame({ 3: 150 }));
      if (open === 150) for (let id = 1; id < 300; id += 2) socket.write(ok(id));
      if (open > 150) socket.write(ok(stream));
    }, Buffer.alloc(0));
    apps.push(app);
    await app.listen();
    const call = app.client();
    const calls = Array.from({ length: 200 }, () => call());
    await expect.poll(() => open).toBe(200);
    expect(atFirst).toBe(100);
    await Promise.all(calls);
  });
});

describe("a connection that ends", () => {
  it("says of each call whether it may be repeated: those beyond the goodbye, and those that waited", async () => {
    const app = new RawApp(
      ({ type, stream }, socket) => {
        if (type !== frameTypes.headers || stream !== 5) return;
        const last = Buffer.concat([word(3), word(0)]);
        socket.write(Buffer.concat([ok(1), frame(frameTypes.goAway, 0, 0, last)]), () => socket.destroy());
      },
      settingsFrame({ 3: 3 }),
    );
    apps.push(app);
    await app.listen();
    const call = app.client();
    // Five calls before the settings are there: the first is answered, and lets no other in.
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => call()));
    const seen = results.map((result) =>
      result.status === "fulfilled" ? "answered" : result.reason.unseen ? "repeat" : "unknown",
    );
    expect(seen).toEqual(["answered", "unknown", "repeat", "repeat", "repeat"]);
  });

  it("says with which error the application has ended it", async () => {
    const last = Buffer.concat([word(1), word(11), Buffer.from("too_many_pings")]);
    const app = new RawApp(({ type }, socket) => {
      if (type === frameTypes.headers) socket.end(frame(frameTypes.goAway, 0, 0, last));
    });
    apps.push(app);
    await app.listen();
    await expect(app.client()()).rejects.toEqual(unreachable("error 11: too_many_pings"));
  });

  it("ends with the client, also when another has taken its place", async () => {
    const goodbye = frame(frameTypes.goAway, 0, 0, Buffer.concat([word(1), word(0)]));
    const app = await appThat((stream, nth) => (nth === 0 ? goodbye : ok(stream)));
    const call = app.client();
    const first = call();
    first.catch(() => {});
    await expect
      .poll(async () => {
        await call();
        return app.sockets.length;
      })
      .toBe(2);
    app.closeClients();
    await expect(first).rejects.toMatchObject({ name: "AppUnreachable", unseen: false });
  });

  it("is followed by another when its numbers are used up, and leaves nobody waiting", async () => {
    const app = await appThat(() => Buffer.alloc(0), settingsFrame({ 3: 1 }));
    const options = { host: "127.0.0.1", port: app.port, tls: false, maxAnswerBytes: 1000 };
    const writer = new HeaderWriter();
    const session = new Session(options, writer, 5);
    const exchanges = Array.from({ length: 4 }, () => {
      const head = writer.block({ ":method": "GET", ":path": "/" });
      return new Exchange({ head, headers: {}, body: undefined }, new AbortController().signal, 1000);
    });
    const results = Promise.allSettled(exchanges.map(({ promise }) => promise));
    session.send(exchanges[0]!);
    await expect.poll(() => app.received.filter(({ flag }) => flag === flags.ack).length).toBe(1);
    for (const exchange of exchanges.slice(1)) session.send(exchange);
    for (const id of [1, 3, 5]) {
      await expect.poll(() => app.received.filter(({ stream }) => stream === id).length).toBe(1);
      expect(session.leaving).toBe(id === 5);
      app.sockets[0]!.write(ok(id));
    }
    const [a, b, c, last] = await results;
    expect([a, b, c].map((each) => each!.status)).toEqual(["fulfilled", "fulfilled", "fulfilled"]);
    expect(last).toMatchObject({ status: "rejected", reason: { unseen: true } });
    await expect.poll(() => app.sockets[0]!.readableEnded).toBe(true);
  });

  it("is not kept when the application has said nothing for long, and a call is given up", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    const app = await appThat((stream, nth) => (nth === 0 ? ok(stream) : Buffer.alloc(0)));
    const call = app.client();
    await call();
    vi.advanceTimersByTime(60_000);
    // Quiet because there was nothing to say: the connection is kept.
    const early = new AbortController();
    const first = call("/", { signal: early.signal });
    await expect.poll(() => app.received.filter(({ stream }) => stream === 3).length).toBe(1);
    early.abort(new Error("too early"));
    await expect(first).rejects.toThrow("too early");
    const late = new AbortController();
    const second = call("/", { signal: late.signal });
    const third = call();
    third.catch(() => {});
    await expect.poll(() => app.received.filter(({ stream }) => stream === 7).length).toBe(1);
    expect(app.sockets.length).toBe(1);
    vi.advanceTimersByTime(6000);
    late.abort(new Error("too late"));
    await expect(second).rejects.toThrow("too late");
    void call().catch(() => {});
    await expect.poll(() => app.sockets.length).toBe(2);
    // What is under way on the old one may still be answered.
    app.sockets[0]!.write(ok(7));
    expect((await third).headers[":status"]).toBe("200");
    await expect.poll(() => app.sockets[0]!.destroyed).toBe(true);
  });
});
