/** Topics with wildcards: `*` stands for one dot-separated part, `>` at the end for one or more. */

/** Whether a subscription's topic is a pattern. */
export function isPattern(topic: string): boolean {
  const parts = topic.split(".");
  return parts.includes("*") || parts.at(-1) === ">";
}

/** Whether a pattern stands for a topic. */
export function matchesPattern(pattern: string, topic: string): boolean {
  const parts = topic.split(".");
  const wanted = pattern.split(".");
  const open = wanted.at(-1) === ">";
  if (open) wanted.pop();
  if (open ? parts.length <= wanted.length : parts.length !== wanted.length) return false;
  return wanted.every((part, index) => part === "*" || part === parts[index]);
}
