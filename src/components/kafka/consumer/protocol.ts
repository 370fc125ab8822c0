/** What members of a group tell each other, in the words of Kafka's own consumers. */
import * as z from "zod";
import type { TopicPartition } from "../client.ts";

/** The strategy's name, which other clients have too: partitions move one by one, from members that have let them go. */
export const cooperativeSticky = "cooperative-sticky";

/** What a member subscribes to, and what it has. */
export interface Subscription {
  readonly topics: readonly string[];
  readonly owned: readonly TopicPartition[];
  /** In which generation of the group it got them; -1 when it is new. */
  readonly generation: number;
}

const subscriptionVersion = 2;
const assignmentVersion = 0;

/** Writes a subscription. */
export function encodeSubscription({ topics, owned, generation }: Subscription): Buffer {
  const writer = new Writer();
  writer.int16(subscriptionVersion);
  writer.int32(topics.length);
  for (const topic of topics) writer.text(topic);
  // Where other clients of this strategy look for the generation.
  writer.int32(4);
  writer.int32(generation);
  writer.partitions(owned);
  writer.int32(generation);
  return writer.bytes();
}

/** Reads a subscription of any version; one that cannot be read has nothing. */
export function decodeSubscription(bytes: Buffer): Subscription {
  try {
    const reader = new Reader(bytes);
    const version = reader.int16();
    const topics = Array.from({ length: reader.int32() }, () => reader.text());
    const userData = reader.blob();
    const owned = version >= 1 ? reader.partitions() : [];
    const told = version >= 2 ? reader.int32() : -1;
    const generation = told >= 0 || userData.length < 4 ? told : userData.readInt32BE(0);
    return { topics, owned, generation };
  } catch {
    return { topics: [], owned: [], generation: -1 };
  }
}

/** What a member is to have. */
export interface Assignment {
  readonly partitions: readonly TopicPartition[];
  /** For a member that may come back and be given the same without anybody being asked: else undefined. */
  readonly grounds?: Grounds | undefined;
}

/** What an assignment rests on. It holds for who comes back to it as long as nothing of this is otherwise. */
export interface Grounds {
  /** The number of partitions of each of the member's topics. */
  readonly counts: ReadonlyMap<string, number>;
  /** Others wait for partitions that the member had, until it joins again without them. */
  readonly awaited: boolean;
}

/** Writes an assignment. */
export function encodeAssignment({ partitions, grounds }: Assignment): Buffer {
  const writer = new Writer();
  writer.int16(assignmentVersion);
  writer.partitions(partitions);
  if (grounds === undefined) writer.int32(-1);
  else {
    const { counts, awaited } = grounds;
    writer.blob(Buffer.from(JSON.stringify({ outrider: 1, counts: [...counts], awaited })));
  }
  return writer.bytes();
}

const groundsShape = z.object({
  outrider: z.literal(1),
  counts: z.array(z.tuple([z.string(), z.number()])),
  awaited: z.boolean(),
});

/** Reads an assignment; no bytes mean nothing. What leaders of another make have written beside it is passed over. */
export function decodeAssignment(bytes: Buffer): Assignment {
  if (bytes.length === 0) return { partitions: [] };
  const reader = new Reader(bytes);
  reader.int16();
  const partitions = reader.partitions();
  try {
    const { counts, awaited } = groundsShape.parse(JSON.parse(reader.blob().toString()));
    return { partitions, grounds: { counts: new Map(counts), awaited } };
  } catch {
    return { partitions };
  }
}

class Writer {
  readonly #parts: Buffer[] = [];

  int16(value: number): void {
    const part = Buffer.allocUnsafe(2);
    part.writeInt16BE(value);
    this.#parts.push(part);
  }

  int32(value: number): void {
    const part = Buffer.allocUnsafe(4);
    part.writeInt32BE(value);
    this.#parts.push(part);
  }

  text(value: string): void {
    const part = Buffer.from(value);
    this.int16(part.length);
    this.#parts.push(part);
  }

  partitions(partitions: readonly TopicPartition[]): void {
    const topics = Map.groupBy(partitions, ({ topic }) => topic);
    this.int32(topics.size);
    for (const [topic, own] of topics) {
      this.text(topic);
      this.int32(own.length);
      for (const { partition } of own) this.int32(partition);
    }
  }

  blob(value: Buffer): void {
    this.int32(value.length);
    this.#parts.push(value);
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  int16(): number {
    this.#at += 2;
    return this.#bytes.readInt16BE(this.#at - 2);
  }

  int32(): number {
    this.#at += 4;
    return this.#bytes.readInt32BE(this.#at - 4);
  }

  text(): string {
    return this.#take(this.int16()).toString();
  }

  blob(): Buffer {
    return this.#take(this.int32());
  }

  partitions(): TopicPartition[] {
    const partitions: TopicPartition[] = [];
    for (let topics = this.int32(); topics > 0; topics -= 1) {
      const topic = this.text();
      for (let left = this.int32(); left > 0; left -= 1) partitions.push({ topic, partition: this.int32() });
    }
    return partitions;
  }

  #take(length: number): Buffer {
    const begin = this.#at;
    this.#at += Math.max(0, length);
    if (this.#at > this.#bytes.length) throw new RangeError("the message ends too early");
    return this.#bytes.subarray(begin, this.#at);
  }
}
