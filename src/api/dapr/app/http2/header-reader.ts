/** Headers as a client reads them (RFC 7541), with the table that both sides keep. */
import { Http2Error } from "./frames.ts";
import { HuffmanReader } from "./huffman.ts";
import { staticTable } from "./static-table.ts";

/** Headers that were received; of several with one name, the values with commas between. */
export type Headers = Readonly<Record<string, string>>;

type Header = readonly [name: string, value: string];

/** What the table may hold, in bytes: RFC 7541's default, and we ask for no other. */
const maxTableBytes = 4096;
/** What a header counts for beside its texts, in bytes. */
const entryBytes = 32;
/** What the headers of one answer may be, in bytes, and what a block of them may be. */
export const maxHeadersBytes = 64 * 1024;

/** What the last byte of a number counts for: nothing that is wanted is longer, and zeros could follow without end. */
const maxFactor = 0x80 ** 4;

/** Reads the header blocks of one connection: all of them, and in order. */
export class HeaderReader {
  readonly #huffman = new HuffmanReader();
  /** The newest last. */
  readonly #table: Header[] = [];
  #tableBytes = 0;
  #maxTableBytes = maxTableBytes;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  /** Throws Http2Error when it is no header block: then nothing more can be read. */
  read(block: Buffer): Headers {
    this.#block = block;
    this.#at = 0;
    // Without a prototype: any name may come, also one that every object has.
    const headers: Record<string, string> = Object.create(null);
    let bytes = 0;
    while (this.#at < block.length) {
      const header = this.#header(block[this.#at]!);
      if (!header) {
        if (bytes > 0) throw new Http2Error("the table of headers changes its size behind a header");
        continue;
      }
      const [name, value] = header;
      bytes += sizeOf(header);
      if (bytes > maxHeadersBytes) throw new Http2Error(`headers of more than ${maxHeadersBytes} bytes`);
      const before = headers[name];
      headers[name] = before === undefined ? value : `${before}, ${value}`;
    }
    return headers;
  }

  /** Undefined: it was no header, but about the table. */
  #header(first: number): Header | undefined {
    if (first & 0x80) return this.#indexed(this.#integer(7));
    if (first & 0x40) {
      const header = this.#literal(6);
      this.#remember(header);
      return header;
    }
    if (first & 0x20) {
      const bytes = this.#integer(5);
      if (bytes > maxTableBytes) throw new Http2Error("a table of headers that is larger than allowed");
      this.#maxTableBytes = bytes;
      this.#evict();
      return undefined;
    }
    return this.#literal(4);
  }

  #indexed(index: number): Header {
    const header =
      index <= staticTable.length
        ? staticTable[index - 1]
        : this.#table[this.#table.length - (index - staticTable.length)];
    if (!header) throw new Http2Error(`there is no header ${index}`);
    return header;
  }

  #literal(bits: number): Header {
    const index = this.#integer(bits);
    const name = index === 0 ? this.#text() : this.#indexed(index)[0];
    return [name, this.#text()];
  }

  #remember(header: Header): void {
    this.#table.push(header);
    this.#tableBytes += sizeOf(header);
    this.#evict();
  }

  #evict(): void {
    while (this.#tableBytes > this.#maxTableBytes) this.#tableBytes -= sizeOf(this.#table.shift()!);
  }

  #text(): string {
    const huffman = (this.#byte() & 0x80) !== 0;
    this.#at -= 1;
    const length = this.#integer(7);
    const start = this.#at;
    this.#at += length;
    if (this.#at > this.#block.length) throw new Http2Error("a header that is cut off");
    if (huffman) return this.#huffman.text(this.#block.subarray(start, this.#at));
    return this.#block.toString("latin1", start, this.#at);
  }

  #integer(bits: number): number {
    const full = 2 ** bits - 1;
    let value = this.#byte() & full;
    if (value < full) return value;
    for (let factor = 1; factor <= maxFactor; factor *= 0x80) {
      const byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    throw new Http2Error("a number in a header that is too large");
  }

  #byte(): number {
    const byte = this.#block[this.#at++];
    if (byte === undefined) throw new Http2Error("a header that is cut off");
    return byte;
  }
}

function sizeOf([name, value]: Header): number {
  return name.length + value.length + entryBytes;
}
