/**
 * Topics by the names that applications give them and those that Kafka takes: letters, digits, dots, dashes and
 * underscores. Any other name is escaped, byte by byte, behind a prefix; a name that could be taken for an escaped
 * one is escaped too, so that each name has one form and no two have the same.
 */
import { KafkaError } from "./errors.ts";

const prefix = "x--";
const maxNameLength = 249;

/** Kafka's name of a topic. Throws a KafkaError when it would be too long. */
export function toKafkaTopic(topic: string): string {
  if (isLegal(topic) && !topic.startsWith(prefix)) return topic;
  let name = prefix;
  for (const byte of Buffer.from(topic)) {
    const character = String.fromCharCode(byte);
    name += /[A-Za-z0-9.]/.test(character) ? character : `-${byte.toString(16).padStart(2, "0")}`;
  }
  if (name.length <= maxNameLength) return name;
  throw new KafkaError(
    "refused",
    `the topic's name is too long for Kafka when it is escaped`,
    "INVALID_TOPIC_EXCEPTION",
  );
}

/** The application's name of a topic of Kafka. */
export function fromKafkaTopic(name: string): string {
  if (!name.startsWith(prefix)) return name;
  const bytes: number[] = [];
  for (const [, character, hex] of name.slice(prefix.length).matchAll(/([A-Za-z0-9.])|-([0-9a-f]{2})/g)) {
    bytes.push(character === undefined ? Number.parseInt(hex!, 16) : character.charCodeAt(0));
  }
  const topic = Buffer.from(bytes).toString();
  // Somebody else's topic may begin like this by chance.
  return toKafkaTopicOrEmpty(topic) === name ? topic : name;
}

function toKafkaTopicOrEmpty(topic: string): string {
  try {
    return toKafkaTopic(topic);
  } catch {
    return "";
  }
}

function isLegal(topic: string): boolean {
  return /^[A-Za-z0-9._-]{1,249}$/.test(topic) && topic !== "." && topic !== "..";
}
