/** Any bytes are an answer or an Http2Error, soon and in little memory; and what one side writes, the other reads. */
import { once } from "node:events";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { AppUnreachable } from "../../../../../src/api/dapr/app/channel.ts";
import { Http2Connection } from "../../../../../src/api/dapr/app/http2/connection.ts";
import { FrameReader } from "../../../../../src/api/dapr/app/http2/frame-reader.ts";
import { flags, frame, frameTypes, Http2Error } from "../../../../../src/api/dapr/app/http2/frames.ts";
import { HeaderReader, type Headers } from "../../../../../src/api/dapr/app/http2/header-reader.ts";
import { HeaderWriter } from "../../../../../src/api/dapr/app/http2/header-writer.ts";
import { staticTable } from "../../../../../src/api/dapr/app/http2/static-table.ts";
import { seeded } from "../../../../conformance/pubsub/fixture.ts";
import { headersFrame, RawApp, settingsFrame, word } from "./raw-app.ts";

/** How long each test goes on, in milliseconds, and how long one input may take: generous, for busy machines. */
const budgetMs = Number(process.env["FUZZ_MS"] ?? 1000);
const longestMs = 2000;
const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
process.stdout.write(`fuzzing HTTP/2 with FUZZ_SEED=${seed}\n`);

/** Whole numbers below a bound. */
type Random = (below: number) => number;

function randomFrom(which: number): Random {
  const next = seeded(seed + which);
  return (below) => Math.floor(next() * below);
}

/** Runs until the time is over, at least ten times. */
async function repeatedly(run: (nth: number) => unknown): Promise<void> {
  const end = performance.now() + budgetMs;
  for (let nth = 0; nth < 10 || performance.now() < end; nth++) {
    const start = performance.now();
    await run(nth);
    expect(performance.now() - start, `FUZZ_SEED=${seed}, run ${nth}`).toBeLessThan(longestMs);
  }
}

const randomBytes = (random: Random, length: number) =>
  Buffer.from(Array.from({ length }, () => random(256)));

/** Some bytes of it changed, left out, doubled or put in. */
function mutated(random: Random, valid: Buffer): Buffer {
  let bytes = Buffer.from(valid);
  for (let count = random(4); count >= 0; count--) {
    const at = random(bytes.length + 1);
    const until = Math.min(bytes.length, at + random(20));
    const before = bytes.subarray(0, at);
    bytes = [
      () => Buffer.concat([before, randomBytes(random, 1), bytes.subarray(at + 1)]),
      () => Buffer.concat([before, bytes.subarray(until)]),
      () => Buffer.concat([bytes.subarray(0, until), bytes.subarray(at)]),
      () => Buffer.concat([before, randomBytes(random, random(5)), bytes.subarray(at)]),
      () =>
        Buffer.concat([
          before,
          Buffer.from([[0, 0x1f, 0x3f, 0x7f, 0x80, 0xff][random(6)]!]),
          bytes.subarray(at),
        ]),
    ][random(5)]!();
  }
  return bytes;
}

/** A text of what headers may have, or, `wild`, of any byte. Mostly short, sometimes none, rarely long. */
function textOf(random: Random, wild: boolean): string {
  const length = [0, 1, random(10), random(200), random(3000)][random(40) === 0 ? 4 : random(4)]!;
  return randomBytes(random, length)
    .toString("latin1")
    .replace(wild ? /^$/ : /[^!-~]/g, "x");
}

const names = ["content-type", "x-a", "x-b", "grpc-status", "etag", ":path", "date", "constructor"];

function headersOf(random: Random, wild = false): Record<string, string> {
  const headers: Record<string, string> = Object.create(null);
  for (let count = random(12); count > 0; count--) {
    const name = random(3) === 0 ? textOf(random, wild) || "x" : names[random(names.length)]!;
    const known = staticTable[random(staticTable.length)]!;
    if (random(5) === 0) headers[known[0]] = known[1];
    else headers[name] = textOf(random, wild);
  }
  return headers;
}

