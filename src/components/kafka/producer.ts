/**
 * Publishes with as few requests as it takes: one at a time to each node, with everything in it that has gathered
 * while the one before was on its way. An event that finds nothing under way leaves at once.
 *
 * A partition has one batch under way, which is sent again as it was until the broker has it: numbered by an
 * idempotent producer, so that no attempt makes a second copy and none overtakes another.
 */
import type { KafkaClient, ProduceResult, ProducerIdentity } from "./client.ts";
import type { Codecs } from "./compression/codecs.ts";
import { brokerError, cancelled, invalidTimestampCode, KafkaError } from "./errors.ts";
import { backoffMs } from "./patience.ts";
import {
  batchHeaderBytes,
  type EncodedBatch,
  encodeBatch,
  encodeTail,
  type RecordFields,
  recordOverheadBytes,
} from "./record-batch.ts";
import type { Topics } from "./topics.ts";

/** How to publish. */
export interface ProducerSettings {
  readonly acks: -1 | 0 | 1;
  /** Of one record and of one batch, uncompressed. */
  readonly maxBatchBytes: number;
  readonly codec: number;
  /** How long an event may take until the broker has it, whatever its caller would wait. */
  readonly limitMs: number;
}

/** Where an event is, or why it is not. */
export type Produced = { readonly partition: number; readonly offset: number } | KafkaError;

/** Uncompressed bytes of one request. */
const maxRequestBytes = 8 * 1024 * 1024;
/** Bytes of events that wait, or are on their way. */
const maxWaitingBytes = 128 * 1024 * 1024;
const expiryCheckMs = 100;

/** One call of `produce`. */
interface Tally {
  readonly results: Produced[];
  left: number;
  over: boolean;
  readonly endsAt: number;
  resolve(results: readonly Produced[]): void;
  reject(error: unknown): void;
}

interface Waiting {
  readonly tally: Tally;
  readonly index: number;
  readonly tail: Buffer;
  readonly timeMs: number;
}

interface Batch {
  readonly events: readonly Waiting[];
  readonly encoded: EncodedBatch;
  readonly identity: ProducerIdentity | undefined;
}

/** One partition. */
class Lane {
  readonly topic: string;
  readonly partition: number;
  waiting: Waiting[] = [];
  batch: Batch | undefined;
  /** Of the next batch. */
  sequence = 0;
  identity: ProducerIdentity | undefined;
  notBefore = 0;
  sending = false;
  /** Attempts in a row. */
  failures = 0;
  /** Why the last attempt failed. */
  trouble: KafkaError | undefined;

  constructor(topic: string, partition: number) {
    this.topic = topic;
    this.partition = partition;
  }
}

/** See the head of this file. */
export class Producer {
  readonly #client: KafkaClient;
  readonly #topics: Topics;
  readonly #settings: ProducerSettings;
  readonly #codecs: Codecs;
  readonly #lanes = new Map<string, Lane>();
  /** Those that have something to send. */
  readonly #busy = new Set<Lane>();
  readonly #sendingTo = new Set<number>();
  readonly #tallies = new Set<Tally>();
  #waitingBytes = 0;
  #identity: Promise<ProducerIdentity> | undefined;
  #scheduled = false;
  #retry: NodeJS.Timeout | undefined;
  #expiry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(client: KafkaClient, topics: Topics, settings: ProducerSettings, codecs: Codecs) {
    this.#client = client;
    this.#topics = topics;
    this.#settings = settings;
    this.#codecs = codecs;
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
    const { promise, resolve, reject } = Promise.withResolvers<readonly Produced[]>();
    const tally: Tally = {
      results: new Array<Produced>(records.length),
      left: records.length,
      over: false,
      endsAt: performance.now() + this.#settings.limitMs,
      resolve,
      reject,
    };
    this.#tallies.add(tally);
    for (let index = 0; index < records.length; index += 1) {
      const record = records[index]!;
      const tail = encodeTail(record);
      const bytes = tail.length + recordOverheadBytes + batchHeaderBytes;
      if (bytes > this.#settings.maxBatchBytes && !record.anySize)
        this.#finish(tally, index, tooLarge(bytes, this.#settings.maxBatchBytes));
      else {
        const lane = this.#lane(topic, partitionOf(index));
        lane.waiting.push({ tally, index, tail, timeMs });
        this.#waitingBytes += tail.length;
        this.#busy.add(lane);
      }
    }
    if (records.length === 0) {
      this.#tallies.delete(tally);
      return Promise.resolve([]);
    }
    this.#schedule();
    if (tally.over) return promise;
    this.#expiry ??= setInterval(() => this.#expire(), expiryCheckMs);
    const abort = () => this.#giveUp(tally, cancelled(signal));
    signal.addEventListener("abort", abort, { once: true });
    return promise.finally(() => signal.removeEventListener("abort", abort));
  }

