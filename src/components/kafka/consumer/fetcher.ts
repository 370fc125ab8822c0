/** Reads the partitions that have room: one request at a time to each node, for all of its partitions together. */
import { earliest, type FetchResult, type KafkaClient, latest } from "../client.ts";
import { brokerError, KafkaError } from "../errors.ts";
import { retryMs } from "../patience.ts";
import type { Topics } from "../topics.ts";
import type { PartitionLog } from "./partition-log.ts";

/** How to read. */
export interface FetchSettings {
  readonly minBytes: number;
  /** Of one partition in one answer; as much again may wait to be handed out. */
  readonly partitionBytes: number;
  /** How far reading may be ahead of what is settled, in offsets. */
  readonly maxDistance: number;
  /** Where to go on when the broker has not what comes next. */
  readonly whenOutOfRange: "earliest" | "latest";
}

/** What a fetcher needs of the consumer that it belongs to. */
export interface FetchHost {
  logs(): Iterable<PartitionLog>;
  /** Records, which are to be added to the log. */
  fetched(log: PartitionLog, result: FetchResult): void;
  /** Reading goes on somewhere else; events were passed over when `lost` is more than zero. */
  jumped(log: PartitionLog, offset: number, lost: number): void;
  log(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** How long the broker waits for an event when there is none. */
const idleWaitMs = 250;
/** The same while other partitions have no room, and may have it again at any time. */
const busyWaitMs = 10;
const maxAnswerBytes = 16 * 1024 * 1024;
const minAnswerBytes = 16 * 1024;
/** How much more is asked for after each answer that came in time, until it is as much as it may be. */
const growth = 1.1;
/** Failures in a row, a second apart in the end, after which an operator should look: a minute without a broker. */
const failuresToWarnOf = 60;

/** See the head of this file. */
export class Fetcher {
  readonly #client: KafkaClient;
  readonly #topics: Topics;
  readonly #settings: FetchSettings;
  readonly #host: FetchHost;
  readonly #busy = new Set<number>();
  /** What is asked for at once: less when the network is too narrow for the answer to come in time. */
  #answerBytes = maxAnswerBytes;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(client: KafkaClient, topics: Topics, settings: FetchSettings, host: FetchHost) {
    this.#client = client;
    this.#topics = topics;
    this.#settings = settings;
    this.#host = host;
  }

  /** Reads what there is room for. Called whenever there may be more of it. */
  pump(): void {
    if (this.#closed) return;
    const nodes = new Map<number, { readonly wanted: PartitionLog[]; waiting: boolean }>();
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const log of this.#host.logs()) {
      if (log.fetching || log.draining || log.gone) continue;
      if (log.notBefore > now) next = Math.min(next, log.notBefore);
      else {
        const nodeId = this.#topics.known(log.topic)?.[log.partition] ?? -1;
        if (nodeId < 0) void this.#findLeader(log);
        else if (!this.#busy.has(nodeId)) {
          const node = nodes.get(nodeId) ?? { wanted: [], waiting: false };
          nodes.set(nodeId, node);
          if (this.#hasRoom(log)) node.wanted.push(log);
          else node.waiting = true;
        }
      }
    }
    for (const [nodeId, { wanted, waiting }] of nodes) {
      if (wanted.length > 0) void this.#fetch(nodeId, wanted, waiting ? busyWaitMs : idleWaitMs);
    }
    if (next === Number.POSITIVE_INFINITY) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.pump(), Math.max(1, next - performance.now()));
    this.#timer.unref();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #hasRoom(log: PartitionLog): boolean {
    const { maxDistance, partitionBytes } = this.#settings;
    return (
      log.readyBytes < partitionBytes / 2 && log.heldBytes < log.maxHeldBytes && log.distance < maxDistance
    );
  }

  async #fetch(nodeId: number, logs: readonly PartitionLog[], maxWaitMs: number): Promise<void> {
    const { minBytes, partitionBytes } = this.#settings;
    const maxBytes = Math.min(this.#answerBytes, partitionBytes * logs.length);
    this.#busy.add(nodeId);
    for (const log of logs) log.fetching = true;
    try {
      const results = await this.#client.fetch(nodeId, {
        maxWaitMs,
        minBytes,
        maxBytes,
        partitions: logs.map(({ topic, partition, nextOffset }) => ({
          topic,
          partition,
          offset: nextOffset,
          maxBytes: Math.min(partitionBytes, maxBytes),
        })),
      });
      this.#answerBytes = Math.min(maxAnswerBytes, Math.ceil(this.#answerBytes * growth));
      const byKey = new Map(logs.map((log) => [`${log.partition}/${log.topic}`, log]));
      for (const result of results) {
        const log = byKey.get(`${result.partition}/${result.topic}`);
        if (log && !log.gone) await this.#take(log, result);
      }
    } catch (error) {
      this.#answerBytes = Math.max(minAnswerBytes, Math.floor(maxBytes / 2));
      for (const log of logs) this.#failed(log, error);
    } finally {
      this.#busy.delete(nodeId);
      for (const log of logs) log.fetching = false;
      this.pump();
    }
  }

  async #take(log: PartitionLog, result: FetchResult): Promise<void> {
    if (result.unreadable) this.#failed(log, result.unreadable);
    else if (result.error === "") {
      log.failures = 0;
      log.logStartOffset = result.logStartOffset;
      this.#host.fetched(log, result);
    } else if (result.error === "OFFSET_OUT_OF_RANGE") await this.#reset(log);
    else this.#failed(log, brokerError(result.error, `the topic "${log.topic}" cannot be read`));
  }

  #failed(log: PartitionLog, error: unknown): void {
    log.failures += 1;
    log.notBefore = performance.now() + retryMs(log.failures);
    this.#topics.forget(log.topic);
    const fields = { topic: log.topic, partition: log.partition, failures: log.failures, err: error };
    if (this.#closed) return;
    const refused = log.failures === 1 && error instanceof KafkaError && error.kind === "refused";
    if (refused || log.failures % failuresToWarnOf === 0)
      this.#host.warn("a partition cannot be read; trying again", fields);
    else this.#host.log("reading a partition failed; trying again", fields);
  }

  async #findLeader(log: PartitionLog): Promise<void> {
    log.fetching = true;
    try {
      const leaders = await this.#topics.find(log.topic);
      if ((leaders[log.partition] ?? -1) < 0) {
        throw new KafkaError("unavailable", "the partition has no leader", "LEADER_NOT_AVAILABLE");
      }
    } catch (error) {
      this.#failed(log, error);
    } finally {
      log.fetching = false;
      this.pump();
    }
  }

  /** The broker has not what comes next: retention removed it, or the partition's end was lost. */
  async #reset(log: PartitionLog): Promise<void> {
    const { topic, partition, nextOffset } = log;
    try {
      const nodeId = this.#topics.known(topic)?.[partition] ?? -1;
      const ask = async (timestampMs: number) => {
        const [answer] = await this.#client.listOffsets(nodeId, [{ topic, partition, timestampMs }]);
        if (answer === undefined || answer.error !== "") {
          throw new KafkaError("unavailable", `Kafka: ${answer?.error}`, answer?.error);
        }
        return answer.offset;
      };
      const [begin, end] = [await ask(earliest), await ask(latest)];
      // Two answers that contradict each other: a leader that has just changed says another soon.
      log.notBefore = performance.now() + retryMs(0);
      if (nextOffset >= begin && nextOffset <= end) return;
      const to = this.#settings.whenOutOfRange === "latest" ? end : begin;
      if (!log.gone) this.#host.jumped(log, to, nextOffset < begin ? to - nextOffset : 0);
    } catch (error) {
      this.#failed(log, error);
    }
  }
}
