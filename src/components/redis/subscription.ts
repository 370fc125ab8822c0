/** A membership of a group: of one topic, or of all that a pattern stands for. */
import type { Call } from "../../blocks/call.ts";
import type { DriverSubscription, Lag, Received, Settlement } from "../../blocks/pubsub/driver.ts";
import { joinTroubles } from "../../blocks/pubsub/troubles.ts";
import { pause } from "../../pause.ts";
import type { Log } from "../../telemetry/log.ts";
import { WakeUp } from "../../wake-up.ts";
import { RedisFailure } from "./errors.ts";
import { type Feed, Receipt } from "./feed.ts";
import type { Link } from "./link.ts";
import { slotOf } from "./slots.ts";
import { topicNews } from "./stream-keys.ts";
import { patternGroup, type Topics } from "./topics.ts";
import { Waiter } from "./waiter.ts";

/** How often a member gives a sign of life, in milliseconds. */
const beatMs = 1000;
/** Every so many beats it is looked for topics that no news told of. */
const beatsPerLook = 30;
/** Every so many beats Redis is asked without news: one that does not come must not stop anything for good. */
const beatsPerTry = 5;
/** How long leaving may take, in milliseconds. */
const leaveWithinMs = 3000;
/** Before Redis is asked again after it failed to answer, in milliseconds. */
const retryMs = 100;

/** What a subscription is made of. */
export interface SubscriptionOptions {
  readonly link: Link;
  readonly topics: Topics;
  readonly log: Log;
  /** A topic, or a pattern of topics. */
  readonly topic: string;
  /** As the application calls it. */
  readonly group: string;
  readonly isPattern: boolean;
  readonly broadcast: boolean;
  /** The id after which a new group begins. */
  readonly start: string;
  /** Makes the feed of a topic, for a group as Redis knows it. */
  readonly feed: (topic: string, group: string) => Feed;
  readonly onClosed: () => void;
}

/** See the head of this file. */
export class RedisSubscription implements DriverSubscription {
  readonly #options: SubscriptionOptions;
  /** As Redis knows it. */
  readonly #group: string;
  readonly #feeds = new Map<string, Feed>();
  /** By slot in a cluster; elsewhere there is one. */
  readonly #waiters = new Map<number, Waiter>();
  readonly #closing = new AbortController();
  readonly #call: Call = { signal: this.#closing.signal };
  #beating: NodeJS.Timeout | undefined;
  #beats = 0;
  #beatRunning = false;
  #closed = false;
  #turn = 0;
  #news = false;
  #lastNews = "0";
  readonly #wake = new WakeUp();
  #taking: Promise<void> | undefined;
  #discovering: Promise<void> | undefined;
  #taken: Received[] = [];

  constructor(options: SubscriptionOptions) {
    this.#options = options;
    this.#group = options.isPattern ? patternGroup(options.group, options.topic) : options.group;
  }

  /** Joins the group. Throws RedisFailure, and then nothing is left open. */
  async open(call: Call): Promise<void> {
    const { topics, topic, isPattern, start } = this.#options;
    try {
      if (isPattern) {
        await this.#openPattern(call);
      } else {
        await topics.add(topic, call);
        await this.#addFeed(topic, start, call);
      }
    } catch (error) {
      await this.close().catch(() => {});
      throw error;
    }
    this.#beating = setInterval(() => void this.#beat(), beatMs);
    this.#beating.unref();
  }

