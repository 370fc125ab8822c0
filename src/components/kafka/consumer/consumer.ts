/**
 * A consumer group's place in this sidecar: its partitions, whoever shares them out, what is read from them, and how
 * far the group is. All topics of a group that are read here share it.
 */
import { pause } from "../../../pause.ts";
import type { CommittedOffset, FetchResult, KafkaClient, TopicPartition } from "../client.ts";
import { brokerError, hasCode, KafkaError } from "../errors.ts";
import { abortable, retryMs } from "../patience.ts";
import type { Topics } from "../topics.ts";
import { Committer } from "./committer.ts";
import type { Feed } from "./feed.ts";
import { Fetcher, type FetchSettings } from "./fetcher.ts";
import { Membership } from "./membership.ts";
import { type Entry, PartitionLog } from "./partition-log.ts";
import { waitingOf, withoutWaiting } from "./retry-topics.ts";
import { beginnings } from "./start.ts";

/** How to consume. */
export interface ConsumerSettings extends FetchSettings {
  /** The name that the place in a group is kept under while its member is away; "" for none. */
  readonly instanceId: string;
  readonly sessionTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly commitMs: number;
  /** How long a partition that is to move waits for what the application holds of it. */
  readonly rebalanceTimeoutMs: number;
  /** How often topics and partitions that are new are looked for. */
  readonly refreshMs: number;
}

/** What a consumer works with. */
export interface ConsumerContext {
  /** Connections of its own, for what makes others wait. */
  readonly own: KafkaClient;
  /** Those of the component. */
  readonly shared: KafkaClient;
  readonly topics: Topics;
  /** Undefined: all partitions, and nobody to share them with. */
  readonly group: string | undefined;
  readonly settings: ConsumerSettings;
  /** As in MembershipSettings. */
  readonly putOut: Map<string, string>;
  log(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** Something that an operator should see. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** How long closing waits for the last commit, and as long again to leave the group, in milliseconds. */
  readonly closeWithinMs: number;
}

/** Of one partition of a topic that holds events for later. */
const maxWaitingBytes = 64 * 1024;

/** See the head of this file. */
export class Consumer {
  readonly #context: ConsumerContext;
  readonly #membership: Membership | undefined;
  readonly #committer: Committer | undefined;
  readonly #fetcher: Fetcher;
  readonly #feeds = new Set<Feed>();
  readonly #logs = new Map<string, PartitionLog>();
  /** What was assigned last, with another number each time that a partition comes anew. */
  #assigned: ReadonlyMap<string, number> = new Map();
  #assignments = 0;
  readonly #closing = new AbortController();
  #commitTimer: NodeJS.Timeout | undefined;
  #changed = Promise.withResolvers<void>();
  #topicsRead: ReadonlySet<string> = new Set();
  /** What was noted last of each topic. One that is new may be missing. */
  #counts: ReadonlyMap<string, number> = new Map();
  /** Topics that the broker does not let this user read, with what it says. */
  readonly #refusals = new Map<string, KafkaError>();

  constructor(context: ConsumerContext) {
    this.#context = context;
    const { own, shared, topics, group, settings } = context;
    this.#fetcher = new Fetcher(own, topics, settings, {
      logs: () => this.#logs.values(),
      fetched: (log, result) => this.#fetched(log, result),
      jumped: (log, offset, lost) => this.#jumped(log, offset, lost),
      log: context.log,
      warn: context.warn,
    });
    if (group === undefined) return;
    this.#membership = new Membership(
      { own, shared },
      { ...settings, group, putOut: context.putOut },
      {
        topics: () => [...this.#topicsRead],
        owned: () => [...this.#logs.values()].map(({ topic, partition }) => ({ topic, partition })),
        partitionCounts: (names) => this.#partitionCounts(names),
        assigned: (partitions) => this.#assign(partitions),
        lost: () => this.#lose(),
        regained: () => this.#wake(),
        log: context.log,
        warn: context.warn,
      },
    );
    this.#committer = new Committer(shared, () => this.#membership!.member);
    this.#commitTimer = setInterval(() => void this.#commit(), settings.commitMs);
    this.#commitTimer.unref();
  }

  /** Whether what was read may be handed out: not while others may have taken over. */
  mayHandOut(): boolean {
    return this.#membership?.sound ?? true;
  }

  /** There is room in a partition again. */
  drained(): void {
    this.#fetcher.pump();
  }

  /** Nothing of a partition that is to move is with the application any more. */
  idle(log: PartitionLog): void {
    this.#notify();
    void log;
  }

