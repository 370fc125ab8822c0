import { create, equals, type MessageInitShape } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { BadRequestSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { type Event, EventSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { decodeCloudEvent, encodeCloudEvent } from "../../../src/blocks/pubsub/cloudevents.ts";
import { reasonOf } from "../../../src/faults.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const textOf = (data: Uint8Array) => new TextDecoder().decode(data);

function event(more: MessageInitShape<typeof EventSchema> = {}): Event {
  return create(EventSchema, { id: "1", source: "/s", type: "t", ...more });
}

/** The document that an event becomes. */
function documentOf(of: Event): Record<string, unknown> {
  return JSON.parse(encodeCloudEvent(of)) as Record<string, unknown>;
}

/** A valid document with other members. */
function decode(members: Record<string, unknown>): Event {
  return decodeCloudEvent(
    JSON.stringify({ specversion: "1.0", id: "1", source: "/s", type: "t", ...members }),
  );
}

/** What decoding complains of, by field. */
function violationsOf(run: () => unknown): Record<string, string> {
  try {
    run();
  } catch (error) {
    expect(reasonOf(error)).toBe("INVALID_REQUEST");
    const [details] = (error as ConnectError).findDetails(BadRequestSchema);
    return Object.fromEntries(details!.fieldViolations.map(({ field, description }) => [field, description]));
  }
  throw new Error("it was accepted");
}

describe("a CloudEvent as JSON", () => {
  const full = event({
    subject: "orders/42",
    time: { seconds: 1_700_000_000n, nanos: 123_456_789 },
    dataContentType: "application/json",
    dataSchema: "https://example.com/schema",
    data: bytes('{"amount":100}'),
    extensions: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", empty: "" },
  });

  it("has the members of the specification", () => {
    expect(documentOf(full)).toEqual({
      specversion: "1.0",
      id: "1",
      source: "/s",
      type: "t",
      subject: "orders/42",
      time: "2023-11-14T22:13:20.123456789Z",
      datacontenttype: "application/json",
      dataschema: "https://example.com/schema",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      empty: "",
      data: { amount: 100 },
    });
    expect(equals(EventSchema, decodeCloudEvent(encodeCloudEvent(full)), full)).toBe(true);
  });

  it("leaves out what the event has not", () => {
    expect(documentOf(event())).toEqual({ specversion: "1.0", id: "1", source: "/s", type: "t" });
    expect(documentOf(create(EventSchema))).toEqual({ specversion: "1.0" });
  });

  it("is one line, so that many make a file of lines", () => {
    const pretty = event({ dataContentType: "application/json", data: bytes('{\n  "a": [1,\n 2]\n}\n') });
    expect(encodeCloudEvent(pretty)).not.toContain("\n");
    expect(documentOf(pretty)["data"]).toEqual({ a: [1, 2] });
  });

  it.each([
    ["application/json", '{"a":[1,null,"x"]}', { data: { a: [1, null, "x"] } }],
    ["application/json", '"text"', { data: "text" }],
    ["application/json", "null", { data: null }],
    ["application/vnd.a+json; charset=utf-8", "[]", { data: [] }],
    ["", "true", { data: true }],
    ["", "text", { data_base64: "dGV4dA==" }],
    ["application/json", "{broken", { data_base64: "e2Jyb2tlbg==" }],
    ["text/plain", "text ü", { data: "text ü" }],
    ["text/plain", '{"a":1}', { data: '{"a":1}' }],
    ["application/xml", "<a/>", { data_base64: "PGEvPg==" }],
  ])("writes data by its media type: %s, %s", (dataContentType, text, expected) => {
    const written = event({ dataContentType, data: bytes(text) });
    expect(documentOf(written)).toMatchObject(expected);
    expect(Object.keys(documentOf(written)).filter((name) => /^data(_base64)?$/.test(name))).toHaveLength(1);
    expect(textOf(decodeCloudEvent(encodeCloudEvent(written)).data)).toBe(text);
  });

  it.each(["text/plain", "application/json", "application/octet-stream"])(
    "keeps bytes that are no UTF-8, and a byte order mark: %s",
    (dataContentType) => {
      for (const data of [new Uint8Array([0xff, 0xfe, 0x00]), new Uint8Array([0xef, 0xbb, 0xbf, 0x31])]) {
        const written = event({ dataContentType, data });
        expect(equals(EventSchema, decodeCloudEvent(encodeCloudEvent(written)), written)).toBe(true);
      }
    },
  );

  it.each(["12345678901234567890", "0.1000", "1e400", "-0", '{"a":[1.0,{"b":1E2}]}'])(
    "keeps numbers to the digit: %s",
    (text) => {
      const written = event({ dataContentType: "application/json", data: bytes(text) });
      const line = encodeCloudEvent(written);
      expect(line).toContain(`"data":${text}`);
      expect(textOf(decodeCloudEvent(line).data)).toBe(text);
    },
  );

  it("keeps the keys of data as they are: escaped, twice, and in their order", () => {
    for (const text of ['{"k":1,"k\\\\":2}', '{"k":1,"k\\t":2}', '{"b":1,"2":2,"1":3,"b":4,"__proto__":5}']) {
      const written = event({ dataContentType: "application/json", data: bytes(text) });
      expect(textOf(decodeCloudEvent(encodeCloudEvent(written)).data)).toBe(text);
    }
  });

  it("takes data nested as deeply as can be", () => {
    const deep = event({
      dataContentType: "application/json",
      data: bytes("[".repeat(200_000) + "]".repeat(200_000)),
    });
    expect(equals(EventSchema, decodeCloudEvent(encodeCloudEvent(deep)), deep)).toBe(true);
  });

  describe("is read", () => {
    it("from bytes and from text", () => {
      const text = encodeCloudEvent(full);
      expect(equals(EventSchema, decodeCloudEvent(bytes(text)), full)).toBe(true);
      expect(equals(EventSchema, decodeCloudEvent(bytes(`\uFEFF ${text}\n`)), full)).toBe(true);
    });

    it("with extensions that are numbers and booleans as strings, and null as absent", () => {
      const read = decode({
        number: 42,
        fraction: 1.5,
        yes: true,
        nothing: null,
        subject: null,
        data_base64: null,
      });
      expect(read.extensions).toEqual({ number: "42", fraction: "1.5", yes: "true" });
      expect(read.subject).toBe("");
    });

    it("with numbers in extensions to the digit", () => {
      const text =
        '{"specversion":"1.0","id":"1","source":"/s","type":"t","large":12345678901234567890,"one":1.0}';
      expect(decodeCloudEvent(text).extensions).toEqual({ large: "12345678901234567890", one: "1.0" });
    });

    it.each([
      ["2026-01-31T23:59:59Z", 1_769_903_999n, 0],
      ["2026-01-31t23:59:59.5z", 1_769_903_999n, 500_000_000],
      ["2026-01-31T23:59:59.000000001+02:00", 1_769_896_799n, 1],
    ])("with times in any zone: %s", (time, seconds, nanos) => {
      expect(decode({ time }).time).toMatchObject({ seconds, nanos });
    });

    it("with data in base64, empty or not", () => {
      expect(decode({ data_base64: "AAEC/w==" }).data).toEqual(new Uint8Array([0, 1, 2, 255]));
      expect(decode({ data_base64: "" }).data).toEqual(new Uint8Array());
      // Bits that no byte has are passed over.
      expect(decode({ data_base64: "AR==" }).data).toEqual(new Uint8Array([1]));
      expect(decode({}).data).toEqual(new Uint8Array());
    });
  });

  describe("is refused", () => {
    it.each([
      ["no JSON", "{", "Expected property name"],
      ["nothing", "", "Unexpected end of JSON input"],
      ["a list", "[]", "an object"],
      ["a string", '"event"', "an object"],
      ["null", "null", "an object"],
      ["no UTF-8", new Uint8Array([0x22, 0xff, 0x22]), "not valid"],
      ["nested without end", `{"a":${"[".repeat(1_000_000)}`, "must be a CloudEvent in JSON"],
    ])("as a whole: %s", (_name, source, reason) => {
      expect(violationsOf(() => decodeCloudEvent(source, "here"))).toEqual({
        here: expect.stringContaining(reason),
      });
    });

    it("for everything that is wrong, at once, by the names of the members", () => {
      const run = () =>
        decodeCloudEvent('{"id":"","source":7,"time":"yesterday","Ext":"x"}', "outgoing.event.data");
      expect(violationsOf(run)).toEqual({
        "outgoing.event.data.specversion": "must be set",
        "outgoing.event.data.id": "must not be empty",
        "outgoing.event.data.source": "must be a string",
        "outgoing.event.data.type": "must be set",
        "outgoing.event.data.time": expect.stringContaining("RFC 3339"),
        "outgoing.event.data.Ext": expect.stringContaining("1 to 20 lower-case letters and digits"),
      });
    });

    it.each([
      [{ specversion: "0.3" }, "specversion", 'must be "1.0"'],
      [{ specversion: 1 }, "specversion", "must be a string"],
      [{ id: null }, "id", "must be set"],
      [{ subject: "" }, "subject", "must not be empty"],
      [{ datacontenttype: 7 }, "datacontenttype", "must be a string"],
      [{ time: "2026-13-01T00:00:00Z" }, "time", "must be a time"],
      [{ time: 1_700_000_000 }, "time", "must be a string"],
      [{ object: {} }, "object", "must be a string, a number or a boolean"],
      [{ list: [] }, "list", "must be a string, a number or a boolean"],
      [{ "with-dash": "x" }, "with-dash", "must be the name of an attribute"],
      [{ ["x".repeat(21)]: "x" }, "x".repeat(21), "must be the name of an attribute"],
      [{ "": "x" }, "", "must be the name of an attribute"],
      [{ data: 1, data_base64: "" }, "data_base64", "together with data"],
      [{ data_base64: "%%%%" }, "data_base64", "base64"],
      [{ data_base64: "AAE" }, "data_base64", "base64"],
      [{ data_base64: "\u0141AAA" }, "data_base64", "base64"],
      [{ data_base64: "AA_-" }, "data_base64", "base64"],
      [{ data_base64: "AA=A" }, "data_base64", "base64"],
      [{ data_base64: 7 }, "data_base64", "base64"],
      [{ datacontenttype: "text/plain", data: { a: 1 } }, "data", "must be a string"],
    ])("for %j", (members, member, reason) => {
      expect(violationsOf(() => decode(members))).toEqual({
        [`event.${member}`]: expect.stringContaining(reason),
      });
    });
  });

  it("comes out as it went in, whatever it is", () => {
    const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
    const random = generator(seed);
    const untilMs = performance.now() + 1500;
    let count = 0;
    for (; count < 20_000 && performance.now() < untilMs; count += 1) {
      const original = randomEvent(random);
      const line = encodeCloudEvent(original);
      const read = decodeCloudEvent(line);
      const where = `with SEED=${seed}, event ${count}: ${line}`;
      if (!equals(EventSchema, read, original)) expect(read, where).toEqual(original);
      if (encodeCloudEvent(read) !== line) expect(encodeCloudEvent(read), where).toBe(line);
    }
    expect(count).toBeGreaterThan(100);
  });

  it("is read or refused, but nothing else, whatever the bytes are", () => {
    const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
    const random = generator(seed);
    const untilMs = performance.now() + 500;
    for (let count = 0; count < 20_000 && performance.now() < untilMs; count += 1) {
      const broken = bytes(encodeCloudEvent(randomEvent(random)));
      for (let change = 0; change < 3; change += 1) broken[random(broken.length)] = random(256);
      try {
        decodeCloudEvent(broken);
      } catch (error) {
        expect(reasonOf(error), `with SEED=${seed}, event ${count}`).toBe("INVALID_REQUEST");
      }
    }
  });
});

/** Whole numbers from 0 up to a bound, from a seed (mulberry32). */
function generator(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}

type Random = ReturnType<typeof generator>;

function randomEvent(random: Random): Event {
  const pick = <T>(values: readonly T[]) => values[random(values.length)]!;
  const dataContentType = pick(["", "application/json", "application/a+json", "text/plain", "image/png"]);
  const data = pick([
    () => new Uint8Array(),
    () => bytes(JSON.stringify(randomJson(random, 4))),
    // Spaces around JSON are not kept, and both of these may be JSON.
    () => bytes(randomText(random).replace(/^[ \t\n]+|[ \t\n]+$/g, "")),
    () =>
      Uint8Array.from({ length: random(40) }, () => random(256)).filter(
        (byte) => !" \t\n\r".includes(String.fromCharCode(byte)),
      ),
    () => bytes(pick(["1.0", "-0", "1e3", "123456789012345678901234567890", '"\\ud800"', '{"__proto__":1}'])),
  ])();
  const extensions: Record<string, string> = {};
  for (let count = random(4); count > 0; count -= 1) extensions[`ext${random(100)}`] = randomText(random);
  return event({
    id: randomText(random) || "1",
    subject: randomText(random),
    dataContentType,
    dataSchema: pick(["", "https://example.com/s"]),
    data,
    extensions,
    ...(random(2) === 0 && {
      time: { seconds: BigInt(random(2 ** 31)) - 10n ** 9n, nanos: random(10 ** 9) },
    }),
  });
}

function randomText(random: Random): string {
  const characters = [
    "a",
    "Z",
    "0",
    " ",
    '"',
    "\\",
    "/",
    "\n",
    "\t",
    "\u0000",
    "\u007f",
    "é",
    "\u2028",
    "日",
    "\u{1f680}",
    "\ufeff",
  ];
  return Array.from({ length: random(12) }, () => characters[random(characters.length)]).join("");
}

function randomJson(random: Random, depth: number): unknown {
  switch (random(depth > 0 ? 7 : 5)) {
    case 0:
      return null;
    case 1:
      return random(2) === 0;
    case 2:
      return random(2 ** 31) - 2 ** 30;
    case 3:
      return random(10 ** 9) / 1024 ** random(5);
    case 4:
      return randomText(random);
    case 5:
      return Array.from({ length: random(4) }, () => randomJson(random, depth - 1));
    default:
      return Object.fromEntries(
        Array.from({ length: random(4) }, () => [`k${randomText(random)}`, randomJson(random, depth - 1)]),
      );
  }
}
