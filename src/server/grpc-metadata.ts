/** Headers and errors as grpc-js has them. */
import { create, toBinary } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { lengthDelimited, tag, varint } from "../protobuf/reader.ts";
import { ReverseWriter } from "../protobuf/writer.ts";

/** More than most have. */
const guessedStatusBytes = 512;

/** The first value of a header as text; "" when it is absent. */
export function textOf(metadata: grpc.Metadata, key: string): string {
  const value = metadata.get(key)[0];
  return typeof value === "string" ? value : "";
}

/** The size of request metadata in bytes, as HTTP/2 counts: names, values, and 32 for each entry. */
export function metadataBytes(metadata: grpc.Metadata): number {
  let bytes = 0;
  const entries: Record<string, (string | Buffer)[]> = metadata.toJSON();
  for (const key in entries) {
    for (const value of entries[key]!) {
      // Binary values travel as base64.
      const length = typeof value === "string" ? value.length : Math.ceil((value.length * 4) / 3);
      bytes += key.length + length + 32;
    }
  }
  return bytes;
}

/** Request metadata as handlers see it. */
export function headersOf(metadata: grpc.Metadata): Headers {
  const headers = new Headers();
  const entries: Record<string, (string | Buffer)[]> = metadata.toJSON();
  for (const [key, values] of Object.entries(entries)) {
    for (const value of values) {
      headers.append(key, typeof value === "string" ? value : value.toString("base64"));
    }
  }
  return headers;
}

/** What a handler has set, as metadata. What gRPC cannot carry as text is left out. */
export function metadataOf(headers: Headers): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [key, value] of headers) {
    // Names with this prefix are gRPC's own; a handler that sets one would contradict the server.
    if (key.startsWith("grpc-")) continue;
    if (key.endsWith("-bin")) metadata.add(key, Buffer.from(value, "base64"));
    else if (/^[ -~]*$/.test(value)) metadata.add(key, value);
  }
  return metadata;
}

/** An error and its details as gRPC sends them. */
export function statusOf(error: ConnectError): grpc.StatusObject {
  const metadata = metadataOf(error.metadata);
  if (error.details.length > 0) metadata.set("grpc-status-details-bin", statusBytes(error));
  return { code: error.code as number, details: error.rawMessage, metadata };
}

/** A google.rpc.Status. */
function statusBytes({ code, rawMessage, details }: ConnectError): Buffer {
  const writer = new ReverseWriter(guessedStatusBytes);
  for (const detail of details.toReversed()) {
    const mark = writer.left;
    const [type, value] =
      "desc" in detail
        ? [detail.desc.typeName, toBinary(detail.desc, create(detail.desc, detail.value))]
        : [detail.type, detail.value];
    // A google.protobuf.Any.
    writer.data(tag(2, lengthDelimited), value);
    writer.text(tag(1, lengthDelimited), `type.googleapis.com/${type}`);
    writer.nested(tag(3, lengthDelimited), mark);
  }
  writer.text(tag(2, lengthDelimited), rawMessage);
  writer.uint(tag(1, varint), code);
  return Buffer.from(writer.bytes());
}