  /** The partitions that are read here. */
  log(topic: string, partition: number): PartitionLog | undefined {
    return this.#logs.get(keyOf({ topic, partition }));
  }

  /** All of them. */
  get logs(): Iterable<PartitionLog> {
    return this.#logs.values();
  }

  /** Why the broker does not let this group in. */
  get refusal(): KafkaError | undefined {
    return this.#membership?.refusal;
  }

  /** What keeps this group from being read here although the broker answers; "" for nothing. */
  get trouble(): string {
    return this.#membership?.trouble ?? "";
  }

  /** Why it does not let it read a topic. */
  refusalOf(topic: string): KafkaError | undefined {
    return this.#refusals.get(topic);
  }

  /** Resolves at the next change of what is read. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  /** Adds a feed and reads its topics, by Kafka's names; `counts` has the partitions of those that are known. */
  add(feed: Feed, topics: readonly string[], counts: ReadonlyMap<string, number>): void {
    this.#feeds.add(feed);
    this.#counts = new Map([...counts, ...this.#counts]);
    const read = new Set([...this.#topicsRead, ...topics]);
    const shared = this.#membership?.sharedTopics;
    if (shared && topics.every((topic) => shared.has(topic))) {
      // Its share was kept for it while it was away.
      this.#topicsRead = read;
      void this.#begin([...this.#assigned.keys()].map(partitionOf));
    } else this.#read(read);
    this.#membership?.start();
  }

  /** Topics of a feed that were found later. */
  found(topics: readonly string[]): void {
    if (topics.every((topic) => this.#topicsRead.has(topic))) return;
    this.#read(new Set([...this.#topicsRead, ...topics]));
  }

  /**
   * The number of partitions of the topics that are read has changed, or not; 0: the topic is not there. One that is
   * new is shared out anyway.
   */
  noteCounts(counts: ReadonlyMap<string, number>): void {
    const before = this.#counts;
    this.#counts = new Map([...before, ...counts].filter(([topic]) => this.#topicsRead.has(topic)));
    // What was shared out may have been out of date: a broker that has just begun may not know of all topics.
    const shared = this.#membership?.sharedCounts;
    const unasked = [...(this.#membership?.sharedTopics ?? [])].some((topic) => !this.#topicsRead.has(topic));
    const isOther = ([topic, count]: [string, number]) =>
      (before.get(topic) ?? count) !== count || (shared && (shared.get(topic) ?? 0) !== count);
    if (unasked || [...counts].some(isOther)) this.#changeTopics();
  }

  /** Takes a feed away, and commits how far it is. */
  async remove(feed: Feed, topics: readonly string[]): Promise<void> {
    this.#feeds.delete(feed);
    const logs = [...this.#logs.values()].filter((log) => this.#feedOf(log.topic) === undefined);
    for (const log of logs) feed.detach(log);
    await this.#commitWithin(logs, this.#context.closeWithinMs);
    for (const log of logs) this.#drop(log);
    // Another feed may read some of them, also one that came while the position was committed.
    const unread = new Set(topics.filter((topic) => this.#feedOf(topic) === undefined));
    for (const topic of unread) this.#refusals.delete(topic);
    const others = new Set([...this.#topicsRead].filter((topic) => !unread.has(topic)));
    if (this.#feeds.size > 0) this.#read(others);
    else this.#topicsRead = others;
  }

  /** Leaves the group. Every feed has been removed. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#commitTimer);
    this.#fetcher.close();
    await this.#membership?.close(this.#context.closeWithinMs);
    this.#context.own.close();
  }

  #read(topics: ReadonlySet<string>): void {
    this.#topicsRead = topics;
    this.#changeTopics();
  }

  #changeTopics(): void {
    if (this.#membership) this.#membership.rejoin();
    else void this.#assignAll();
  }

  /** Without a group, everything is ours. */
  async #assignAll(): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        const counts = await this.#partitionCounts([...this.#topicsRead]);
        const partitions = [...counts].flatMap(([topic, count]) =>
          Array.from({ length: count }, (_, partition) => ({ topic, partition })),
        );
        this.#assign(partitions);
        return;
      } catch (error) {
        this.#context.log("finding the partitions failed; trying again", { err: error });
        await pause(retryMs(attempt), signal, { ref: false });
      }
    }
  }

  async #partitionCounts(names: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const leaders = await this.#context.topics.lookUp(names);
    return new Map([...leaders].map(([topic, all]) => [topic, all.length]));
  }

  #assign(partitions: readonly TopicPartition[]): void {
    this.#assignments += 1;
    const before = this.#assigned;
    this.#assigned = new Map(partitions.map(keyOf).map((key) => [key, before.get(key) ?? this.#assignments]));
    for (const [key, log] of this.#logs) {
      if (!this.#assigned.has(key)) {
        if (!log.draining) void this.#drain(log);
      } else if (log.draining) {
        log.draining = false;
        this.#feedOf(log.topic)?.attach(log);
      }
    }
    const added = partitions.filter((one) => !this.#logs.has(keyOf(one)));
    if (added.length > 0) void this.#begin(added);
    this.#notify();
    this.#fetcher.pump();
  }

  /** Begins to read partitions where the group is in them, or is to begin. */
  async #begin(partitions: readonly TopicPartition[]): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      // What nobody asks for yet is begun when somebody does, and where they want it.
      const wanted = partitions.filter(
        (one) => this.#assigned.has(keyOf(one)) && !this.#logs.has(keyOf(one)) && this.#feedOf(one.topic),
      );
      if (wanted.length === 0) return;
      const assigned = this.#assigned;
      try {
        const positions = await this.#positions(wanted);
        for (const one of positions) this.#beginAt(one, assigned);
        this.#notify();
        this.#fetcher.pump();
        return;
      } catch (error) {
        if (signal.aborted) return;
        const topics = Map.groupBy(wanted, ({ topic }) => topic);
        if (topics.size > 1) {
          // One that cannot be read holds up none of the others.
          for (const own of topics.values()) void this.#begin(own);
          return;
        }
        this.#cannotBegin(wanted[0]!.topic, error);
        await pause(retryMs(attempt), signal, { ref: false });
      }
    }
  }

  #beginAt(committed: CommittedOffset, assigned: ReadonlyMap<string, number>): void {
    const feed = this.#feedOf(committed.topic);
    const key = keyOf(committed);
    this.#refusals.delete(committed.topic);
    if (feed === undefined || !this.#assigned.has(key) || this.#logs.has(key)) return;
    // Another member has had it since it was asked where the group is: whoever began when it came again knows better.
    if (this.#assigned.get(key) !== assigned.get(key)) return;
    this.#logs.set(key, this.#logAt(committed, feed));
  }

  #logAt(committed: CommittedOffset, feed: Feed): PartitionLog {
    const log = new PartitionLog(committed, feed.ordered, committed);
    // What waits there is not read long before its time.
    if (feed.retryTopics.has(log.topic)) log.maxHeldBytes = maxWaitingBytes;
    return log;
  }

  #cannotBegin(topic: string, error: unknown): void {
    const { log, warn } = this.#context;
    const fields = { topic, err: error };
    if (!(error instanceof KafkaError) || error.kind !== "refused")
      log("finding where to begin failed; trying again", fields);
    else if (!this.#refusals.has(topic) && this.#feedOf(topic)) {
      this.#refusals.set(topic, error);
      warn("a topic may not be read; trying again", fields);
      this.#notify();
    }
  }

  /** Where the group is in partitions; where it was never, it is put to its beginning, which is committed. */
  async #positions(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]> {
    const { shared, topics, group } = this.#context;
    // If the group goes on meanwhile, somebody else may have begun: then the broker refuses what this one commits.
    const member = this.#membership?.member;
    const committed = group === undefined ? [] : await shared.fetchOffsets(group, partitions);
    const known = new Set(committed.map(keyOf));
    const fresh = partitions.filter((one) => !known.has(keyOf(one)));
    if (fresh.length === 0) return committed;
    const starts = fresh.map(({ topic, partition }) => {
      const feed = this.#feedOf(topic);
      const start = feed?.knew({ topic, partition }) ? feed.start : undefined;
      return { topic, partition, start: start ?? ({ at: "earliest" } as const) };
    });
    const offsets = await beginnings(shared, topics, starts);
    const begun = fresh.map(({ topic, partition }, i) => ({
      topic,
      partition,
      offset: offsets[i]!,
      metadata: "",
    }));
    if (member) {
      const errors = await shared.commitOffsets(member, begun);
      const index = errors.findIndex((error) => error !== "");
      const topic = begun[index]?.topic;
      if (index >= 0)
        throw brokerError(errors[index]!, `the group cannot begin to read the topic "${topic}"`);
    }
    return [...committed, ...begun];
  }

  /** Lets a partition go when what is out of it is settled, or has had its time. */
  async #drain(log: PartitionLog): Promise<void> {
    const { rebalanceTimeoutMs } = this.#context.settings;
    log.draining = true;
    this.#feedOf(log.topic)?.detach(log);
    const endsAt = performance.now() + rebalanceTimeoutMs;
    while (log.out > 0 && log.draining && !log.gone) {
      const leftMs = endsAt - performance.now();
      if (leftMs <= 0) break;
      await Promise.race([this.changed, pause(Math.min(1000, leftMs), this.#closing.signal, { ref: false })]);
    }
    if (!log.draining || log.gone) return;
    await this.#commitWithin([log], this.#context.settings.sessionTimeoutMs);
    if (!log.draining || log.gone) return;
    this.#drop(log);
    this.#membership?.rejoin();
  }

  #drop(log: PartitionLog): void {
    log.gone = true;
    this.#logs.delete(keyOf(log));
    this.#notify();
  }

  /** Others have the partitions: what was read is theirs to read again. */
  #lose(): void {
    const lost = [...this.#logs.values()];
    this.#assigned = new Map();
    for (const log of lost) {
      this.#feedOf(log.topic)?.detach(log);
      this.#drop(log);
    }
    if (lost.length === 0) return;
    const held = lost.reduce((sum, log) => sum + log.out, 0);
    this.#context.warn("the group went on without this member; its partitions are read by others", {
      partitions: lost.length,
      held,
    });
  }

  #fetched(log: PartitionLog, { records }: FetchResult): void {
    const entries = log.add(records);
    const feed = this.#feedOf(log.topic);
    const own = feed?.retryTopics.has(log.topic) ? this.#ownRetries(log, entries) : entries;
    if (feed && !log.draining) feed.offer(own);
  }

  /** Of a topic that holds events for later: those of this group. The others are none of its business. */
  #ownRetries(log: PartitionLog, entries: readonly Entry[]): readonly Entry[] {
    return entries.filter((entry) => {
      const waiting = waitingOf(entry.record!);
      if (waiting?.group !== this.#context.group) {
        log.done(entry);
        return false;
      }
      entry.attempts = Math.max(entry.attempts, waiting!.attempts);
      entry.notBeforeMs = Math.max(entry.notBeforeMs, waiting!.notBeforeMs);
      entry.record = withoutWaiting(entry.record!);
      return true;
    });
  }

  #jumped(log: PartitionLog, offset: number, lost: number): void {
    const { topic, partition, nextOffset: from } = log;
    const feed = this.#feedOf(topic);
    log.trimmed += lost;
    if (offset >= from) log.jump(offset);
    else if (feed && !log.draining) {
      // These are other events than those that had these offsets: nothing that is known of them is true any more.
      feed.detach(log);
      log.gone = true;
      const anew = this.#logAt({ topic, partition, offset, metadata: "" }, feed);
      anew.trimmed = log.trimmed;
      this.#logs.set(keyOf(log), anew);
      this.#notify();
    }
    const message =
      lost > 0 ? "events were removed before they were settled" : "the position was past the end";
    this.#context.warn(message, { topic, partition, from, to: offset, events: lost });
  }

