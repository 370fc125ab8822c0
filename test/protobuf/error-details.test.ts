import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorToJson } from "@connectrpc/connect/protocol-connect";
import { expect, it } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  HelpSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.ts";
import { badRequest, errorInfo, help, resourceInfo, retryInfo } from "../../src/protobuf/error-details.ts";
import { Random } from "../end-to-end/random.ts";

const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Date.now() % 1_000_000);
const random = new Random(seed);
const title = (what: string) => `${what} (OUTRIDER_TEST_SEED=${seed})`;

const pieces = [
  "",
  "a",
  "key",
  "tést",
  "日本",
  "😀",
  "\u0000",
  '"\\\n',
  "\u2028",
  "x".repeat(200),
  "é".repeat(60),
];
const text = () =>
  Array.from({ length: random.below(4) }, () => pieces[random.below(pieces.length)]).join("");
const some = <T>(most: number, make: () => T) => Array.from({ length: random.below(most + 1) }, make);
const rounds = Array.from({ length: 500 }, (_, round) => round);

/** What clients of both protocols get of a detail that is made here, and of protobuf-es's. */
function expectSame<Desc extends DescMessage>(
  detail: ConnectError["details"][number],
  desc: Desc,
  value: MessageInitShape<Desc>,
): void {
  const made = new ConnectError("message", Code.NotFound);
  made.details.push(detail);
  const other = new ConnectError("message", Code.NotFound, undefined, [{ desc, value }]);
  // With the order of members, and so of entries and fields: the bytes are in it as base64.
  expect(JSON.stringify(errorToJson(made, undefined))).toBe(JSON.stringify(errorToJson(other, undefined)));
  expect(made.findDetails(desc)).toEqual([create(desc, value)]);
}

function metadata(): Record<string, string> {
  // Also names that mean something to objects, and numbers, which come first in them.
  const names = ["__proto__", "constructor", "toString", "7", "10", "b"];
  const name = () => (random.below(3) === 0 ? names[random.below(names.length)]! : text());
  return Object.fromEntries(some(random.below(20) === 0 ? 200 : 5, () => [name(), text()]));
}

it(title("an ErrorInfo is the one that protobuf-es makes"), () => {
  expectSame(errorInfo("", "", {}), ErrorInfoSchema, {});
  expectSame(errorInfo("R", "d", { ["__proto__"]: "x", "": "" }), ErrorInfoSchema, {
    ...{ reason: "R", domain: "d" },
    metadata: { ["__proto__"]: "x", "": "" },
  });
  for (const _ of rounds) {
    const [reason, domain, entries] = [text(), text(), metadata()];
    expectSame(errorInfo(reason, domain, entries), ErrorInfoSchema, { reason, domain, metadata: entries });
  }
});

it("an ErrorInfo keeps the metadata that it was made with", () => {
  const entries: Record<string, string> = { key: "one" };
  const detail = errorInfo("R", "d", entries);
  entries["key"] = "two";
  expectSame(detail, ErrorInfoSchema, { reason: "R", domain: "d", metadata: { key: "one" } });
});

it(title("a BadRequest is the one that protobuf-es makes"), () => {
  for (const _ of rounds) {
    const violations = some(5, () => ({ field: text(), description: text() }));
    expectSame(badRequest(violations), BadRequestSchema, { fieldViolations: violations });
  }
});

it(title("a RetryInfo is the one that protobuf-es makes, with delays of every kind"), () => {
  const delaysMs = [0, -0, 1, -1, 0.5, -0.5, 1.5, 20, 999.999999, 1000, -1000, 1500.25, -1500.25, 86_400_000];
  for (const _ of rounds) {
    // In units that a double can add without loss, so that there are whole nanoseconds.
    const wholeMs = random.below(2 ** 31) * random.between(1, 100_000) * (random.below(2) === 0 ? 1 : -1);
    delaysMs.push(wholeMs, wholeMs % 5000, (wholeMs % 100_000) / 64);
  }
  for (const delayMs of delaysMs) {
    expectSame(retryInfo(delayMs), RetryInfoSchema, { retryDelay: durationFromMs(delayMs) });
  }
});

it("a RetryInfo of a delay with parts of nanoseconds is rounded: protobuf-es cannot write it", () => {
  expectSame(retryInfo(500 + 1 / 4096), RetryInfoSchema, { retryDelay: { seconds: 0n, nanos: 500_000_244 } });
});

it(title("a ResourceInfo is the one that protobuf-es makes"), () => {
  for (const _ of rounds) {
    const [resourceType, resourceName] = [text(), text()];
    expectSame(resourceInfo(resourceType, resourceName), ResourceInfoSchema, { resourceType, resourceName });
  }
});

it(title("a Help is the one that protobuf-es makes"), () => {
  for (const _ of rounds) {
    const links = some(3, () => ({ url: text(), description: text() }));
    expectSame(help(links), HelpSchema, { links });
  }
});

it("half of a surrogate pair is replaced in the bytes, as protobuf-es does", () => {
  const texts = { field: "a\ud800", description: `${"é".repeat(60)}\udc00` };
  const made = new ConnectError("");
  made.details.push(badRequest([texts]));
  expect(made.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject([
    { field: "a\ufffd", description: `${"é".repeat(60)}\ufffd` },
  ]);
  expect(errorToJson(made, undefined)).toEqual(
    errorToJson(
      new ConnectError("", undefined, undefined, [
        { desc: BadRequestSchema, value: { fieldViolations: [texts] } },
      ]),
      undefined,
    ),
  );
});
