/** Which topics there are, for subscriptions to patterns of them. Redis itself does not tell streams from other keys. */
import type { Call } from "../../blocks/call.ts";
import { type StartAt, UnknownPosition } from "../../blocks/pubsub/driver.ts";
import { matchesPattern } from "../../blocks/pubsub/topics.ts";
import type { Link, Reply, Sending } from "./link.ts";
import { Script } from "./script.ts";
import { topicNames, topicNews, topicPatterns } from "./stream-keys.ts";

/**
 * Adds a topic. Answers the patterns that groups have asked for, each with the id after which they begin. A topic that is
 * known can be joined although Redis has no memory left, and refuses every SADD.
 */
const addScript = new Script(`
  if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then
    redis.call('SADD', KEYS[1], ARGV[1])
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 1000, '*', 'topic', ARGV[1])
  end
  return redis.call('HGETALL', KEYS[3])
`);

/** Adds a pattern. Answers the id after which it begins in topics that come later, whether it is new, and the last news. */
const addPatternScript = new Script(`
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local start = ARGV[2]
  if start == '$' then start = string.format('%.0f', now - 1) .. '-18446744073709551615' end
  local new = redis.call('HSETNX', KEYS[3], ARGV[1], start)
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  return {redis.call('HGET', KEYS[3], ARGV[1]), new, last and last[1] or '0'}
`);

const keys = [topicNames, topicNews, topicPatterns];

/** The topics of a Redis. */
export class Topics {
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  /**
   * Has everybody know of a topic, and makes the groups that want all topics like it. To be called before the
   * first event is published, so that no group misses it.
   */
  async add(topic: string, call: Call, sending: Sending = {}): Promise<void> {
    const repeat = { ...sending, repeat: true };
    const flat = (await this.#link.run(addScript, keys, [topic], call, repeat)) as Reply[];
    const wanted: [string, string][] = [];
    for (let i = 0; i < flat.length; i += 2) {
      const group = String(flat[i]);
      const pattern = patternOf(group);
      if (pattern !== undefined && matchesPattern(pattern, topic)) wanted.push([group, String(flat[i + 1])]);
    }
    await Promise.all(wanted.map(([group, start]) => this.#makeGroup(topic, group, start, call)));
  }

  /** Has every topic to come know of a pattern. */
  async addPattern(
    group: string,
    start: string,
    call: Call,
  ): Promise<{ readonly start: string; readonly isNew: boolean; readonly lastNews: string }> {
    const answer = await this.#link.run(addPatternScript, keys, [group, start], call, { repeat: true });
    const [from, isNew, lastNews] = answer as Reply[];
    return { start: String(from), isNew: isNew === 1, lastNews: String(lastNews) };
  }

  async removePattern(group: string, call: Call): Promise<void> {
    await this.#link.send(["HDEL", topicPatterns, group], call, { repeat: true });
  }

  async matching(pattern: string, call: Call): Promise<readonly string[]> {
    const names = (await this.#link.send(["SMEMBERS", topicNames], call, { repeat: true })) as Reply[];
    return names.map(String).filter((topic) => matchesPattern(pattern, topic));
  }

  async #makeGroup(topic: string, group: string, start: string, call: Call): Promise<void> {
    try {
      await this.#link.send(["XGROUP", "CREATE", topic, group, start, "MKSTREAM"], call, { repeat: true });
    } catch (error) {
      if (!(error instanceof Error && error.message.includes("BUSYGROUP"))) throw error;
    }
  }
}

/** What the group of a pattern is called in each stream: it is another than one of the same name on a single topic. */
export function patternGroup(group: string, pattern: string): string {
  return `${group}\t${pattern}`;
}

function patternOf(group: string): string | undefined {
  const tab = group.indexOf("\t");
  return tab < 0 ? undefined : group.slice(tab + 1);
}

/** The id of a stream after which a group begins. Throws UnknownPosition. */
export function startId(start: StartAt): string {
  switch (start.at) {
    case "earliest":
      return "0";
    case "latest":
      return "$";
    case "time":
      return start.timeMs <= 0 ? "0" : `${Math.ceil(start.timeMs) - 1}-18446744073709551615`;
    case "position":
      if (/^\d{1,15}-\d{1,20}$/.test(start.position)) return start.position;
      throw new UnknownPosition("the position is not one of a Redis stream");
  }
}
