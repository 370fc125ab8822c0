/**
 * The messages of google/rpc/error_details.proto, as a ConnectError carries those that came as bytes. Written by hand:
 * with descriptors each start would take longer, also that of a sidecar that has no error to tell.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import { lengthDelimited, tag, varint } from "./reader.ts";
import { durationFromMs } from "./times.ts";
import { ReverseWriter } from "./writer.ts";

/** Texts by their names in JSON, in the order of their fields, which are numbered from 1. */
type Texts = Readonly<Record<string, string>>;

/** Enough for most messages; the writer makes more where it is not. */
const bufferBytes = 128;

/** One of `ConnectError.details`. */
class ErrorDetail {
  /** The message's full name. */
  readonly type: string;
  /** The message in proto3's JSON, which Connect sends beside its bytes. */
  readonly debug: JsonObject;
  readonly #write: (writer: ReverseWriter) => void;

  constructor(type: string, debug: JsonObject, write: (writer: ReverseWriter) => void) {
    this.type = type;
    this.debug = debug;
    this.#write = write;
  }

  /** The message in protobuf. Written when it is asked for: many an error is not sent, but only looked at. */
  get value(): Uint8Array {
    const writer = new ReverseWriter(bufferBytes);
    this.#write(writer);
    return writer.bytes();
  }
}

/** google.rpc.ErrorInfo. */
export function errorInfo(reason: string, domain: string, metadata: Texts): ErrorDetail {
  const texts = { reason, domain };
  const debug = jsonOf(texts);
  const entries = { ...metadata };
  if (Object.keys(entries).length > 0) debug["metadata"] = entries;
  return new ErrorDetail("google.rpc.ErrorInfo", debug, (writer) => {
    writer.map(tag(3, lengthDelimited), entries);
    writeTexts(writer, texts);
  });
}

/** google.rpc.BadRequest. */
export function badRequest(
  violations: readonly { readonly field: string; readonly description: string }[],
): ErrorDetail {
  const texts = violations.map(({ field, description }) => ({ field, description }));
  return listOf("google.rpc.BadRequest", "fieldViolations", texts);
}

/** google.rpc.RetryInfo: how long to wait, in milliseconds, to the nanosecond; at most 10,000 years. */
export function retryInfo(delayMs: number): ErrorDetail {
  const { seconds, nanos: exact } = durationFromMs(delayMs);
  const nanos = Math.min(Math.round(exact), 999_999_999);
  return new ErrorDetail("google.rpc.RetryInfo", { retryDelay: durationText(seconds, nanos) }, (writer) => {
    const mark = writer.left;
    if (nanos !== 0) writer.bigint(tag(2, varint), BigInt(nanos));
    if (seconds !== 0n) writer.bigint(tag(1, varint), seconds);
    writer.nested(tag(1, lengthDelimited), mark);
  });
}

/** google.rpc.ResourceInfo. */
export function resourceInfo(resourceType: string, resourceName: string): ErrorDetail {
  const texts = { resourceType, resourceName };
  return new ErrorDetail("google.rpc.ResourceInfo", jsonOf(texts), (writer) => writeTexts(writer, texts));
}

/** google.rpc.Help. */
export function help(links: readonly { readonly description: string; readonly url: string }[]): ErrorDetail {
  const texts = links.map(({ description, url }) => ({ description, url }));
  return listOf("google.rpc.Help", "links", texts);
}

/** A message whose only field is a list of messages that have nothing but texts. */
function listOf(type: string, name: string, items: readonly Texts[]): ErrorDetail {
  const debug: JsonObject = items.length > 0 ? { [name]: items.map(jsonOf) } : {};
  return new ErrorDetail(type, debug, (writer) => {
    for (const item of items.toReversed()) {
      const mark = writer.left;
      writeTexts(writer, item);
      writer.nested(tag(1, lengthDelimited), mark);
    }
  });
}

function writeTexts(writer: ReverseWriter, texts: Texts): void {
  const values = Object.values(texts);
  for (let field = values.length; field > 0; field--)
    writer.text(tag(field, lengthDelimited), values[field - 1]!);
}

/** Leaves out what is empty, as it is on the wire. */
function jsonOf(texts: Texts): JsonObject {
  const json: JsonObject = {};
  for (const name in texts) {
    if (texts[name] !== "") json[name] = texts[name]!;
  }
  return json;
}

/** A duration in proto3's JSON: with as many groups of three digits as it needs. */
function durationText(seconds: bigint, nanos: number): string {
  const sign = seconds === 0n && nanos < 0 ? "-" : "";
  const digits = String(Math.abs(nanos)).padStart(9, "0");
  return `${sign}${seconds}${nanos === 0 ? "" : `.${digits.replace(/(000){1,2}$/, "")}`}s`;
}
