import { describe, expect, it } from "vitest";
import { codecs } from "../../../src/components/kafka/compression/codecs.ts";
import { readFetchAnswer } from "../../../src/components/kafka/kafkajs/fetch-answer.ts";
import { encodeBatch, encodeTail } from "../../../src/components/kafka/record-batch.ts";

const version = 7;

/** An answer with one topic, whose partitions have these bytes, from partition 0 on. */
function answerOf(partitions: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(4 + 6 + 4 + 2 + 1 + 4);
  head.writeInt32BE(1, 10);
  head.writeInt16BE(1, 14);
  head.write("t", 16);
  head.writeInt32BE(partitions.length, 17);
  const bodies = partitions.map((bytes, partition) => {
    const before = Buffer.alloc(38);
    before.writeInt32BE(partition, 0);
    before.writeInt32BE(bytes.length, 34);
    return Buffer.concat([before, bytes]);
  });
  return Buffer.concat([head, ...bodies]);
}

async function batchOf(value: string): Promise<Buffer> {
  const options = { producerId: -1n, producerEpoch: -1, sequence: -1, codec: 0 };
  const tail = encodeTail({ key: null, value, headers: [] });
  return (await encodeBatch([tail], [0], options, codecs)).bytes;
}

const read = (payload: Buffer) =>
  readFetchAnswer(payload, version, new Map(), codecs, () => ({ type: "", message: "" }));

describe("an answer with records of several partitions", () => {
  it("is read for each of them, also when what one has cannot be read", async () => {
    const damaged = await batchOf("damaged");
    damaged[damaged.length - 1]! ^= 1;
    const older = await batchOf("older");
    older[16] = 1;
    const results = await read(answerOf([await batchOf("a"), damaged, older, await batchOf("b")]));
    expect(results.map(({ unreadable }) => unreadable?.message)).toEqual([
      undefined,
      expect.stringContaining("damaged"),
      expect.stringContaining("before Kafka 0.11"),
      undefined,
    ]);
    const values = results.map(({ records }) => records.records.map(({ value }) => String(value)));
    expect(values).toEqual([["a"], [], [], ["b"]]);
    // Reading does not go on behind what was not read.
    expect(results[1]!.records.nextOffset).toBeUndefined();
  });

  it("is an error as a whole when it ends too early", async () => {
    const whole = answerOf([await batchOf("a")]);
    await expect(read(whole.subarray(0, 30))).rejects.toThrow(RangeError);
  });
});