/** Writes headers as RFC 7541 allows a server to: with the table, and changes of its size. */
class TableWriter {
  readonly #random: Random;
  /** The newest first. */
  #table: (readonly [string, string])[] = [];
  #max = 4096;

  constructor(random: Random) {
    this.#random = random;
  }

  block(headers: Readonly<Record<string, string>>): Buffer {
    const out: number[] = [];
    const random = this.#random;
    for (let changes = random(6) === 0 ? 1 + random(2) : 0; changes > 0; changes--) {
      this.#max = [0, random(200), random(4097), 4096][random(4)]!;
      integer(out, 0x20, 5, this.#max);
      this.#evict();
    }
    for (const [name, value] of Object.entries(headers)) this.#header(out, name, value);
    return Buffer.from(out);
  }

  #header(out: number[], name: string, value: string): void {
    const all = [...staticTable, ...this.#table];
    const whole = all.findLastIndex(([a, b]) => a === name && b === value);
    if (whole >= 0 && this.#random(4) > 0) return integer(out, 0x80, 7, whole + 1);
    const [first, bits] = (
      [
        [0x40, 6],
        [0x00, 4],
        [0x10, 4],
      ] as const
    )[this.#random(3)]!;
    const named = this.#random(4) > 0 ? all.findLastIndex(([a]) => a === name) : -1;
    integer(out, first, bits, named + 1);
    for (const text of named < 0 ? [name, value] : [value]) {
      integer(out, 0, 7, text.length);
      out.push(...Buffer.from(text, "latin1"));
    }
    if (first !== 0x40) return;
    this.#table.unshift([name, value]);
    this.#evict();
  }

  #evict(): void {
    const bytes = () => this.#table.reduce((sum, [a, b]) => sum + a.length + b.length + 32, 0);
    while (bytes() > this.#max) this.#table.pop();
  }
}

function integer(out: number[], first: number, bits: number, value: number): void {
  const full = 2 ** bits - 1;
  if (value < full) return void out.push(first | value);
  out.push(first | full);
  let rest = value - full;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128);
  out.push(rest);
}

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
const shrink = hex("3fe101");
/** RFC 7541, C.6: a table of 256 bytes, texts by Huffman's code. */
const examples: readonly (readonly [Buffer, Headers])[] = [
  [
    Buffer.concat([
      shrink,
      hex("4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff"),
      hex("6e91 9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"),
    ]),
    {
      ":status": "302",
      "cache-control": "private",
      date: "Mon, 21 Oct 2013 20:13:21 GMT",
      location: "https://www.example.com",
    },
  ],
  [
    hex("4883 640e ffc1 c0bf"),
    {
      ":status": "307",
      "cache-control": "private",
      date: "Mon, 21 Oct 2013 20:13:21 GMT",
      location: "https://www.example.com",
    },
  ],
  [
    hex(
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ),
    {
      ":status": "200",
      "cache-control": "private",
      date: "Mon, 21 Oct 2013 20:13:22 GMT",
      location: "https://www.example.com",
      "content-encoding": "gzip",
      "set-cookie": "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    },
  ],
];

describe("headers", () => {
  it("are read as the examples of RFC 7541 say", () => {
    const reader = new HeaderReader();
    for (const [block, headers] of examples) expect({ ...reader.read(block) }).toEqual(headers);
    // The second had no room for the status beside the others, and the third for none of the first: 62 is the cookie.
    expect({ ...reader.read(hex("be")) }).toEqual({ "set-cookie": examples[2]![1]["set-cookie"] });
    expect(() => reader.read(hex("c1"))).toThrow(Http2Error);
  });

  const broken: Record<string, string> = {
    "a number with zeros without end": `3f${"80".repeat(200)}00`,
    "a number that is too large": "7f ff ff ff ff ff 7f",
    "header 0": "80",
    "a header that is not in the table": "be",
    "a table that is larger than allowed": "3f e2 1f",
    "a change of the table behind a header": "88 20",
    "a text that is cut off": "00 03 61",
    "a name that is cut off": "00",
    "padding by zeros": "00 01 61 81 18",
    "padding of a whole byte": "00 01 61 82 1f ff",
    "the end as a text": "00 01 61 84 ff ff ff ff",
  };
  for (const [what, bytes] of Object.entries(broken))
    it(`are refused: ${what}`, () => {
      expect(() => new HeaderReader().read(hex(bytes))).toThrow(Http2Error);
    });

  it("are refused when a few bytes are many headers of the table", () => {
    const reader = new HeaderReader();
    const value = Buffer.alloc(4000, "x");
    const first = [0x40, 1, 0x61];
    integer(first, 0, 7, value.length);
    expect(reader.read(Buffer.concat([Buffer.from(first), value]))["a"]).toBe(String(value));
    expect(() => reader.read(Buffer.alloc(60_000, 0xbe))).toThrow("headers of more than");
  });

  it("are read as they were written, by ourselves and with a table that changes", async () => {
    const random = randomFrom(1);
    await repeatedly(() => {
      const own = new HeaderReader();
      const others = new HeaderReader();
      const tableWriter = new TableWriter(random);
      for (let block = 0; block < 20; block++) {
        const headers = headersOf(random, true);
        expect(own.read(new HeaderWriter().block(headers))).toEqual(headers);
        expect(others.read(tableWriter.block(headers))).toEqual(headers);
      }
    });
  });

  it("are read as they were written, whatever length they have", () => {
    const writer = new HeaderWriter();
    const around = (length: number) => [length - 1, length, length + 1];
    // Where a length needs one byte more.
    const lengths = [...Array.from({ length: 300 }, (_, i) => i), ...around(126 + 2 ** 14)];
    for (const length of lengths) {
      const headers = { a: "x".repeat(length), [`n${"y".repeat(length)}`]: "" };
      expect(new HeaderReader().read(writer.block(headers))).toEqual(headers);
    }
  });

  it("are read or refused, whatever they are", async () => {
    const random = randomFrom(2);
    const counts = { read: 0, refused: 0 };
    await repeatedly(() => {
      const reader = new HeaderReader();
      const writer = new TableWriter(random);
      for (let block = 0; block < 20; block++) {
        const valid = random(4) === 0 ? examples[random(3)]![0] : writer.block(headersOf(random, true));
        const bytes = random(4) === 0 ? randomBytes(random, random(300)) : mutated(random, valid);
        try {
          const size = Object.entries(reader.read(bytes)).reduce((sum, each) => sum + String(each).length, 0);
          expect(size).toBeLessThan(2 * 64 * 1024);
          counts.read += 1;
        } catch (error) {
          if (!(error instanceof Http2Error)) throw new Error(bytes.toString("hex"), { cause: error });
          counts.refused += 1;
        }
      }
    });
    expect(counts.read).toBeGreaterThan(0);
    expect(counts.refused).toBeGreaterThan(0);
  });
});

describe("frames", () => {
  it("are read or refused, whatever they are, and however they are cut", async () => {
    const random = randomFrom(3);
    const counts = { whole: 0, refused: 0 };
    /** What comes of some bytes in pieces. */
    const outcomeOf = (pieces: readonly Buffer[]): readonly string[] => {
      const taken: string[] = [];
      const reader = new FrameReader((type, flag, stream, payload) => {
        taken.push([type, flag, stream, payload.toString("hex")].join(" "));
      });
      try {
        for (const piece of pieces) reader.read(piece);
      } catch (error) {
        if (!(error instanceof Http2Error)) throw error;
        taken.push(error.message);
        counts.refused += 1;
      }
      return taken;
    };
    await repeatedly(() => {
      const frames = Array.from({ length: random(8) }, () =>
        frame(random(11), random(256), random(4), randomBytes(random, [0, 4, 5, 8, random(300)][random(5)]!)),
      );
      const valid = Buffer.concat([settingsFrame({ 3: 100 }), ...frames]);
      const bytes = [valid, mutated(random, valid), randomBytes(random, random(500))][random(3)]!;
      const pieces: Buffer[] = [];
      for (let at = 0; at < bytes.length; ) {
        const next = at + 1 + random(50);
        pieces.push(bytes.subarray(at, next));
        at = next;
      }
      const whole = outcomeOf([bytes]);
      expect(outcomeOf(pieces), bytes.toString("hex")).toEqual(whole);
      counts.whole += whole.length;
    });
    expect(counts.whole).toBeGreaterThan(0);
    expect(counts.refused).toBeGreaterThan(0);
  });
});

describe("a connection", () => {
  it("answers each call or fails it, whatever the application sends", async () => {
    const random = randomFrom(4);
    const counts = { answered: 0, failed: 0 };
    const app = new RawApp(({ type, stream }, socket) => {
      if (type !== frameTypes.headers) return;
      const answer = Buffer.concat([
        settingsFrame({ [random(7)]: random(2) * random(100_000) }),
        headersFrame(stream, { ":status": "200", ...headersOf(random) }, flags.endHeaders),
        frame(frameTypes.windowUpdate, 0, random(2) * stream, word(random(1000))),
        frame(frameTypes.data, 0, stream, randomBytes(random, random(100))),
        frame(frameTypes.ping, 0, 0, randomBytes(random, 8)),
        headersFrame(stream, { "grpc-status": "0" }),
        frame(frameTypes.goAway, 0, 0, Buffer.concat([word(random(20)), word(0)])),
      ]);
      // What is left open ends here.
      socket.end(random(10) === 0 ? answer : mutated(random, answer));
    });
    await app.listen();
    const call = app.client();
    await repeatedly(async () => {
      try {
        await call("/", { headers: headersOf(random), body: Buffer.alloc(random(1000)) });
        counts.answered += 1;
      } catch (error) {
        if (!(error instanceof AppUnreachable)) throw error;
        counts.failed += 1;
      }
    });
    app.close();
    expect(counts.answered).toBeGreaterThan(0);
    expect(counts.failed).toBeGreaterThan(0);
  });

  it("carries any headers to Node's own server and back, with any sizes of the tables", async () => {
    const random = randomFrom(5);
    await repeatedly(async () => {
      const sizes = [0, 1, random(200), random(4097), 65_536];
      const server = http2.createServer({
        settings: { headerTableSize: sizes[random(5)]! },
        maxDeflateDynamicTableSize: sizes[random(5)]!,
      });
      server.on("stream", (stream: http2.ServerHttp2Stream, headers) => {
        const own = Object.entries(headers).filter(([name]) => name.startsWith("x-"));
        stream.respond({ ":status": 200, ...Object.fromEntries(own) });
        stream.end();
      });
      const sessions: http2.ServerHttp2Session[] = [];
      server.on("session", (session) => sessions.push(session));
      await once(server.listen(0, "127.0.0.1"), "listening");
      const { port } = server.address() as AddressInfo;
      const connection = new Http2Connection({ host: "127.0.0.1", port, tls: false, maxAnswerBytes: 1000 });
      const head = connection.head("POST", "/", {});
      for (let nth = 0; nth < 10; nth++) {
        const huge = random(10) === 0 ? { "x-huge": "h".repeat(random(40_000)) } : {};
        const own = Array.from({ length: random(8) }, () => [
          `x-${"abcd"[random(4)]}`,
          textOf(random, false),
        ]);
        const headers: Record<string, string> = { ...Object.fromEntries(own), ...huge };
        const answer = await connection.request(
          { head, headers, body: undefined },
          new AbortController().signal,
        );
        const { ":status": status, date, ...rest } = answer.headers;
        expect(status).toBe("200");
        expect(date).toBeTypeOf("string");
        expect(rest).toEqual(headers);
      }
      expect(sessions.length).toBe(1);
      connection.close();
      for (const session of sessions) session.destroy();
      server.close();
    });
  });
});
