/** Writes as messages of the contract, and messages as items. */
import { isDeepStrictEqual } from "node:util";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type BulkStateItem,
  StateOptions_StateConcurrency as Concurrency,
  StateOptions_StateConsistency as Consistency,
  type DeleteRequestSchema,
  type GetResponse,
  type SetRequestSchema,
} from "../../../gen/dapr/proto/components/v1/state_pb.ts";
import { isJsonType } from "../../blocks/pubsub/media-types.ts";
import type { Item, Precondition, Write } from "../../blocks/state/driver.ts";

/** What readers of answered writes need. */
export const strong = Consistency.CONSISTENCY_STRONG;

const expiryName = "ttlExpireTime";

/** What a set is, or that there is nothing to keep of it. */
export type Operation =
  | { readonly case: "set"; readonly value: MessageInitShape<typeof SetRequestSchema> }
  | { readonly case: "delete"; readonly value: MessageInitShape<typeof DeleteRequestSchema> };

/** The operation that a write is. What expires at once is deleted, for the protocol cannot say that. */
export function operationOf(write: Write, nowMs: number): Operation {
  const { key, hints } = write;
  const metadata: Record<string, string> = { ...hints };
  const common = { key, metadata, ...conditions(write.precondition) };
  const expiresAtMs = write.kind === "set" ? write.expiresAtMs : undefined;
  if (write.kind === "delete" || (expiresAtMs !== undefined && expiresAtMs <= nowMs))
    return { case: "delete", value: common };
  const { value, contentType } = write;
  // The protocol has whole seconds.
  if (expiresAtMs !== undefined) metadata["ttlInSeconds"] = String(Math.ceil((expiresAtMs - nowMs) / 1000));
  if (contentType !== "") metadata["contentType"] = contentType;
  return { case: "set", value: { ...common, value, contentType } };
}

function conditions(precondition: Precondition | undefined) {
  const concurrency = precondition
    ? Concurrency.CONCURRENCY_FIRST_WRITE
    : Concurrency.CONCURRENCY_UNSPECIFIED;
  const options = { concurrency, consistency: strong };
  return precondition?.kind === "etag" ? { etag: { value: precondition.etag }, options } : { options };
}

/** The item of an answer; undefined: there is none. */
export function itemOf(key: string, answer: GetResponse | BulkStateItem, nowMs: number): Item | undefined {
  const { data, etag, metadata, contentType } = answer;
  if (data.byteLength === 0 && !etag?.value) return undefined;
  const expiresAtMs = timeOf(metadata[expiryName]);
  if (expiresAtMs !== undefined && expiresAtMs <= nowMs) return undefined;
  return {
    key,
    value: data,
    valueBytes: data.byteLength,
    etag: etag?.value ?? "",
    contentType: contentType || (metadata["contentType"] ?? ""),
    metadata: {},
    expiresAtMs,
  };
}

/** Whether an item has the value that a write has given it. Dapr's SDK for Go stores JSON as it writes it itself. */
export function isResultOf({ value, contentType }: Write & { readonly kind: "set" }, item: Item): boolean {
  if (Buffer.compare(value, item.value!) === 0) return true;
  return isJsonType(contentType) && isDeepStrictEqual(jsonOf(value), jsonOf(item.value!));
}

/** Another object for each text that is no JSON. */
function jsonOf(value: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(value).toString());
  } catch {
    return Symbol();
  }
}

function timeOf(text: string | undefined): number | undefined {
  const timeMs = Date.parse(text ?? "");
  return Number.isNaN(timeMs) ? undefined : timeMs;
}
