/** Whether a topic is one that a pattern stands for: `*` is one part, `>` at the end one or more. */
export function matchesPattern(topic: string, pattern: string): boolean {
  const parts = topic.split(".");
  const wanted = pattern.split(".");
  const open = wanted.at(-1) === ">";
  if (open ? parts.length < wanted.length : parts.length !== wanted.length) return false;
  const fixed = open ? wanted.slice(0, -1) : wanted;
  return fixed.every((part, index) => part === "*" || part === parts[index]);
}
