/** Publishing: what is published while Redis is busy with a topic goes to it in one script, in the order of the calls. */
import { randomBytes } from "node:crypto";
import type { Call } from "../../blocks/call.ts";
import type { Outgoing, Published } from "../../blocks/pubsub/driver.ts";
import type { DelayedEvents } from "./delayed-events.ts";
import { toFields } from "./entry-fields.ts";
import { RedisFailure, toFailure } from "./errors.ts";
import type { Argument, Link, Reply } from "./link.ts";
import { limitOf, type StreamSettings } from "./settings.ts";
import { TopicKeys } from "./stream-keys.ts";
import { publishScript } from "./stream-scripts.ts";
import type { Topics } from "./topics.ts";

/** Of one script, which Redis does nothing beside. */
const maxBatchEvents = 200;
const maxBatchBytes = 1024 * 1024;
/** Events of a topic that may wait for a Redis that is busy or away. */
const maxQueuedEvents = 20_000;
/** How long a publish waits for a Redis that is away, in milliseconds. */
const patienceMs = 10_000;
/** How often it is looked who has waited for too long, in milliseconds. */
const lookMs = 500;
/** Topics whose queues are kept at hand. */
const maxKnownTopics = 10_000;

const never = new AbortController().signal;

type Result = Published | Error;

interface Waiting {
  readonly events: readonly Outgoing[];
  readonly encoded: readonly Argument[][];
  readonly bytes: number;
  readonly sinceMs: number;
  readonly call: Call;
  readonly resolve: (results: readonly Result[]) => void;
  readonly reject: (error: unknown) => void;
}

/** See the head of this file. */
export class Publisher {
  readonly #link: Link;
  readonly #topics: Topics;
  readonly #delayed: DelayedEvents;
  readonly #settings: StreamSettings;
  readonly #queues = new Map<string, Queue>();
  /** No other publisher is called so. */
  readonly #name = randomBytes(9).toString("base64url");
  readonly #looking: NodeJS.Timeout;

