/**
 * Headers as a client writes them (RFC 7541): in full, or by the numbers of the static table. Nothing is put into the
 * table that both sides keep: so what never changes is written once, and used again for each call.
 */
import { staticTable } from "./static-table.ts";

const namedValue = 0x80;
/** The number of a header, with the value behind it, that is not to be remembered. */
const notRemembered = 0x00;
const inFull = 0x00;

/** Writes headers. */
export class HeaderWriter {
  readonly #names = new Map<string, number>();
  readonly #whole = new Map<string, number>();

  constructor() {
    for (const [index, [name, value]] of staticTable.entries()) {
      if (!this.#names.has(name)) this.#names.set(name, index + 1);
      if (value !== "") this.#whole.set(`${name}\n${value}`, index + 1);
    }
  }

  /** The block of some headers; names in lower case, those with a colon first. */
  block(headers: Readonly<Record<string, string>>): Buffer {
    let length = 0;
    for (const name in headers) length += name.length + headers[name]!.length + overheadBytes;
    const bytes = Buffer.allocUnsafe(length);
    let at = 0;
    for (const name in headers) at = this.#header(bytes, at, name, headers[name]!);
    return bytes.subarray(0, at);
  }

  #header(bytes: Buffer, start: number, name: string, value: string): number {
    let at = start;
    const whole = this.#whole.get(`${name}\n${value}`);
    if (whole !== undefined) return writeInteger(bytes, at, namedValue, 7, whole);
    const known = this.#names.get(name);
    if (known !== undefined) at = writeInteger(bytes, at, notRemembered, 4, known);
    else {
      bytes[at++] = inFull;
      at = writeText(bytes, at, name);
    }
    return writeText(bytes, at, value);
  }
}

/** What a header has beside its texts at most: three integers. */
const overheadBytes = 18;

function writeText(bytes: Buffer, start: number, text: string): number {
  const at = writeInteger(bytes, start, 0, 7, text.length);
  return at + bytes.write(text, at, "latin1");
}

/** An integer whose first byte has room for `bits` of it. */
function writeInteger(bytes: Buffer, start: number, first: number, bits: number, value: number): number {
  let at = start;
  const full = 2 ** bits - 1;
  if (value < full) {
    bytes[at++] = first | value;
    return at;
  }
  bytes[at++] = first | full;
  let rest = value - full;
  while (rest >= 0x80) {
    bytes[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  return at;
}
