/** Delayed events: they lie beside their topic until somebody lets them enter, and every sidecar does. */
import type { Call } from "../../blocks/call.ts";
import { timerMs } from "../../timer.ts";
import type { Link, Reply } from "./link.ts";
import { limitOf, type StreamSettings } from "./settings.ts";
import { delayedTopics, TopicKeys } from "./stream-keys.ts";
import { moveScript } from "./stream-scripts.ts";

/** How often it is looked for topics whose publisher is gone, in milliseconds. */
const lookMs = 1000;

/** See the head of this file. */
export class DelayedEvents {
  readonly #link: Link;
  readonly #limit: readonly [string, string];
  readonly #dueMs = new Map<string, number>();
  readonly #looking: NodeJS.Timeout;
  #timer: NodeJS.Timeout | undefined;
  #busy = false;
  #closed = false;

  constructor(link: Link, settings: StreamSettings) {
    this.#link = link;
    this.#limit = limitOf(settings);
    this.#looking = setInterval(() => void this.#look(), lookMs);
    this.#looking.unref();
  }

  /** Has every sidecar know that a topic has an event that is due at a time. */
  async announce(topic: string, dueMs: number, call: Call): Promise<void> {
    await this.#link.send(["ZADD", delayedTopics, "LT", Math.ceil(dueMs), topic], call, { repeat: true });
  }

  /** Lets the event enter when its time comes. */
  schedule(topic: string, dueMs: number): void {
    const known = this.#dueMs.get(topic);
    if (known === undefined || dueMs < known) this.#dueMs.set(topic, dueMs);
    this.#arm();
    // Another sidecar may have taken the topic off the list just before the event was there.
    this.announce(topic, dueMs, { signal: AbortSignal.timeout(lookMs) }).catch(() => {});
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#looking);
    clearTimeout(this.#timer);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#closed || this.#dueMs.size === 0) return;
    const nearestMs = Math.min(...this.#dueMs.values());
    this.#timer = setTimeout(() => void this.#due(), timerMs(nearestMs - Date.now()));
    this.#timer.unref();
  }

  async #due(): Promise<void> {
    const now = Date.now();
    const topics = [...this.#dueMs].filter(([, dueMs]) => dueMs <= now).map(([topic]) => topic);
    for (const topic of topics) this.#dueMs.delete(topic);
    await Promise.all(topics.map((topic) => this.#move(topic)));
    this.#arm();
  }

  async #look(): Promise<void> {
    if (this.#busy || this.#closed || !this.#link.up) return;
    this.#busy = true;
    try {
      const call = { signal: AbortSignal.timeout(lookMs) };
      const range = ["ZRANGEBYSCORE", delayedTopics, "-inf", Date.now(), "LIMIT", 0, 100] as const;
      const topics = (await this.#link.send([...range], call)) as Reply[];
      for (const topic of topics) await this.#move(String(topic));
    } catch {
      // The next look comes.
    } finally {
      this.#busy = false;
    }
  }

  /** Lets what is due enter, and notes when the next one is. */
  async #move(topic: string): Promise<void> {
    if (this.#closed) return;
    const { delayed, payloads } = new TopicKeys(topic);
    const call = { signal: AbortSignal.timeout(10_000) };
    try {
      const next = Number(
        await this.#link.run(moveScript, [topic, delayed, payloads], [...this.#limit], call, {
          repeat: true,
        }),
      );
      if (this.#closed) return;
      if (next < 0) await this.#link.send(["ZREM", delayedTopics, topic], call);
      else await this.#link.send(["ZADD", delayedTopics, next, topic], call);
    } catch {
      if (!this.#closed) this.#dueMs.set(topic, Date.now() + lookMs);
    }
  }
}
