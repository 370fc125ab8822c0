/**
 * Topics that hold events which are to be tried again later, so that no memory does: `<topic>.retry.5s` and the like, one
 * for each delay, shared by the groups of the topic. An event that goes there is settled where it was.
 */
import type { Producer } from "../producer/producer.ts";
import type { FetchedRecord, RecordFields } from "../record-batch.ts";
import type { Topics } from "../topics.ts";
import type { Entry } from "./partition-log.ts";

/** A delay, and what it is called in the names of topics. */
export interface RetryDelay {
  readonly name: string;
  readonly ms: number;
}

/** What is known of a record of such a topic. */
export interface Waiting {
  readonly group: string;
  /** How often it was tried and counted. */
  readonly attempts: number;
  /** Milliseconds since 1970. */
  readonly notBeforeMs: number;
}

/** How events get to their retry topics. */
export interface RetryTopicsContext {
  readonly producer: Producer;
  readonly topics: Topics;
  readonly delays: readonly RetryDelay[];
}

const [groupHeader, attemptsHeader, timeHeader] = [
  "outrider-retry-group",
  "outrider-retry-attempts",
  "outrider-retry-at",
];
const part = ".retry.";

/** See the head of this file. */
export class RetryTopics {
  readonly #context: RetryTopicsContext;
  readonly #delays: readonly RetryDelay[];
  #next = 0;

  constructor(context: RetryTopicsContext) {
    this.#context = context;
    this.#delays = context.delays.toSorted((a, b) => a.ms - b.ms);
  }

  /** Kafka's names of those of a topic, which are made if need be. Throws a KafkaError. */
  async ensure(topic: string): Promise<readonly string[]> {
    const names = this.#delays.map(({ name }) => `${topic}${part}${name}`);
    for (const name of names) await this.#context.topics.ensure(name);
    return names;
  }

  /** Whether an event with this delay goes to a topic: those with shorter ones wait in memory. */
  takes(delayMs: number): boolean {
    return this.#delays.length > 0 && delayMs >= this.#delays[0]!.ms;
  }

  /** Puts an event into the topic of the longest delay that is not longer than its own. Throws a KafkaError. */
  async put(entry: Entry, topic: string, group: string, delayMs: number): Promise<void> {
    const delay = this.#delays.findLast(({ ms }) => ms <= delayMs)!;
    const name = `${topic}${part}${delay.name}`;
    const count = (await this.#context.topics.ensure(name)).length;
    const nowMs = Date.now();
    const fields = recordOf(entry.record!, {
      group,
      attempts: entry.attempts + 1,
      notBeforeMs: nowMs + delayMs,
    });
    const partition = this.#next++ % count;
    const signal = AbortSignal.timeout(putWithinMs);
    // With its own time, so that it is as old as it was.
    const { timestampMs } = entry.record!;
    const [result] = await this.#context.producer.produce(
      name,
      [fields],
      () => partition,
      timestampMs,
      signal,
    );
    if (result instanceof Error) throw result;
  }
}

const putWithinMs = 10_000;

/** The topic that a topic holds retries of; the topic itself when it is none of these. */
export function originOf(topic: string): string {
  const at = topic.lastIndexOf(part);
  return at > 0 ? topic.slice(0, at) : topic;
}

/** What a record of a retry topic says of itself; undefined when it is another's. */
export function waitingOf({ headers }: FetchedRecord): Waiting | undefined {
  const text = (name: string) => headers.find((header) => header[0] === name)?.[1]?.toString();
  const [group, attempts, time] = [text(groupHeader), Number(text(attemptsHeader)), Number(text(timeHeader))];
  if (group === undefined || !(attempts >= 1) || !(time >= 0)) return undefined;
  return { group, attempts, notBeforeMs: time };
}

/** The same record without what it says of its wait. */
export function withoutWaiting(record: FetchedRecord): FetchedRecord {
  return { ...record, headers: record.headers.filter(([name]) => !own.has(name)) };
}

const own = new Set([groupHeader, attemptsHeader, timeHeader]);

function recordOf(record: FetchedRecord, { group, attempts, notBeforeMs }: Waiting): RecordFields {
  const others = record.headers.filter(([name]) => !own.has(name));
  return {
    key: record.key,
    value: record.value,
    headers: [
      ...others.map(([name, value]) => [name, value === null ? "" : value.toString()] as const),
      [groupHeader, group],
      [attemptsHeader, String(attempts)],
      [timeHeader, String(notBeforeMs)],
    ],
  };
}
