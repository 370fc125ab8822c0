/** JSON without loss: a number that JavaScript cannot hold keeps the text that it had. */

/** A number as text, which JSON.stringify writes as it is. */
interface RawJson {
  readonly rawJSON: string;
}

/** What TypeScript does not know of JSON yet. */
interface ExactJson {
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { source?: string }) => unknown,
  ): unknown;
  rawJSON(text: string): RawJson;
  isRawJSON(value: unknown): value is RawJson;
}

const json = JSON as unknown as ExactJson;

/** Parses JSON so that JSON.stringify gives the same values again, to the digit. Throws what JSON.parse throws. */
export function parseExactJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  // What comes out as it went in has lost nothing, and most JSON is such: written by a machine, compact.
  if (JSON.stringify(value) === text) return value;
  return json.parse(text, (_key, part, { source }) =>
    typeof part === "number" && source !== undefined && String(part) !== source ? json.rawJSON(source) : part,
  );
}

/** A number, or one that kept its text, as text; undefined when the value is no number. */
export function numberText(value: unknown): string | undefined {
  if (typeof value === "number") return String(value);
  return json.isRawJSON(value) ? value.rawJSON : undefined;
}
