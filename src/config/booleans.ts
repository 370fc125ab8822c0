/** Booleans in text: Dapr reads some as Go does, and some with more words. */

/** As Go reads flags and headers: 1, t and true, or 0, f and false, in any case. Undefined for any other text. */
export function readBoolean(text: string): boolean | undefined {
  if (/^(1|t|true)$/i.test(text)) return true;
  return /^(0|f|false)$/i.test(text) ? false : undefined;
}

/** Whether a text is one of the words by which metadata says that something is so. */
export function isTruthy(text: string): boolean {
  return /^(1|t|true|y|yes|on)$/i.test(text);
}
