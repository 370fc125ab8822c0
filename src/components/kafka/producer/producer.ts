/**
 * Publishes with as few requests as it takes: one at a time to each node, with everything in it that has gathered
 * while the one before was on its way. An event that finds nothing under way leaves at once.
 *
 * A partition has one batch under way, which is sent again as it was until the broker has it: numbered by an
 * idempotent producer, so that no attempt makes a second copy and none overtakes another.
 */
import type { KafkaClient, ProduceResult } from "../client.ts";
import type { Codecs } from "../compression/codecs.ts";
import { brokerError, cancelled, invalidTimestampCode, KafkaError, tooLargeCode } from "../errors.ts";
import { retryMs } from "../patience.ts";
import { batchHeaderBytes, encodeTail, type RecordFields, recordOverheadBytes } from "../record-batch.ts";
import type { Topics } from "../topics.ts";
import { type BatchSettings, BatchWriter } from "./batch-writer.ts";
import { type Batch, Lane, type Waiting } from "./lane.ts";
import { type Produced, Tallies } from "./tallies.ts";

/** How to publish. */
export interface ProducerSettings extends BatchSettings {
  /** Of one record and of one batch, uncompressed. */
  readonly maxBatchBytes: number;
  /** How long an event may take until the broker has it, whatever its caller would wait. */
  readonly limitMs: number;
}

/** Uncompressed bytes of one request. */
const maxRequestBytes = 8 * 1024 * 1024;
/** Bytes of events that wait, or are on their way. */
const maxWaitingBytes = 128 * 1024 * 1024;

/** See the head of this file. */
export class Producer {
  readonly #client: KafkaClient;
  readonly #topics: Topics;
  readonly #settings: ProducerSettings;
  readonly #writer: BatchWriter;
  readonly #tallies: Tallies;
  readonly #lanes = new Map<string, Lane>();
  /** Those that have something to send. */
  readonly #busy = new Set<Lane>();
  readonly #sendingTo = new Set<number>();
  #waitingBytes = 0;
  #scheduled = false;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(client: KafkaClient, topics: Topics, settings: ProducerSettings, codecs: Codecs) {
    this.#client = client;
    this.#topics = topics;
    this.#settings = settings;
    this.#writer = new BatchWriter(client, settings, codecs);
    const trouble = () => [...this.#busy].find((lane) => lane.trouble)?.trouble;
    this.#tallies = new Tallies(settings.limitMs, trouble);
  }

