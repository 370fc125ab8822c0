/** Publishing: what is published while Redis is busy with a topic goes to it in one script, in the order of the calls. */
import { randomBytes } from "node:crypto";
import type { Call } from "../../blocks/call.ts";
import type { Outgoing } from "../../blocks/pubsub/driver.ts";
import { type PublishOptions, PublishQueue, type Result } from "./publish-queue.ts";

/** How often it is looked who has waited for too long, in milliseconds. */
const lookMs = 500;
/** Topics whose queues are kept at hand. */
const maxKnownTopics = 10_000;

/** See the head of this file. */
export class Publisher {
  readonly #options: PublishOptions;
  readonly #queues = new Map<string, PublishQueue>();
  /** No other publisher is called so. */
  readonly #name = randomBytes(9).toString("base64url");
  #queuesMade = 0;
  readonly #looking: NodeJS.Timeout;

  constructor(options: PublishOptions) {
    this.#options = options;
    this.#looking = setInterval(() => {
      for (const queue of this.#queues.values()) queue.expire();
    }, lookMs);
    this.#looking.unref();
  }

  /** See PubSubDriver. */
  publish(topic: string, events: readonly Outgoing[], call: Call): Promise<readonly Result[]> {
    if (events.length === 0) return Promise.resolve([]);
    return (this.#queues.get(topic) ?? this.#makeQueue(topic)).add(events, call);
  }

  close(): void {
    clearInterval(this.#looking);
  }

  #makeQueue(topic: string): PublishQueue {
    if (this.#queues.size >= maxKnownTopics) this.#forgetIdle();
    this.#queuesMade += 1;
    // A queue that was forgotten and made again counts anew: under the same name its first batch would be taken for an old one.
    const queue = new PublishQueue(topic, `${this.#name}-${this.#queuesMade}`, this.#options);
    this.#queues.set(topic, queue);
    return queue;
  }

  #forgetIdle(): void {
    for (const [topic, queue] of this.#queues) if (queue.idle) this.#queues.delete(topic);
  }
}
