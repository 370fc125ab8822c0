/** Booleans as Go reads them in text. */

/** Whether a text says that something is so. */
export function isTrue(text: string): boolean {
  return /^(1|t|true)$/i.test(text);
}