  /**
   * Appends records to partitions of a topic that exists. Returns where each is, or why not; throws when the signal
   * aborts. What has left by then may still arrive.
   */
  produce(
    topic: string,
    records: readonly RecordFields[],
    partitionOf: (index: number) => number,
    timeMs: number,
    signal: AbortSignal,
  ): Promise<readonly Produced[]> {
    if (signal.aborted) return Promise.reject(cancelled(signal));
    if (this.#closed) return Promise.reject(new KafkaError("unavailable", "the component is closed"));
    if (this.#waitingBytes > maxWaitingBytes) {
      const message = "more events wait for the broker than may be held";
      return Promise.reject(new KafkaError("unavailable", message));
    }
    if (records.length === 0) return Promise.resolve([]);
    const tally = this.#tallies.begin(records.length);
    for (let index = 0; index < records.length; index += 1) {
      const record = records[index]!;
      const tail = encodeTail(record);
      const bytes = tail.length + recordOverheadBytes + batchHeaderBytes;
      if (bytes > this.#settings.maxBatchBytes && !record.anySize)
        this.#tallies.finish(tally, index, tooLarge(bytes, this.#settings.maxBatchBytes));
      else {
        const lane = this.#lane(topic, partitionOf(index));
        lane.add({ tally, index, tail, timeMs });
        this.#waitingBytes += tail.length;
        this.#busy.add(lane);
      }
    }
    this.#schedule();
    return this.#tallies.results(tally, signal);
  }

  /** Refuses what is to come; what is on its way is not waited for. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#tallies.close();
  }

  #lane(topic: string, partition: number): Lane {
    const key = `${partition}/${topic}`;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = new Lane(topic, partition);
      this.#lanes.set(key, lane);
    }
    return lane;
  }

  /** Sends soon: what comes in this turn goes together. */
  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  #send(): void {
    if (this.#closed) return;
    const byNode = new Map<number, Lane[]>();
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    const unknown = new Set<string>();
    for (const lane of this.#busy) {
      if (lane.sending) continue;
      if (lane.notBefore > now) next = Math.min(next, lane.notBefore);
      else {
        const leader = this.#topics.known(lane.topic)?.[lane.partition] ?? -1;
        if (leader < 0) unknown.add(lane.topic);
        else if (!this.#sendingTo.has(leader)) {
          const lanes = byNode.get(leader);
          if (lanes) lanes.push(lane);
          else byNode.set(leader, [lane]);
        }
      }
    }
    for (const topic of unknown) void this.#findLeaders(topic);
    for (const [nodeId, lanes] of byNode) void this.#request(nodeId, lanes);
    if (next < Number.POSITIVE_INFINITY) this.#retryAt(next);
  }

  #retryAt(time: number): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#schedule(), Math.max(1, time - performance.now()));
  }

  async #findLeaders(topic: string): Promise<void> {
    const lanes = [...this.#busy].filter((lane) => lane.topic === topic && !lane.sending);
    for (const lane of lanes) lane.sending = true;
    try {
      this.#topics.forget(topic);
      const leaders = await this.#topics.ensure(topic);
      for (const lane of lanes) {
        if ((leaders[lane.partition] ?? -1) >= 0) continue;
        this.#postpone(lane, brokerError("LEADER_NOT_AVAILABLE", "the partition has no leader now"));
      }
    } catch (error) {
      for (const lane of lanes) {
        if (error instanceof KafkaError && error.kind !== "unavailable") this.#fail(lane, error);
        else this.#postpone(lane, asKafkaError(error));
      }
    } finally {
      this.#release(lanes);
    }
  }

  async #request(nodeId: number, lanes: readonly Lane[]): Promise<void> {
    this.#sendingTo.add(nodeId);
    const sent: Lane[] = [];
    for (const lane of lanes) lane.sending = true;
    try {
      let bytes = 0;
      for (const lane of lanes) {
        if (bytes > maxRequestBytes) break;
        lane.batch ??= await this.#nextBatch(lane);
        if (lane.batch === undefined) continue;
        bytes += lane.batch.encoded.bytes.length;
        sent.push(lane);
      }
      if (sent.length === 0) return;
      const { acks, limitMs } = this.#settings;
      const batches = sent.map(({ topic, partition, batch }) => ({
        topic,
        partition,
        batch: batch!.encoded,
      }));
      const results = await this.#client.produce(nodeId, { acks, timeoutMs: limitMs, batches });
      for (let i = 0; i < sent.length; i += 1) await this.#settle(sent[i]!, results[i]!);
    } catch (error) {
      const problem = asKafkaError(error);
      for (const lane of sent.length > 0 ? sent : lanes) {
        if (problem.kind !== "unavailable") this.#fail(lane, problem);
        else {
          this.#topics.forget(lane.topic);
          this.#postpone(lane, problem);
        }
      }
    } finally {
      this.#sendingTo.delete(nodeId);
      this.#release(lanes);
    }
  }

