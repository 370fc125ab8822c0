/** Bytes, as people and programs read them, and text as bytes. */

const decoder = new TextDecoder("utf-8", { fatal: true });
// Everything but tab, line feed and carriage return would let data command the terminal.
const controls = /(?![\t\n\r])\p{Cc}/gu;

/** The text that bytes are; undefined when they are none. */
export function textOf(bytes: Uint8Array): string | undefined {
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

/** Bytes as a member of a JSON object: `value` when they are JSON or text, else `valueBase64`. */
export function valueMember(
  bytes: Uint8Array,
  contentType: string,
): { value: unknown } | { valueBase64: string } {
  const text = textOf(bytes);
  if (text === undefined) return { valueBase64: Buffer.from(bytes).toString("base64") };
  if (/[/+]json\b/.test(contentType)) {
    try {
      return { value: JSON.parse(text) as unknown };
    } catch {
      // It is not what it says it is: text, then.
    }
  }
  return { value: text };
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