  #feedOf(topic: string): Feed | undefined {
    for (const feed of this.#feeds) if (feed.reads(topic)) return feed;
    return undefined;
  }

  async #commit(): Promise<void> {
    if (this.#membership === undefined || this.#membership.member.generation < 0) return;
    try {
      await this.#committer?.commit([...this.#logs.values()]);
    } catch (error) {
      if (hasCode(error, "REBALANCE_IN_PROGRESS")) return;
      this.#context.log("committing failed; trying again", { err: error });
    }
  }

  /** Commits, trying again for a time: what is not committed then will be delivered once more. */
  async #commitWithin(logs: readonly PartitionLog[], limitMs: number): Promise<void> {
    const endsAt = performance.now() + limitMs;
    const signal = AbortSignal.timeout(limitMs);
    for (let attempt = 0; this.#committer; attempt += 1) {
      const mine = logs.filter(({ gone }) => !gone);
      if (mine.length === 0 || (this.#membership?.member.generation ?? -1) < 0) return;
      try {
        return await abortable(this.#committer.commit(mine), signal);
      } catch (error) {
        const pauseMs = retryMs(attempt);
        if (performance.now() + pauseMs > endsAt) {
          this.#context.warn(
            "the last position could not be committed; some events will be delivered again",
            { err: error },
          );
          return;
        }
        await pause(pauseMs, this.#closing.signal, { ref: false });
        if (this.#closing.signal.aborted) return;
      }
    }
  }

  #wake(): void {
    for (const feed of this.#feeds) feed.wake();
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

/** The partition that has this key. */
function partitionOf(key: string): TopicPartition {
  const slash = key.indexOf("/");
  return { topic: key.slice(slash + 1), partition: Number(key.slice(0, slash)) };
}

function keyOf({ topic, partition }: TopicPartition): string {
  return `${partition}/${topic}`;
}
