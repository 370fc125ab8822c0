/** JSON that stops before it is complete. */

/** Whether JSON that cannot be parsed lacks its end: Dapr's users know that by its words. */
export function endsEarly(text: string, error: unknown): boolean {
  const { message } = error as Error;
  return (
    /^(Unexpected end|Unterminated string)/.test(message) ||
    / at position (\d+)/.exec(message)?.[1] === String(text.length)
  );
}
