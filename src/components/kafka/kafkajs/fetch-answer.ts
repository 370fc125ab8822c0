/** The answer to a fetch. kafkajs reads it too, but makes an object of five others for each record. */
import type { FetchResult } from "../client.ts";
import type { Codecs } from "../compression/codecs.ts";
import { brokerError, KafkaError } from "../errors.ts";
import { type AbortedTransaction, decodeBatches } from "../record-batch.ts";

/** Where each partition is read from, by topic and partition. */
export type FromOffsets = ReadonlyMap<string, number>;

/** The key of a partition in a map. */
export function partitionKey(topic: string, partition: number): string {
  return `${partition}/${topic}`;
}

/** Reads the answer of one version, from 5 on. Throws a KafkaError for an error of the whole request. */
export async function readFetchAnswer(
  payload: Buffer,
  version: number,
  from: FromOffsets,
  codecs: Codecs,
  errorOf: (code: number) => { readonly type: string; readonly message: string },
): Promise<readonly FetchResult[]> {
  let at = 4;
  if (version >= 7) {
    const code = payload.readInt16BE(at);
    if (code !== 0) {
      const { type, message } = errorOf(code);
      throw brokerError(type, message);
    }
    at += 6;
  }
  const results: FetchResult[] = [];
  let topics = payload.readInt32BE(at);
  at += 4;
  for (; topics > 0; topics -= 1) {
    const length = payload.readInt16BE(at);
    const topic = payload.toString("utf8", at + 2, at + 2 + length);
    at += 2 + length;
    let partitions = payload.readInt32BE(at);
    at += 4;
    for (; partitions > 0; partitions -= 1) {
      const partition = payload.readInt32BE(at);
      const code = payload.readInt16BE(at + 4);
      const logStartOffset = Number(payload.readBigInt64BE(at + 22));
      at += 30;
      const aborted: AbortedTransaction[] = [];
      let count = payload.readInt32BE(at);
      at += 4;
      for (; count > 0; count -= 1) {
        const firstOffset = Number(payload.readBigInt64BE(at + 8));
        aborted.push({ producerId: payload.readBigInt64BE(at), firstOffset });
        at += 16;
      }
      if (version >= 11) at += 4;
      const bytes = Math.max(0, payload.readInt32BE(at));
      at += 4;
      const fromOffset = from.get(partitionKey(topic, partition)) ?? 0;
      const batches = payload.subarray(at, at + bytes);
      at += bytes;
      const result = { topic, partition, error: code === 0 ? "" : errorOf(code).type, logStartOffset };
      try {
        results.push({ ...result, records: await decodeBatches(batches, fromOffset, aborted, codecs) });
      } catch (error) {
        // What is wrong with one partition must not keep the others from being read.
        const records = { records: [], nextOffset: undefined, bytes };
        results.push({ ...result, records, unreadable: asKafkaError(error) });
      }
    }
  }
  return results;
}

function asKafkaError(error: unknown): KafkaError {
  if (error instanceof KafkaError) return error;
  return new KafkaError("refused", "a batch of records cannot be read", "CORRUPT_MESSAGE", error);
}