  /** Refuses what is to come; what is on its way is not waited for. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#expiry);
    clearTimeout(this.#retry);
    for (const tally of this.#tallies)
      this.#giveUp(tally, new KafkaError("unavailable", "the component is closed"));
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
      if (lane.batch === undefined && lane.waiting.length === 0) this.#busy.delete(lane);
    }
    this.#schedule();
  }

  /** Takes what waits, up to the size of a batch; undefined when nobody waits for it any more. */
  async #nextBatch(lane: Lane): Promise<Batch | undefined> {
    const events: Waiting[] = [];
    let bytes = batchHeaderBytes;
    let taken = 0;
    for (const event of lane.waiting) {
      bytes += event.tail.length + recordOverheadBytes;
      if (bytes > this.#settings.maxBatchBytes && events.length > 0) break;
      taken += 1;
      if (event.tally.over) this.#waitingBytes -= event.tail.length;
      else events.push(event);
    }
    lane.waiting = taken === lane.waiting.length ? [] : lane.waiting.slice(taken);
    if (events.length === 0) return undefined;
    try {
      return await this.#encode(lane, events);
    } catch (error) {
      lane.waiting = events.concat(lane.waiting);
      throw error;
    }
  }

  async #encode(lane: Lane, events: readonly Waiting[]): Promise<Batch> {
    const identity = this.#settings.acks === -1 ? await this.#identify() : undefined;
    if (lane.identity !== identity) {
      lane.identity = identity;
      lane.sequence = 0;
    }
    const options = {
      producerId: identity?.id ?? -1n,
      producerEpoch: identity?.epoch ?? -1,
      sequence: identity ? lane.sequence : -1,
      codec: this.#settings.codec,
    };
    const tails = events.map(({ tail }) => tail);
    const times = events.map(({ timeMs }) => timeMs);
    const encoded = await encodeBatch(tails, times, options, this.#codecs);
    return { events, encoded, identity };
  }

  #identify(): Promise<ProducerIdentity> {
    this.#identity ??= this.#client.initProducerId().catch((error: unknown) => {
      this.#identity = undefined;
      throw error;
    });
    return this.#identity;
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
      this.#newIdentity();
      lane.batch = undefined;
      lane.waiting = [...batch.events, ...lane.waiting];
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
    lane.waiting = [...batch.events.slice(half.length), ...lane.waiting];
    try {
      lane.batch = await this.#encode(lane, half);
    } catch (error) {
      lane.waiting = [...half, ...lane.waiting];
      this.#postpone(lane, asKafkaError(error));
    }
  }

  #postpone(lane: Lane, why: KafkaError): void {
    lane.trouble = why;
    lane.failures += 1;
    lane.notBefore = performance.now() + backoffMs(lane.failures);
    this.#forgetOver(lane);
    const { batch } = lane;
    if (batch?.events.every(({ tally }) => tally.over)) {
      // Whether the broker has it nobody knows, so its numbers may be used up.
      lane.batch = undefined;
      for (const { tail } of batch.events) this.#waitingBytes -= tail.length;
      this.#newIdentity();
    }
  }

  /** What nobody waits for any more takes no room while the broker is away. */
  #forgetOver(lane: Lane): void {
    lane.waiting = lane.waiting.filter(({ tally, tail }) => {
      if (tally.over) this.#waitingBytes -= tail.length;
      return !tally.over;
    });
  }

  /** No batch that is encoded from now on has the identity that there is. */
  #newIdentity(): void {
    this.#identity = undefined;
  }

  /** The broker refuses what the lane has. */
  #fail(lane: Lane, error: KafkaError): void {
    const events = [...(lane.batch?.events ?? []), ...lane.waiting];
    lane.batch = undefined;
    lane.waiting = [];
    for (const event of events) this.#done(event, error);
    this.#newIdentity();
  }

  #done({ tally, index, tail }: Waiting, result: Produced): void {
    this.#waitingBytes -= tail.length;
    this.#finish(tally, index, result);
  }

  #finish(tally: Tally, index: number, result: Produced): void {
    if (tally.over) return;
    tally.results[index] = result;
    tally.left -= 1;
    if (tally.left > 0) return;
    this.#end(tally);
    tally.resolve(tally.results);
  }

  #end(tally: Tally): void {
    tally.over = true;
    this.#tallies.delete(tally);
    if (this.#tallies.size > 0) return;
    clearInterval(this.#expiry);
    this.#expiry = undefined;
  }

  #giveUp(tally: Tally, error: KafkaError): void {
    if (tally.over) return;
    this.#end(tally);
    tally.reject(error);
  }

  /** Those that are over their time; they are in the order in which they came. */
  #expire(): void {
    const now = performance.now();
    for (const tally of this.#tallies) {
      if (tally.endsAt > now) break;
      const trouble = [...this.#busy].find((lane) => lane.trouble)?.trouble;
      const why = trouble ? `: ${trouble.message}` : "";
      const message = `the broker did not take the events within ${this.#settings.limitMs} ms${why}`;
      this.#giveUp(tally, new KafkaError("unavailable", message, trouble?.code, trouble));
    }
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

/** The code of events that are larger than the component or the topic takes. */
export const tooLargeCode = "MESSAGE_TOO_LARGE";

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
