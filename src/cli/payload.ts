/** Bytes, as people and programs read them, and text as bytes. */
import { compactJson } from "../blocks/pubsub/json-text.ts";

const decoder = new TextDecoder("utf-8", { fatal: true });
// Everything but tab, line feed and carriage return would let data command the terminal.
const controls = /(?![\t\n\r])\p{Cc}/gu;

/** The text that bytes are; undefined when they are none. */
function textOf(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Bytes in one line for people; nothing in it can command the terminal. */
export function lineOf(bytes: Uint8Array, contentType: string): string {
  const text = textOf(bytes);
  if (text === undefined) return `(${bytes.length} bytes${contentType ? `, ${contentType}` : ""})`;
  return safe(text.replace(/\r?\n$/, ""));
}

/** Text in one line, which cannot command the terminal. */
export function safe(text: string): string {
  return text.replace(/[\n\r]/g, " ").replace(controls, "\ufffd");
}

/** A member of a JSON object whose value is JSON already: parsing it would lose digits of numbers, and doubles and order of keys. */
export interface JsonMember {
  readonly name: string;
  readonly json: string;
}

/** Bytes as a member of a JSON object: as JSON when they are, and are said to be, as a string when they are text, else in base64. */
export function jsonMember(
  bytes: Uint8Array,
  saidToBeJson: boolean,
  names: { readonly plain: string; readonly base64: string },
): JsonMember {
  const text = textOf(bytes);
  if (text === undefined)
    return { name: names.base64, json: JSON.stringify(Buffer.from(bytes).toString("base64")) };
  if (saidToBeJson) {
    try {
      return { name: names.plain, json: compactJson(text) };
    } catch {
      // It is not what it says it is: text, then.
    }
  }
  return { name: names.plain, json: JSON.stringify(text) };
}

/** What the bytes are, when nobody says: JSON, text, or anything. */
export function contentTypeOf(bytes: Uint8Array): string {
  const text = textOf(bytes);
  if (text === undefined) return "application/octet-stream";
  try {
    JSON.parse(text);
    return "application/json";
  } catch {
    return "text/plain";
  }
}
