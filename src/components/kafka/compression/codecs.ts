/** The compressions of Kafka, by the numbers that it has for them. */
import { promisify } from "node:util";
import { gunzip, gzip, zstdCompress, zstdDecompress } from "node:zlib";
import { KafkaError } from "../errors.ts";
import { compressLz4, decompressLz4 } from "./lz4.ts";
import { compressSnappy, decompressSnappy } from "./snappy.ts";

/** The names that users write, and Kafka's number of each. */
export const codecNumbers = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const;

/** Compresses and decompresses. */
export interface Codecs {
  compress(codec: number, bytes: Buffer): Promise<Buffer>;
  decompress(codec: number, bytes: Buffer): Promise<Buffer>;
}

const [zip, unzip, zstd, unzstd] = [
  promisify(gzip),
  promisify(gunzip),
  promisify(zstdCompress),
  promisify(zstdDecompress),
];

/** Those of Node, and ours. */
export const codecs: Codecs = {
  async compress(codec, bytes) {
    if (codec === codecNumbers.gzip) return await zip(bytes);
    if (codec === codecNumbers.zstd) return await zstd(bytes);
    if (codec === codecNumbers.snappy) return compressSnappy(bytes);
    if (codec === codecNumbers.lz4) return compressLz4(bytes);
    throw unknownCodec(codec);
  },

  async decompress(codec, bytes) {
    if (codec === codecNumbers.gzip) return await unzip(bytes);
    if (codec === codecNumbers.zstd) return await unzstd(bytes);
    if (codec === codecNumbers.snappy) return decompressSnappy(bytes);
    if (codec === codecNumbers.lz4) return decompressLz4(bytes);
    throw unknownCodec(codec);
  },
};

function unknownCodec(codec: number): KafkaError {
  return new KafkaError("refused", `there is no compression of number ${codec}`);
}
