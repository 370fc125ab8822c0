/** Huffman's code of header texts (RFC 7541, appendix B), to be read. */
import { Http2Error } from "./frames.ts";

/** Bits of the code of each byte. Codes of a length follow each other in the order of the bytes, so the rest follows. */
const lengths: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/** The longest code, in bits, is that of the end: no text has it. */
const endBits = 30;

/** Bytes by their codes: of each length, the first code, and where its bytes begin. */
interface CodeTable {
  readonly firstCodes: readonly number[];
  readonly offsets: readonly number[];
  readonly bytes: readonly number[];
}

/** Reads texts. */
export class HuffmanReader {
  readonly #table = codeTable();

  /** The text of some bytes. Throws Http2Error when they are none. */
  text(bytes: Uint8Array): string {
    const { firstCodes, offsets, bytes: byCode } = this.#table;
    const text: number[] = [];
    let code = 0;
    let bits = 0;
    for (const byte of bytes) {
      for (let shift = 7; shift >= 0; shift--) {
        code = code * 2 + ((byte >> shift) & 1);
        bits += 1;
        const place = code - firstCodes[bits]!;
        const count = offsets[bits + 1]! - offsets[bits]!;
        if (place >= 0 && place < count) {
          text.push(byCode[offsets[bits]! + place]!);
          code = 0;
          bits = 0;
        } else if (bits === endBits) throw new Http2Error("a header's text has a code that there is not");
      }
    }
    // What fills the last byte is the beginning of the end's code: ones.
    if (bits > 7 || code !== 2 ** bits - 1) throw new Http2Error("a header's text ends within a code");
    return Buffer.from(text).toString("latin1");
  }
}

function codeTable(): CodeTable {
  const firstCodes: number[] = [0];
  const offsets: number[] = [0];
  const bytes: number[] = [];
  let code = 0;
  for (let bits = 1; bits <= endBits; bits++) {
    code *= 2;
    firstCodes.push(code);
    offsets.push(bytes.length);
    for (const [byte, length] of lengths.entries()) {
      if (length !== bits) continue;
      bytes.push(byte);
      code += 1;
    }
  }
  offsets.push(bytes.length);
  return { firstCodes, offsets, bytes };
}
