import { describe, expect, it } from "vitest";
import { codecNumbers, codecs } from "../../../src/components/kafka/compression/codecs.ts";
import { crc32c } from "../../../src/components/kafka/crc32c.ts";
import { murmur2, partitionOf } from "../../../src/components/kafka/partitioner.ts";
import { seeded } from "../../conformance/pubsub/fixture.ts";

const random = seeded(7);

const inputs: Record<string, Buffer> = {
  nothing: Buffer.alloc(0),
  "one byte": Buffer.from("a"),
  "a few bytes": Buffer.from("abcabcabcabcabcabcabcabc"),
  "one byte, very often": Buffer.alloc(300_000, "x"),
  "text that repeats itself": Buffer.from(
    Array.from({ length: 4000 }, (_, i) => `{"id":"${i}","type":"order.paid","amount":${i * 7}}`).join(","),
  ),
  "bytes at random": Buffer.from(Array.from({ length: 200_000 }, () => Math.floor(random() * 256))),
  "few values at random": Buffer.from(Array.from({ length: 200_000 }, () => Math.floor(random() * 3))),
};

describe("compressions of Kafka", () => {
  describe.each(["gzip", "snappy", "lz4", "zstd"] as const)("%s", (name) => {
    it.each(Object.keys(inputs))("gives back %s", async (input) => {
      const bytes = inputs[input]!;
      const packed = await codecs.compress(codecNumbers[name], bytes);
      expect(Buffer.compare(await codecs.decompress(codecNumbers[name], packed), bytes)).toBe(0);
    });

    it("makes text a good deal smaller", async () => {
      const bytes = inputs["text that repeats itself"]!;
      expect((await codecs.compress(codecNumbers[name], bytes)).length).toBeLessThan(bytes.length / 2);
    });

    it("refuses damaged bytes rather than give wrong ones without end", async () => {
      const packed = await codecs.compress(codecNumbers[name], inputs["text that repeats itself"]!);
      await expect(
        codecs.decompress(codecNumbers[name], packed.subarray(0, packed.length >> 1)),
      ).rejects.toThrow();
    });
  });

  it("are none of any other number", async () => {
    await expect(codecs.decompress(5, Buffer.alloc(1))).rejects.toThrow("no compression of number 5");
  });
});

describe("the checksum of batches", () => {
  it("is CRC-32C", () => {
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  });
});

describe("the partition of a key", () => {
  it("is the one that Java's clients choose", () => {
    // The values of Kafka's own test of its hash.
    const known: [string, number][] = [
      ["21", -973932308],
      ["foobar", -790332482],
      ["a-little-bit-long-string", -985981536],
      ["a-little-bit-longer-string", -1486304829],
      ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ];
    for (const [key, hash] of known) expect(murmur2(Buffer.from(key)) | 0).toBe(hash);
    expect(partitionOf("foobar", 4)).toBe((-790332482 & 0x7fffffff) % 4);
  });
});
