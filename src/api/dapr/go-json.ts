/**
 * Why Go does not take a text for JSON, in its words: Dapr's answers have them. Only for what JSON.parse has refused already.
 */

/** What Go says of a text; or where the value that it read ends, as a number of bytes. */
export type GoJsonVerdict = { readonly error: string } | { readonly end: number };

/**
 * How Go reads: `whole` as json.Unmarshal, which takes one value and nothing after it; `first` as a Decoder, which stops after
 * the first value.
 */
export type GoJsonReading = "whole" | "first";

const maxDepth = 10_000;
const literals: ReadonlyMap<string, string> = new Map([
  ["t", "true"],
  ["f", "false"],
  ["n", "null"],
]);

/** What Go says of a text. */
export function readAsGo(bytes: Uint8Array, reading: GoJsonReading): GoJsonVerdict {
  try {
    return { end: new Scanner(bytes, reading).scan() };
  } catch (error) {
    if (error instanceof Refusal) return { error: error.message };
    throw error;
  }
}

/** JSON as it was written, and what it is. */
export interface ReadJson<Value = unknown> {
  readonly text: string;
  readonly value: Value;
}

/** The first value of a text, as Dapr's API reads it: what comes after it does not count. Throws what `refuse` makes of Go's words. */
export function readFirst(bytes: Uint8Array, refuse: (why: string) => Error): ReadJson {
  // Bytes that are no UTF-8 become U+FFFD, and a byte order mark stays and is refused, as in Go.
  const text = textOf(bytes);
  try {
    return { text, value: JSON.parse(text) };
  } catch {
    const verdict = readAsGo(bytes, "first");
    if ("error" in verdict) throw refuse(verdict.error);
    const first = textOf(bytes.subarray(0, verdict.end));
    return { text: first, value: JSON.parse(first) };
  }
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}

/** Never leaves this file. */
class Refusal extends Error {}

/** encoding/json's scanner, as far as its errors go. */
class Scanner {
  readonly #bytes: Uint8Array;
  readonly #reading: GoJsonReading;
  #at = 0;
  /** What the value is in, from the outside. */
  readonly #within: ("object" | "array")[] = [];
  #expected: "value" | "value or end" | "key" | "key or end" | "colon" | "more" = "value";

  constructor(bytes: Uint8Array, reading: GoJsonReading) {
    this.#bytes = bytes;
    this.#reading = reading;
  }

