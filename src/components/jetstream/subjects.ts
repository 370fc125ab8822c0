/**
 * Topics as subjects, and the names of streams and consumers.
 *
 * A topic is its own subject wherever NATS allows it, so that other clients use the same name. What NATS does
 * not allow is escaped: a space as `%20`, an empty part as `%00` (which no topic has), and a `$` at
 * the beginning, where the server's own subjects are, as `%24`.
 */
import { createHash } from "node:crypto";

/** The subject of a topic, or of a pattern of topics. Two topics never have the same. */
export function subjectOf(topic: string): string {
  const parts = topic.split(".");
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    if (part === "") parts[i] = "%00";
    else if (/[\s%]/u.test(part)) parts[i] = part.replace(/%(?=[0-9A-F]{2})|\s/gu, escapeCharacter);
  }
  if (parts[0]!.startsWith("$")) parts[0] = `%24${parts[0]!.slice(1)}`;
  return parts.join(".");
}

/** The topic of a subject. */
export function topicOf(subject: string): string {
  if (!subject.includes("%")) return subject;
  return subject
    .split(".")
    .map((part) => (part === "%00" ? "" : part.replace(/(?:%[0-9A-F]{2})+/g, unescapeBytes)))
    .join(".");
}

/** What the subjects of a stream that is made here have in common. */
export function firstPart(subject: string): string {
  return subject.split(".", 1)[0]!;
}

/** Whether a subject is one of those that a pattern stands for. A subject without wildcards stands for itself. */
export function matches(pattern: string, subject: string): boolean {
  const [wanted, parts] = [pattern.split("."), subject.split(".")];
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === ">") return parts.length > i;
    if (i >= parts.length || (wanted[i] !== "*" && wanted[i] !== parts[i])) return false;
  }
  return wanted.length === parts.length;
}

/** The name of the stream that is made for subjects with a first part. */
export function streamNameOf(part: string): string {
  const plain = part.replace(/[^-\w]/g, "_").slice(0, 64);
  return plain === part ? `outrider_${part}` : `outrider_${plain}_${digest(part)}`;
}

/** Where delayed events of a stream wait. */
export function waitingSubject(stream: string): string {
  return `_outrider.later.${stream}`;
}

/** The name of the consumer of a group on a subject: legible, and another for every two. */
export function consumerNameOf(prefix: string | undefined, group: string, subject: string): string {
  const legible = `${group}_${subject}`.replace(/[^-\w]/g, "_").slice(0, 100);
  const named = prefix === undefined ? legible : `${prefix}_${legible}`;
  return `${named}_${digest(`${group}\n${subject}`)}`;
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 10);
}

function escapeCharacter(character: string): string {
  const bytes = Buffer.from(character);
  return [...bytes].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
}

function unescapeBytes(escaped: string): string {
  return Buffer.from(escaped.replaceAll("%", ""), "hex").toString();
}
