/**
 * What the keys of pubsub.redis are called. The stream has its topic's name, as with Dapr; what is kept beside it
 * begins with `outrider:` and is in the same slot of a cluster.
 */
import { slotTag } from "./slots.ts";

/** The keys that belong to a topic. */
export class TopicKeys {
  readonly topic: string;
  /** Delayed events: their numbers by when they are due, and what is in them. */
  readonly delayed: string;
  readonly payloads: string;
  /** Groups that end with their subscription, by when they are thought to be dead. */
  readonly broadcasts: string;
  readonly #prefix: string;

  constructor(topic: string) {
    const tag = slotTag(topic);
    this.topic = topic;
    this.#prefix = tag === topic ? `outrider:{${tag}}` : `outrider:{${tag}}:${topic.length}:${topic}`;
    this.delayed = `${this.#prefix}:delayed`;
    this.payloads = `${this.#prefix}:delayed-events`;
    this.broadcasts = `${this.#prefix}:broadcasts`;
  }

  /** The keys of a group, in the order that the scripts have them in. */
  group(group: string): readonly string[] {
    const part = (name: string) => `${this.#prefix}:${name}:${group}`;
    return [
      this.topic,
      part("members"),
      part("back"),
      part("again"),
      part("heads"),
      part("meta"),
      part("wake"),
      this.delayed,
      this.payloads,
      this.broadcasts,
    ];
  }

  /** What a publisher has published last. */
  published(publisher: string): string {
    return `${this.#prefix}:published:${publisher}`;
  }

  /** What the keys of lists of waiting events begin with; the ordering key follows. */
  lanes(group: string): string {
    return `${this.#prefix}:lane:${group.length}:${group}:`;
  }

  /** What the key of a part of any group begins with: for groups that others have left behind. */
  get prefix(): string {
    return this.#prefix;
  }
}

/** Where the list of topics is, and what comes new to it, and which patterns groups have asked for. */
export const topicNames = "outrider:{topics}:names";
export const topicNews = "outrider:{topics}:news";
export const topicPatterns = "outrider:{topics}:patterns";

/** Topics with delayed events, by when the next one is due. */
export const delayedTopics = "outrider:delayed-topics";