  /** Where the value ends. Throws Refusal. */
  scan(): number {
    do this.#step();
    while (this.#expected !== "more" || this.#within.length > 0);
    const end = this.#at;
    if (this.#reading === "first") return end;
    this.#skipSpace();
    if (this.#at < this.#bytes.length) throw this.#refusal("after top-level value");
    return end;
  }

  #step(): void {
    this.#skipSpace();
    if (this.#at === this.#bytes.length) throw this.#end();
    switch (this.#expected) {
      case "value or end":
        if (this.#take("]")) return this.#leave();
        return this.#value();
      case "value":
        return this.#value();
      case "key or end":
        if (this.#take("}")) return this.#leave();
        return this.#key();
      case "key":
        return this.#key();
      case "colon":
        if (!this.#take(":")) throw this.#refusal("after object key");
        this.#expected = "value";
        return;
      case "more":
        return this.#more();
    }
  }

  #value(): void {
    const character = this.#character();
    if (this.#take("{")) return this.#enter("object");
    if (this.#take("[")) return this.#enter("array");
    const literal = literals.get(character);
    if (this.#take('"')) this.#string();
    else if (/[-0-9]/.test(character)) this.#number();
    else if (literal !== undefined) this.#literal(literal);
    else throw this.#refusal("looking for beginning of value");
    this.#expected = "more";
  }

  #key(): void {
    if (!this.#take('"')) throw this.#refusal("looking for beginning of object key string");
    this.#string();
    this.#expected = "colon";
  }

  #more(): void {
    const inObject = this.#within.at(-1) === "object";
    if (this.#take(",")) this.#expected = inObject ? "key" : "value";
    else if (this.#take(inObject ? "}" : "]")) this.#leave();
    else throw this.#refusal(inObject ? "after object key:value pair" : "after array element");
  }

  #enter(what: "object" | "array"): void {
    if (this.#within.length === maxDepth) {
      this.#at -= 1;
      throw this.#refusal("exceeded max depth");
    }
    this.#within.push(what);
    this.#expected = what === "object" ? "key or end" : "value or end";
  }

  #leave(): void {
    this.#within.pop();
    this.#expected = "more";
  }

  /** After the opening quote. */
  #string(): void {
    for (;;) {
      while (isPlain(this.#bytes[this.#at])) this.#at += 1;
      if (this.#at === this.#bytes.length) throw this.#end();
      if (this.#take('"')) return;
      if (!this.#take("\\")) throw this.#refusal("in string literal");
      this.#escape();
    }
  }

  #escape(): void {
    if (!this.#take("u")) return this.#expect(/["\\/bfnrt]/, "in string escape code");
    for (let digit = 0; digit < 4; digit++)
      this.#expect(/[0-9A-Fa-f]/, "in \\u hexadecimal character escape");
  }

  #number(): void {
    this.#take("-");
    const zero = this.#take("0");
    if (!zero) this.#digits("in numeric literal");
    if (this.#take(".")) this.#digits("after decimal point in numeric literal");
    if (this.#take("e") || this.#take("E")) {
      if (!this.#take("+")) this.#take("-");
      this.#digits("in exponent of numeric literal");
    }
  }

  /** One digit or more. */
  #digits(where: string): void {
    this.#expect(/[0-9]/, where);
    while (/[0-9]/.test(this.#character())) this.#at += 1;
  }

  #literal(word: string): void {
    this.#at += 1;
    for (const letter of word.slice(1))
      if (!this.#take(letter)) throw this.#refusal(`in literal ${word} (expecting '${letter}')`);
  }

  #expect(characters: RegExp, where: string): void {
    if (!characters.test(this.#character())) throw this.#refusal(where);
    this.#at += 1;
  }

  #take(character: string): boolean {
    if (this.#character() !== character) return false;
    this.#at += 1;
    return true;
  }

  /** The byte that comes next, as a character of its own; "" at the end. */
  #character(): string {
    return this.#at < this.#bytes.length ? String.fromCharCode(this.#bytes[this.#at]!) : "";
  }

  #skipSpace(): void {
    while (isSpace(this.#bytes[this.#at])) this.#at += 1;
  }

  /** The character that comes next does not belong there. Unmarshal takes the end for a space at such places. */
  #refusal(where: string): Refusal {
    const character = this.#character() || (this.#reading === "whole" ? " " : "");
    return character === "" ? this.#end() : new Refusal(`invalid character ${quoted(character)} ${where}`);
  }

  #end(): Refusal {
    if (this.#reading === "whole") return new Refusal("unexpected end of JSON input");
    return new Refusal(this.#bytes.every(isSpace) ? "EOF" : "unexpected EOF");
  }
}

/** Whether a byte stands for itself in a string. */
function isPlain(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x20 && byte !== 0x22 && byte !== 0x5c;
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;
}

const escapes: ReadonlyMap<string, string> = new Map([
  ["'", "\\'"],
  ["\\", "\\\\"],
  ["\x07", "\\a"],
  ["\b", "\\b"],
  ["\f", "\\f"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
  ["\v", "\\v"],
]);

/** A character of one byte as Go quotes it. */
function quoted(character: string): string {
  const code = character.charCodeAt(0);
  const escaped = escapes.get(character);
  if (escaped !== undefined) return `'${escaped}'`;
  if (code < 0x20 || code === 0x7f) return `'\\x${code.toString(16).padStart(2, "0")}'`;
  // Neither controls, nor the space that does not break, nor the hyphen that is not seen.
  const hidden = (code > 0x7f && code <= 0xa0) || code === 0xad;
  return hidden ? `'\\u00${code.toString(16)}'` : `'${character}'`;
}
