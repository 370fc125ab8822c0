/** The topics of a cluster, by Kafka's names: who leads each partition, and how topics come to be. */
import type { KafkaClient, TopicMetadata } from "./client.ts";
import { brokerError, hasCode, KafkaError } from "./errors.ts";

/** What a topic is made with. */
export interface TopicSettings {
  /** True: made here; false: never made; undefined: as the broker does for topics that it is asked about. */
  readonly create: boolean | undefined;
  /** -1: as the broker thinks best. */
  readonly partitions: number;
  readonly replicationFactor: number;
  readonly configs: Readonly<Record<string, string>>;
}

/** How long the broker may take to make a topic. */
const createTimeoutMs = 5000;
/** How long a broker that makes topics by itself may say that there is none, while it does so. */
const selfMadeWithinMs = 2000;
/** Topics that are waited for, at most. */
const maxAwaited = 10_000;

/** See the head of this file. What is known of a topic is kept until somebody finds it out of date. */
export class Topics {
  readonly #client: KafkaClient;
  readonly #settings: TopicSettings;
  readonly #maxAgeMs: number;
  readonly #known = new Map<string, { readonly leaders: readonly number[]; readonly at: number }>();
  /** Topics that the broker may be making, and since when they are asked for. */
  readonly #awaited = new Map<string, number>();

  constructor(client: KafkaClient, settings: TopicSettings, maxAgeMs: number) {
    this.#client = client;
    this.#settings = settings;
    this.#maxAgeMs = maxAgeMs;
  }

  /** The leaders of a topic's partitions as far as they are known without asking. */
  known(topic: string): readonly number[] | undefined {
    const known = this.#known.get(topic);
    return known && performance.now() - known.at < this.#maxAgeMs ? known.leaders : undefined;
  }

  /** What is known of a topic is wrong. */
  forget(topic: string): void {
    this.#known.delete(topic);
  }

  /** The leaders of a topic's partitions; the topic is made if need be. Throws a KafkaError. */
  async ensure(topic: string): Promise<readonly number[]> {
    const known = this.known(topic);
    if (known) return known;
    const found = (await this.#client.metadata([topic], this.#settings.create === undefined))[0];
    if (found?.error === "UNKNOWN_TOPIC_OR_PARTITION") {
      await this.#create(topic);
      throw new KafkaError("unavailable", `the topic "${topic}" is being made`, found.error);
    }
    this.#awaited.delete(topic);
    return this.#learn(topic, found);
  }

  /** The same for a topic that is there. Throws a KafkaError. */
  async find(topic: string): Promise<readonly number[]> {
    return this.#learn(topic, (await this.#client.metadata([topic], false))[0]);
  }

  /**
   * The same for many. Those that are not there, or may not be seen, are left out, so that one does not hold up the
   * others; a partition that has no leader now has the leader -1.
   */
  async lookUp(topics: readonly string[]): Promise<ReadonlyMap<string, readonly number[]>> {
    const found = topics.length === 0 ? [] : await this.#client.metadata(topics, false);
    const leaders = new Map<string, readonly number[]>();
    for (const { topic, ...about } of found) {
      if (about.error !== "" || !isWhole(about.leaders)) continue;
      leaders.set(topic, about.leaders);
      this.#known.set(topic, { leaders: about.leaders, at: performance.now() });
    }
    return leaders;
  }

  /** The names of all topics that are no internal ones. */
  async all(): Promise<readonly string[]> {
    const topics = await this.#client.metadata("all", false);
    return topics.filter(({ internal, error }) => !internal && error === "").map(({ topic }) => topic);
  }

  async #create(topic: string): Promise<void> {
    const { create, partitions, replicationFactor, configs } = this.#settings;
    if (create === false) throw missing(topic, false);
    if (create === undefined) {
      if (this.#awaited.size > maxAwaited) this.#awaited.clear();
      const since = this.#awaited.get(topic) ?? performance.now();
      this.#awaited.set(topic, since);
      if (performance.now() - since < selfMadeWithinMs) return;
      this.#awaited.delete(topic);
      throw missing(topic, true);
    }
    try {
      await this.#client.createTopic({ topic, partitions, replicationFactor, configs }, createTimeoutMs);
    } catch (error) {
      // Another sidecar was quicker.
      if (!hasCode(error, "TOPIC_ALREADY_EXISTS")) throw error;
    }
  }

  #learn(topic: string, found: TopicMetadata | undefined): readonly number[] {
    if (found === undefined) throw new KafkaError("unavailable", `nothing is known of the topic "${topic}"`);
    if (found.error === "TOPIC_AUTHORIZATION_FAILED") {
      throw new KafkaError("refused", `the topic "${topic}" may not be used by this user`, found.error);
    }
    if (found.error !== "") throw brokerError(found.error, `the topic "${topic}" cannot be used now`);
    if (!isWhole(found.leaders)) {
      throw new KafkaError("unavailable", `the topic "${topic}" has no partitions yet`);
    }
    if (found.leaders.every((leader) => leader < 0)) {
      throw new KafkaError("unavailable", `the topic "${topic}" has no leaders now`, "LEADER_NOT_AVAILABLE");
    }
    this.#known.set(topic, { leaders: found.leaders, at: performance.now() });
    return found.leaders;
  }
}

/** Whether all partitions are known: of a topic that is being made, some may not be there yet. */
function isWhole(leaders: readonly number[]): boolean {
  return leaders.length > 0 && Array.from(leaders).every((leader) => leader !== undefined);
}

function missing(topic: string, brokerWasAsked: boolean): KafkaError {
  const why = brokerWasAsked
    ? "the broker makes none by itself (auto.create.topics.enable), and this component is not told to; set createTopics"
    : "this component is told not to make any (createTopics)";
  return new KafkaError(
    "refused",
    `the topic "${topic}" does not exist: ${why}`,
    "UNKNOWN_TOPIC_OR_PARTITION",
  );
}
