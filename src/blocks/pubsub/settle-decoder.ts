/**
 * Reads the settlements of subscribe streams, which are all that a busy subscriber sends. Every other message,
 * and everything unusual, is left to protobuf-es: see `publish-decoder.ts`.
 */
import { fromBinary } from "@bufbuild/protobuf";
import {
  type DeliveryRange,
  type Outcome,
  type Settle,
  type SubscribeRequest,
  SubscribeRequestSchema,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { lengthDelimited, Reader, tag, varint } from "../../protobuf/reader.ts";

/** The message of some bytes. Throws what protobuf-es throws. */
export function decodeSubscribeRequest(bytes: Uint8Array): SubscribeRequest {
  return readSettleRequest(new Reader(bytes)) ?? fromBinary(SubscribeRequestSchema, bytes);
}

function readSettleRequest(reader: Reader): SubscribeRequest | undefined {
  if (reader.varint() !== tag(2, lengthDelimited)) return undefined;
  const end = reader.nested(reader.end);
  const deliveries: DeliveryRange[] = [];
  let outcome = 0;
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, lengthDelimited):
        deliveries.push(readRange(reader, reader.nested(end)));
        break;
      case tag(2, varint):
        outcome = reader.varint();
        // Beyond an int32 it is negative or wrong.
        if (outcome > 0x7fffffff) reader.giveUp();
        break;
      default:
        reader.giveUp();
    }
  }
  if (reader.unusual || reader.position !== reader.end || end !== reader.end) return undefined;
  const settle: Settle = {
    $typeName: "outrider.pubsub.v1.Settle",
    deliveries,
    // Like protobuf-es, it gives on numbers that have no name.
    outcome: outcome as Outcome,
    delay: undefined,
    reason: "",
  };
  return { $typeName: "outrider.pubsub.v1.SubscribeRequest", message: { case: "settle", value: settle } };
}

function readRange(reader: Reader, end: number): DeliveryRange {
  let first = 0;
  let last = 0;
  while (reader.position < end) {
    switch (reader.varint()) {
      case tag(1, varint):
        first = reader.varint();
        break;
      case tag(2, varint):
        last = reader.varint();
        break;
      default:
        reader.giveUp();
    }
  }
  if (reader.position > end) reader.giveUp();
  return { $typeName: "outrider.pubsub.v1.DeliveryRange", first: BigInt(first), last: BigInt(last) };
}
