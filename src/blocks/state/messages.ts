/** Items as protobuf messages. Plain literals of the full shape: `create` costs more than the rest of a get. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type {
  BatchGetResult,
  Change as ChangeMessage,
  GetResponse,
  Item as ItemMessage,
  ReadResponse,
} from "../../../gen/outrider/state/v1/state_pb.ts";
import type { Change, Item } from "./driver.ts";

const noValue = new Uint8Array(0);

/** The item, with its value unless the store left it out. */
export function itemMessage(item: Item): ItemMessage {
  const message: ItemMessage = {
    $typeName: "outrider.state.v1.Item",
    key: item.key,
    value: item.value ?? noValue,
    etag: item.etag,
    contentType: item.contentType,
    metadata: item.metadata,
    valueBytes: BigInt(item.valueBytes),
  };
  if (item.expiresAtMs !== undefined) message.expiresAt = timestamp(item.expiresAtMs);
  return message;
}

export function getResponse(item: Item | undefined): GetResponse {
  return item === undefined
    ? { $typeName: "outrider.state.v1.GetResponse" }
    : { $typeName: "outrider.state.v1.GetResponse", item: itemMessage(item) };
}

export function batchGetResult(key: string, item: Item | undefined): BatchGetResult {
  const message: BatchGetResult = { $typeName: "outrider.state.v1.BatchGetResult", key };
  if (item !== undefined) message.item = itemMessage(item);
  return message;
}

export function changeMessage({ key, item }: Change): ChangeMessage {
  const message: ChangeMessage = { $typeName: "outrider.state.v1.Change", key };
  if (item !== undefined) message.item = itemMessage(item);
  return message;
}

export function itemPart(item: Item): ReadResponse {
  return {
    $typeName: "outrider.state.v1.ReadResponse",
    part: { case: "item", value: itemMessage(item) },
  };
}

export function chunkPart(chunk: Uint8Array): ReadResponse {
  return { $typeName: "outrider.state.v1.ReadResponse", part: { case: "chunk", value: chunk } };
}

function timestamp(timeMs: number): Timestamp {
  const seconds = Math.floor(timeMs / 1000);
  return {
    $typeName: "google.protobuf.Timestamp",
    seconds: BigInt(seconds),
    nanos: Math.round((timeMs - seconds * 1000) * 1e6),
  };
}