  constructor(link: Link, topics: Topics, delayed: DelayedEvents, settings: StreamSettings) {
    this.#link = link;
    this.#topics = topics;
    this.#delayed = delayed;
    this.#settings = settings;
    this.#looking = setInterval(() => {
      for (const queue of this.#queues.values()) queue.expire();
    }, lookMs);
    this.#looking.unref();
  }

  /** See PubSubDriver. */
  publish(topic: string, events: readonly Outgoing[], call: Call): Promise<readonly Result[]> {
    if (events.length === 0) return Promise.resolve([]);
    let queue = this.#queues.get(topic);
    if (!queue) {
      if (this.#queues.size >= maxKnownTopics) this.#forgetIdle();
      queue = new Queue(topic, this.#name, this.#link, this.#topics, this.#delayed, this.#settings);
      this.#queues.set(topic, queue);
    }
    return queue.add(events, call);
  }

  close(): void {
    clearInterval(this.#looking);
  }

  #forgetIdle(): void {
    for (const [topic, queue] of this.#queues) if (queue.idle) this.#queues.delete(topic);
  }
}

/** What is on its way to one topic. One batch at a time: so their order is that of the calls, also when one is sent again. */
class Queue {
  readonly #keys: TopicKeys;
  readonly #memory: string;
  readonly #link: Link;
  readonly #topics: Topics;
  readonly #delayed: DelayedEvents;
  readonly #limit: readonly [string, string];
  #waiting: Waiting[] = [];
  #queued = 0;
  #sending = false;
  #batches = 0;
  /** Whether everybody knows of the topic. */
  #known = false;

  constructor(
    topic: string,
    publisher: string,
    link: Link,
    topics: Topics,
    delayed: DelayedEvents,
    settings: StreamSettings,
  ) {
    this.#keys = new TopicKeys(topic);
    this.#memory = this.#keys.published(publisher);
    this.#link = link;
    this.#topics = topics;
    this.#delayed = delayed;
    this.#limit = limitOf(settings);
  }

  get idle(): boolean {
    return !this.#sending;
  }

  /** Gives up what has waited for too long: what goes before it may wait as long again. */
  expire(): void {
    const oldestMs = performance.now() - patienceMs;
    while (this.#waiting.length > 0 && this.#waiting[0]!.sinceMs < oldestMs) {
      const { events, reject } = this.#waiting.shift()!;
      this.#queued -= events.length;
      reject(new RedisFailure("unavailable", `Redis took nothing for ${patienceMs / 1000} s`));
    }
  }

  add(events: readonly Outgoing[], call: Call): Promise<readonly Result[]> {
    if (call.signal.aborted) return Promise.reject(ended(call));
    if (this.#queued > 0 && this.#queued + events.length > maxQueuedEvents) {
      return Promise.reject(new RedisFailure("unavailable", "too many events wait for Redis"));
    }
    const encoded = events.map((event) => toFields(event));
    let bytes = 0;
    for (const fields of encoded)
      for (const value of fields) bytes += typeof value === "number" ? 8 : value.length;
    const { promise, resolve, reject } = Promise.withResolvers<readonly Result[]>();
    this.#queued += events.length;
    this.#waiting.push({ events, encoded, bytes, sinceMs: performance.now(), call, resolve, reject });
    if (!this.#sending) {
      this.#sending = true;
      // What is published one by one in this turn of the event loop goes together.
      if (events.length > 1) queueMicrotask(() => void this.#send());
      else setImmediate(() => void this.#send());
    }
    const abort = () => reject(ended(call));
    call.signal.addEventListener("abort", abort, { once: true });
    return promise.finally(() => call.signal.removeEventListener("abort", abort));
  }

  async #send(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      if (batch.length === 0) continue;
      try {
        this.#answer(batch, await this.#publish(batch));
      } catch (error) {
        const failure = toFailure(error);
        for (const { reject } of batch) reject(failure);
      }
    }
    this.#sending = false;
  }

  /** What goes next; who has waited for too long, or left, does not. */
  #take(): Waiting[] {
    this.expire();
    const batch: Waiting[] = [];
    let events = 0;
    let bytes = 0;
    while (this.#waiting.length > 0) {
      const next = this.#waiting[0]!;
      const fits = events + next.events.length <= maxBatchEvents && bytes + next.bytes <= maxBatchBytes;
      if (batch.length > 0 && !fits) break;
      this.#waiting.shift();
      this.#queued -= next.events.length;
      if (next.call.signal.aborted) continue;
      batch.push(next);
      events += next.events.length;
      bytes += next.bytes;
    }
    return batch;
  }

  async #publish(batch: readonly Waiting[]): Promise<readonly Reply[]> {
    const call = { signal: never };
    const oldestMs = batch[0]!.sinceMs;
    const withinMs = Math.max(patienceMs - (performance.now() - oldestMs), 0);
    if (!this.#known) {
      await this.#topics.add(this.#keys.topic, call, { withinMs });
      this.#known = true;
    }
    // A queue that was forgotten and made again must not take its first batch for an old one.
    this.#batches += 1;
    const args: Argument[] = [...this.#limit, `${this.#batches}:${Date.now()}`];
    let firstDueMs = Number.POSITIVE_INFINITY;
    for (const { events, encoded } of batch) {
      for (const [index, { deliverAtMs }] of events.entries()) {
        const fields = encoded[index]!;
        if (deliverAtMs === undefined && fields.length === 2) args.push("", fields[1]!);
        else args.push(Math.ceil(deliverAtMs ?? 0), fields.length, ...fields);
        if (deliverAtMs !== undefined && deliverAtMs < firstDueMs) firstDueMs = deliverAtMs;
      }
    }
    const delayed = firstDueMs !== Number.POSITIVE_INFINITY;
    if (delayed) await this.#delayed.announce(this.#keys.topic, firstDueMs, call);
    const { topic, delayed: numbers, payloads } = this.#keys;
    // Its answer may be lost, and then it is sent again: Redis knows the batch by its name.
    const answer = await this.#link.run(publishScript, [topic, numbers, payloads, this.#memory], args, call, {
      repeat: true,
      withinMs,
    });
    if (delayed) this.#delayed.schedule(this.#keys.topic, firstDueMs);
    const [existed, ...ids] = answer as Reply[];
    // Redis has lost everything: the list of topics too.
    if (existed === 0) {
      this.#known = false;
      await this.#topics.add(this.#keys.topic, call).catch(() => {});
      this.#known = true;
    }
    return ids;
  }

  #answer(batch: readonly Waiting[], ids: readonly Reply[]): void {
    let next = 0;
    for (const { events, resolve } of batch) {
      resolve(
        events.map(() => {
          const id = String(ids[next++]);
          return id.startsWith("!") ? toFailure(replyError(id.slice(1))) : { position: id };
        }),
      );
    }
  }
}

function replyError(message: string): Error {
  const error = new Error(message);
  error.name = "ReplyError";
  return error;
}

function ended(call: Call): RedisFailure {
  return new RedisFailure("cancelled", "the call ended before Redis had the events", {
    cause: call.signal.reason,
  });
}
