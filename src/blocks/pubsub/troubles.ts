/** Several troubles as one text, each of them once; "" when there are none. What is "" or undefined is no trouble. */
export function joinTroubles(troubles: Iterable<string | undefined>): string {
  return [...new Set(troubles)].filter((trouble) => trouble).join("; ");
}
