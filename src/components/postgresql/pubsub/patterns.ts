/** Topics with wildcards: `*` stands for one dot-separated part, `>` at the end for one or more. */

/** A regular expression of PostgreSQL's for the topics of a pattern; undefined when a topic is none. */
export function patternOf(topic: string): string | undefined {
  const parts = topic.split(".");
  const open = parts.at(-1) === ">";
  if (!open && !parts.includes("*")) return undefined;
  const expressions = parts.map((part, index) => {
    if (open && index === parts.length - 1) return "[^.]*(\\.[^.]*)*";
    return part === "*" ? "[^.]*" : part.replace(/[\\^$.|?*+()[\]{}]/g, "\\$&");
  });
  return `^(${expressions.join("\\.")})$`;
}
