/** What a topic may be called, and what a pattern of topics stands for. */

/** The longest topic, in bytes of UTF-8: what Kafka takes. */
const maxTopicBytes = 249;

/** What is wrong with a topic's name, as a sentence; undefined when nothing is. */
export function topicViolation(topic: string): string | undefined {
  if (topic === "") return "must not be empty";
  if (topic.length > maxTopicBytes || Buffer.byteLength(topic) > maxTopicBytes) {
    return `must have at most ${maxTopicBytes} bytes`;
  }
  if (/[\p{Cc}\p{Cs}]/u.test(topic)) return "must not have control characters or lone surrogates";
  return undefined;
}

/** Whether a topic is a pattern: a part that is `*`, or a last part that is `>`. */
export function isPattern(topic: string): boolean {
  return /(^|\.)\*(\.|$)|(^|\.)>$/.test(topic);
}

/** Whether a pattern stands for a topic: `*` is one part, `>` at the end one or more. */
export function matchesPattern(pattern: string, topic: string): boolean {
  const parts = topic.split(".");
  const wanted = pattern.split(".");
  const open = wanted.at(-1) === ">";
  if (open) wanted.pop();
  if (open ? parts.length <= wanted.length : parts.length !== wanted.length) return false;
  return wanted.every((part, index) => part === "*" || part === parts[index]);
}