  async receive(max: number, call: Call): Promise<readonly Received[]> {
    const { signal } = call;
    while (!this.#closed && !signal.aborted) {
      if (this.#taken.length > 0) return this.#taken.splice(0, max);
      // What Redis has given is not given up with the call: the next one gets it.
      this.#taking ??= this.#take(max).finally(() => {
        this.#taking = undefined;
      });
      await this.#untilAborted(this.#taking, signal);
      if (this.#closed || signal.aborted) return [];
      if (this.#taken.length === 0) await this.#untilNews(signal);
    }
    return [];
  }

  async settle(settlements: readonly Settlement[], call: Call): Promise<void> {
    const byFeed = new Map<Feed, Settlement[]>();
    for (const settlement of settlements) {
      const { receipt } = settlement;
      if (!(receipt instanceof Receipt) || this.#feeds.get(receipt.feed.topic) !== receipt.feed) continue;
      if (!receipt.feed.holds(receipt)) continue;
      const own = byFeed.get(receipt.feed);
      if (own) own.push(settlement);
      else byFeed.set(receipt.feed, [settlement]);
    }
    await Promise.all([...byFeed].map(([feed, own]) => feed.settle(own, call)));
    for (const feed of byFeed.keys()) if (feed.dirty) this.#wake.ring();
  }

  get trouble(): string {
    return joinTroubles(Array.from(this.#feeds.values(), ({ trouble }) => trouble));
  }

  async lag(call: Call): Promise<Lag> {
    if (this.#options.isPattern) await this.#discover(call);
    const lags = await Promise.all([...this.#feeds.values()].map((feed) => feed.lag(call)));
    return {
      events: lags.reduce((sum, { events }) => sum + events, 0),
      trimmedUnsettled: lags.reduce((sum, { trimmedUnsettled }) => sum + trimmedUnsettled, 0),
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#beating);
    for (const waiter of this.#waiters.values()) waiter.close();
    this.#wake.ring();
    this.#options.onClosed();
    // What Redis is being asked for it gives before it hears that we leave, and then it is given back.
    this.#closing.abort();
    await this.#taking?.catch(() => {});
    this.#taken = [];
    const call = { signal: AbortSignal.timeout(leaveWithinMs) };
    const left = await Promise.allSettled([...this.#feeds.values()].map((feed) => feed.leave(call)));
    const { isPattern, broadcast, topics } = this.#options;
    if (isPattern && broadcast) await topics.removePattern(this.#group, call).catch(() => {});
    const failed = left.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
  }

  /** Fills `#taken`. Redis being away is no error: it is waited for. */
  async #take(max: number): Promise<void> {
    if (this.#news) await this.#lookForTopics();
    const feeds = [...this.#feeds.values()];
    this.#turn += 1;
    const taken: Received[] = [];
    for (let index = 0; index < feeds.length && taken.length < max && !this.#closed; index++) {
      const feed = feeds[(index + this.#turn) % feeds.length]!;
      if (performance.now() >= feed.dueAtMs) feed.dirty = true;
      if (!feed.dirty) continue;
      try {
        taken.push(...(await feed.take(max - taken.length, this.#call)));
      } catch (error) {
        if (this.#closed) break;
        if (taken.length > 0) break;
        if (!(error instanceof RedisFailure) || error.errorClass !== "unavailable") throw error;
        await this.#options.link.whenUp(this.#call.signal, 5000);
        await pause(retryMs, this.#closing.signal);
        break;
      }
    }
    // Of several topics, in the order in which the events entered them.
    if (feeds.length > 1) taken.sort((one, other) => one.publishedAtMs - other.publishedAtMs);
    this.#taken.push(...taken);
  }

  /** Waits until there may be something to take. */
  async #untilNews(signal: AbortSignal): Promise<void> {
    let dueAtMs = Number.POSITIVE_INFINITY;
    for (const feed of this.#feeds.values()) {
      if (feed.dirty) return;
      dueAtMs = Math.min(dueAtMs, feed.dueAtMs);
    }
    if (this.#news) return;
    this.#arm();
    await this.#wake.wait(signal, dueAtMs - performance.now());
  }

  #arm(): void {
    const { link, isPattern } = this.#options;
    const bySlot = new Map<number, Map<string, string>>();
    const add = (key: string, id: string) => {
      const slot = link.cluster ? slotOf(key) : 0;
      const streams = bySlot.get(slot);
      if (streams) streams.set(key, id);
      else bySlot.set(slot, new Map([[key, id]]));
    };
    for (const feed of this.#feeds.values()) {
      if (feed.lastId !== "") add(feed.topic, feed.lastId);
      add(feed.wakeKey, feed.lastWake);
    }
    if (isPattern) add(topicNews, this.#lastNews);
    for (const [slot, streams] of bySlot) {
      let waiter = this.#waiters.get(slot);
      if (!waiter) {
        waiter = new Waiter(link, streams.keys().next().value!, (keys) => this.#heard(keys));
        this.#waiters.set(slot, waiter);
      }
      waiter.arm(streams);
    }
  }

  #heard(keys: readonly string[] | undefined): void {
    if (keys === undefined || keys.includes(topicNews)) this.#news = this.#options.isPattern;
    for (const feed of this.#feeds.values()) {
      if (keys === undefined || keys.includes(feed.topic) || keys.includes(feed.wakeKey)) feed.dirty = true;
    }
    this.#wake.ring();
  }

  async #beat(): Promise<void> {
    if (this.#beatRunning || this.#closed) return;
    this.#beatRunning = true;
    this.#beats += 1;
    try {
      const call = { signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(beatMs * 3)]) };
      if (this.#options.isPattern && this.#beats % beatsPerLook === 0) this.#news = true;
      await Promise.all([...this.#feeds.values()].map((feed) => feed.beat(call)));
      if (this.#beats % beatsPerTry === 0) for (const feed of this.#feeds.values()) feed.dirty = true;
      if (this.#news || [...this.#feeds.values()].some(({ dirty }) => dirty)) this.#wake.ring();
    } catch {
      // Whoever receives meets the same trouble, and says so.
    } finally {
      this.#beatRunning = false;
    }
  }

  async #openPattern(call: Call): Promise<void> {
    const { topics, topic, start } = this.#options;
    const pattern = await topics.addPattern(this.#group, start, call);
    this.#lastNews = pattern.lastNews;
    const names = await topics.matching(topic, call);
    // Topics that come later began when the pattern was first asked for, and not when somebody found them.
    await Promise.all(names.map((name) => this.#addFeed(name, pattern.isNew ? start : pattern.start, call)));
  }

  async #lookForTopics(): Promise<void> {
    try {
      await this.#discover(this.#call);
    } catch (error) {
      this.#news = true;
      if (!(error instanceof RedisFailure) || error.errorClass === "refused") throw error;
      await pause(retryMs, this.#closing.signal);
    }
  }

  /** Joins the group in topics that are new. Throws RedisFailure. */
  #discover(call: Call): Promise<void> {
    this.#discovering ??= this.#addTopics(call).finally(() => {
      this.#discovering = undefined;
    });
    return this.#discovering;
  }

  async #addTopics(call: Call): Promise<void> {
    const { topics, topic, start } = this.#options;
    this.#news = false;
    const pattern = await topics.addPattern(this.#group, start, call);
    const names = await topics.matching(topic, call);
    const unknown = names.filter((name) => !this.#feeds.has(name));
    await Promise.all(unknown.map((name) => this.#addFeed(name, pattern.start, call)));
    this.#lastNews = pattern.lastNews;
    if (unknown.length > 0) this.#wake.ring();
  }

  async #addFeed(topic: string, start: string, call: Call): Promise<void> {
    const feed = this.#options.feed(topic, this.#group);
    await feed.join(start, call);
    this.#feeds.set(topic, feed);
  }

  async #untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const abort = () => resolve();
    signal.addEventListener("abort", abort, { once: true });
    try {
      if (!signal.aborted) await Promise.race([work, promise]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }
}