  #release(lanes: readonly Lane[]): void {
    for (const lane of lanes) {
      lane.sending = false;
      if (lane.empty) this.#busy.delete(lane);
    }
    this.#schedule();
  }

  /** What waits, up to the size of a batch; undefined when nobody waits for it any more. */
  async #nextBatch(lane: Lane): Promise<Batch | undefined> {
    const taken = lane.take(this.#settings.maxBatchBytes);
    const over = taken.filter(({ tally }) => tally.over);
    const events = over.length === 0 ? taken : taken.filter(({ tally }) => !tally.over);
    this.#forget(over);
    return events.length === 0 ? undefined : await this.#write(lane, events);
  }

  async #write(lane: Lane, events: readonly Waiting[]): Promise<Batch> {
    try {
      return await this.#writer.write(lane, events);
    } catch (error) {
      lane.putBack(events);
      throw error;
    }
  }

  /** Resolves later only where a batch has to be made smaller. */
  #settle(lane: Lane, { error, baseOffset, partition }: ProduceResult): Promise<void> | undefined {
    const batch = lane.batch!;
    // The broker has it from an earlier attempt, and does not remember where.
    if (error === "" || error === "DUPLICATE_SEQUENCE_NUMBER") {
      lane.batch = undefined;
      lane.trouble = undefined;
      lane.failures = 0;
      lane.sequence = (lane.sequence + batch.events.length) % 0x8000_0000;
      const known = error === "" && baseOffset >= 0;
      for (let i = 0; i < batch.events.length; i += 1) {
        this.#done(batch.events[i]!, { partition, offset: known ? baseOffset + i : -1 });
      }
    } else if (strange.has(error)) {
      // The broker does not know this producer any more, or not up to here: another one begins.
      this.#writer.newIdentity();
      lane.batch = undefined;
      lane.putBack(batch.events);
      this.#postpone(lane, brokerError(error, "the broker lost track of this producer"));
    } else if (error === invalidTimestampCode) {
      // Sent again as it is, it would be refused again: whoever published it may try later.
      const message =
        "the clock of this sidecar is further ahead than the topic allows (message.timestamp.after.max.ms)";
      this.#fail(lane, new KafkaError("unavailable", message, error));
    } else if (error === "MESSAGE_TOO_LARGE" || error === "RECORD_LIST_TOO_LARGE")
      return this.#split(lane, batch);
    else {
      const problem = brokerError(error, `the topic "${lane.topic}" refuses events`);
      if (problem.kind !== "unavailable") this.#fail(lane, problem);
      else {
        this.#topics.forget(lane.topic);
        this.#postpone(lane, problem);
      }
    }
    return undefined;
  }

  /** The topic takes less than is configured here: half as much, and in the end one event that is too large. */
  async #split(lane: Lane, batch: Batch): Promise<void> {
    lane.batch = undefined;
    const [only] = batch.events;
    if (batch.events.length === 1) {
      this.#done(only!, tooLarge(only!.tail.length, undefined));
      return;
    }
    const half = batch.events.slice(0, Math.ceil(batch.events.length / 2));
    lane.putBack(batch.events.slice(half.length));
    try {
      lane.batch = await this.#write(lane, half);
    } catch (error) {
      this.#postpone(lane, asKafkaError(error));
    }
  }

  #postpone(lane: Lane, why: KafkaError): void {
    lane.trouble = why;
    lane.failures += 1;
    lane.notBefore = performance.now() + retryMs(lane.failures);
    // What nobody waits for any more takes no room while the broker is away.
    this.#forget(lane.takeOver());
    const { batch } = lane;
    if (batch?.events.every(({ tally }) => tally.over)) {
      // Whether the broker has it nobody knows, so its numbers may be used up.
      lane.batch = undefined;
      this.#forget(batch.events);
      this.#writer.newIdentity();
    }
  }

  /** The broker refuses what the lane has. */
  #fail(lane: Lane, error: KafkaError): void {
    for (const event of lane.takeAll()) this.#done(event, error);
    this.#writer.newIdentity();
  }

  #done({ tally, index, tail }: Waiting, result: Produced): void {
    this.#waitingBytes -= tail.length;
    this.#tallies.finish(tally, index, result);
  }

  #forget(events: readonly Waiting[]): void {
    for (const { tail } of events) this.#waitingBytes -= tail.length;
  }
}

/** The broker's state of a producer does not fit the batch. */
const strange = new Set([
  "OUT_OF_ORDER_SEQUENCE_NUMBER",
  "INVALID_PRODUCER_EPOCH",
  "INVALID_PRODUCER_ID_MAPPING",
  "UNKNOWN_PRODUCER_ID",
  "PRODUCER_FENCED",
]);

function tooLarge(bytes: number, limit: number | undefined): KafkaError {
  const most =
    limit === undefined ? "the topic takes (max.message.bytes)" : `maxMessageBytes (${limit}) allows`;
  return new KafkaError(
    "refused",
    `the event takes ${bytes} bytes as a record, more than ${most}`,
    tooLargeCode,
  );
}

function asKafkaError(error: unknown): KafkaError {
  return error instanceof KafkaError ? error : new KafkaError("refused", "publishing failed", "", error);
}
