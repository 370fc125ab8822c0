/** Where a group begins in a partition that it has no position in. */
import { type StartAt, UnknownPosition } from "../../../blocks/pubsub/driver.ts";
import { earliest, type KafkaClient, latest, type TopicPartition } from "../client.ts";
import { brokerError } from "../errors.ts";
import type { Topics } from "../topics.ts";

/** The position of an event: its partition and offset. */
export function positionOf(partition: number, offset: number): string {
  return `${partition}:${offset}`;
}

/** Offsets by partition, of a position or of several with commas between. Throws UnknownPosition. */
export function parsePosition(position: string): ReadonlyMap<number, number> {
  if (!/^\d{1,9}:\d{1,15}(,\d{1,9}:\d{1,15})*$/.test(position)) {
    throw new UnknownPosition(
      'the position is none of Kafka: expected "partition:offset", or several with commas',
    );
  }
  return new Map(position.split(",").map((part) => part.split(":").map(Number) as [number, number]));
}

/** What to ask the broker for the offset to begin at; a number is the offset itself. */
function questionOf(start: StartAt, partition: number): { timestampMs: number } | { offset: number } {
  if (start.at === "earliest") return { timestampMs: earliest };
  if (start.at === "latest") return { timestampMs: latest };
  if (start.at === "time") return { timestampMs: Math.max(0, Math.floor(start.timeMs)) };
  const offset = parsePosition(start.position).get(partition);
  // Partitions that it does not name are read from their first event: nothing is missed.
  return offset === undefined ? { timestampMs: earliest } : { offset: offset + 1 };
}

/** The offsets that partitions begin at, in their order. Throws a KafkaError. */
export async function beginnings(
  client: KafkaClient,
  topics: Topics,
  partitions: readonly (TopicPartition & { readonly start: StartAt })[],
): Promise<readonly number[]> {
  const offsets: number[] = [];
  const questions: (TopicPartition & { readonly timestampMs: number; readonly index: number })[] = [];
  for (const [index, { topic, partition, start }] of partitions.entries()) {
    const question = questionOf(start, partition);
    if ("offset" in question) offsets[index] = question.offset;
    else questions.push({ topic, partition, timestampMs: question.timestampMs, index });
  }
  const answers = await listOffsets(client, topics, questions);
  const late = questions
    .filter((_, i) => answers[i] === -1)
    .map((question) => ({ ...question, timestampMs: latest }));
  for (const [i, { index }] of questions.entries()) offsets[index] = answers[i]!;
  // No event is that young yet: the next one will be.
  const ends = await listOffsets(client, topics, late);
  for (const [i, { index }] of late.entries()) offsets[index] = ends[i]!;
  return offsets;
}

/** The answers in the order of the questions. Throws a KafkaError when a leader does not answer. */
export async function listOffsets(
  client: KafkaClient,
  topics: Topics,
  questions: readonly (TopicPartition & { readonly timestampMs: number })[],
): Promise<readonly number[]> {
  if (questions.length === 0) return [];
  const unknown = new Set(questions.filter(({ topic }) => !topics.known(topic)).map(({ topic }) => topic));
  const found = await topics.lookUp([...unknown]);
  // Whoever asks is told what is wrong with one.
  for (const topic of unknown) if (!found.has(topic)) await topics.find(topic);
  const byNode = Map.groupBy(questions, ({ topic, partition }) => topics.known(topic)?.[partition] ?? -1);
  const offsets = new Map<string, number>();
  await Promise.all(
    [...byNode].map(async ([nodeId, own]) => {
      for (const answer of await client.listOffsets(nodeId, own)) {
        if (answer.error !== "") {
          topics.forget(answer.topic);
          throw brokerError(
            answer.error,
            `the topic "${answer.topic}" does not tell where it begins and ends`,
          );
        }
        offsets.set(`${answer.partition}/${answer.topic}`, answer.offset);
      }
    }),
  );
  return questions.map(({ topic, partition }) => offsets.get(`${partition}/${topic}`) ?? -1);
}
