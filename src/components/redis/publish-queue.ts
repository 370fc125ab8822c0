/**
 * What is on its way to one topic: numbered batches, a few of them under way at once, as an idempotent producer of Kafka has them.
 *
 * Redis does a batch only when the one before it is done, and knows the last ones with what was answered. So the order is
 * that of the calls, and nothing is there twice, also when answers are lost, and batches are sent again in whatever order. A batch
 * that came too early is sent once more when nothing before it is under way any more; then Redis takes it whatever it remembers.
 */
import type { Call } from "../../blocks/call.ts";
import type { Outgoing, Published } from "../../blocks/pubsub/driver.ts";
import type { DelayedEvents } from "./delayed-events.ts";
import { toFields } from "./entry-fields.ts";
import { RedisFailure, toFailure } from "./errors.ts";
import type { Argument, Link, Reply } from "./link.ts";
import { limitOf, type StreamSettings } from "./settings.ts";
import { TopicKeys } from "./stream-keys.ts";
import { batchesUnderWay, publishScript } from "./stream-scripts.ts";
import type { Topics } from "./topics.ts";

/** Of one script, which Redis does nothing beside. */
const maxBatchEvents = 200;
const maxBatchBytes = 1024 * 1024;
/** So many are worth a script of their own while others are under way. */
const worthwhileEvents = 32;
/** Events of a topic that may wait for a Redis that is busy or away. */
const maxQueuedEvents = 20_000;
/** How long a publish waits for a Redis that is away, in milliseconds. */
const patienceMs = 10_000;

/** What the script answers when it is not the batch's turn. */
const notYet = 0;

/** A batch is done for many, and goes on when one of them leaves. */
const unconditional: Call = { signal: new AbortController().signal };

export type Result = Published | Error;

/** What was published in one call. */
interface Waiting {
  readonly events: readonly Outgoing[];
  readonly encoded: readonly Argument[][];
  readonly bytes: number;
  readonly sinceMs: number;
  readonly call: Call;
  readonly resolve: (results: readonly Result[]) => void;
  readonly reject: (error: unknown) => void;
}

/** What Redis appends in one go. */
interface Batch {
  readonly number: number;
  readonly calls: readonly Waiting[];
  /** In events. */
  readonly size: number;
  /** To be called when nothing before it is under way any more. */
  onFirst?: () => void;
}

/** What queues of all topics have in common. */
export interface PublishOptions {
  readonly link: Link;
  readonly topics: Topics;
  readonly delayed: DelayedEvents;
  readonly settings: StreamSettings;
}

/** See the head of this file. */
export class PublishQueue {
  readonly #keys: TopicKeys;
  readonly #scriptKeys: readonly string[];
  readonly #link: Link;
  readonly #topics: Topics;
  readonly #delayed: DelayedEvents;
  readonly #limit: readonly [string, string];
  #waiting: Waiting[] = [];
  #queued = 0;
  /** In their order. */
  readonly #underWay: Batch[] = [];
  #eventsUnderWay = 0;
  #number = 0;
  #advancing = false;
  /** Whether a batch is being prepared, which those after it must not overtake. */
  #preparing = false;
  /** Whether everybody knows of the topic. */
  #known = false;

  /** `name` is that of no other queue. */
  constructor(topic: string, name: string, { link, topics, delayed, settings }: PublishOptions) {
    this.#keys = new TopicKeys(topic);
    this.#scriptKeys = [topic, this.#keys.delayed, this.#keys.payloads, this.#keys.published(name)];
    this.#link = link;
    this.#topics = topics;
    this.#delayed = delayed;
    this.#limit = limitOf(settings);
  }

  get idle(): boolean {
    return this.#waiting.length === 0 && this.#underWay.length === 0;
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

  /** See PubSubDriver. */
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
    if (!this.#advancing) {
      this.#advancing = true;
      // What is published one by one in this turn of the event loop goes together.
      if (events.length > 1) queueMicrotask(this.#advance);
      else setImmediate(this.#advance);
    }
    const abort = () => reject(ended(call));
    call.signal.addEventListener("abort", abort, { once: true });
    return promise.finally(() => call.signal.removeEventListener("abort", abort));
  }

  /** Sends what may be sent now. */
  readonly #advance = (): void => {
    this.#advancing = false;
    while (!this.#preparing && this.#hasTurn()) {
      const calls = this.#take();
      if (calls.length > 0) void this.#publish(calls);
    }
  };

  /**
   * Whether the next batch may be sent. Beside others it has to be worth its script, as much as is under way already, say. So
   * those who wait for their acknowledgements fall into groups that take turns, and do not all wait for each other.
   */
  #hasTurn(): boolean {
    if (this.#queued === 0) return false;
    const [first] = this.#underWay;
    if (first === undefined) return true;
    // Redis remembers so many answers, and the first may have to ask for its own once more.
    if (this.#number - first.number + 1 >= batchesUnderWay) return false;
    return this.#queued >= Math.min(this.#eventsUnderWay, worthwhileEvents);
  }

  /** What goes next; who has waited for too long, or left, does not. */
  #take(): readonly Waiting[] {
    this.expire();
    const calls: Waiting[] = [];
    let size = 0;
    let bytes = 0;
    while (this.#waiting.length > 0) {
      const next = this.#waiting[0]!;
      const fits = size + next.events.length <= maxBatchEvents && bytes + next.bytes <= maxBatchBytes;
      if (calls.length > 0 && !fits) break;
      this.#waiting.shift();
      this.#queued -= next.events.length;
      if (next.call.signal.aborted) continue;
      calls.push(next);
      size += next.events.length;
      bytes += next.bytes;
    }
    return calls;
  }

  async #publish(calls: readonly Waiting[]): Promise<void> {
    this.#number += 1;
    const size = calls.reduce((sum, { events }) => sum + events.length, 0);
    const batch: Batch = { number: this.#number, calls, size };
    this.#underWay.push(batch);
    this.#eventsUnderWay += size;
    try {
      answer(calls, await this.#send(batch));
    } catch (error) {
      const failure = toFailure(error);
      for (const { reject } of calls) reject(failure);
    } finally {
      this.#underWay.splice(this.#underWay.indexOf(batch), 1);
      this.#eventsUnderWay -= size;
      this.#underWay[0]?.onFirst?.();
      this.#advance();
    }
  }

  /** Returns what Redis answered for each event. */
  async #send(batch: Batch): Promise<readonly string[]> {
    const { topic } = this.#keys;
    const firstDueMs = firstDueOf(batch);
    const delayed = firstDueMs !== Number.POSITIVE_INFINITY;
    if (!this.#known || delayed) await this.#prepare(batch, firstDueMs);
    const appending = this.#append(batch);
    // What was kept back while it was prepared.
    this.#advance();
    const [existed, ...ids] = await appending;
    if (delayed) this.#delayed.schedule(topic, firstDueMs);
    // Redis has lost everything: the list of topics too.
    if (existed === "0") {
      this.#known = await this.#topics.add(topic, unconditional).then(
        () => true,
        () => false,
      );
    }
    return ids;
  }

  /** Says what has to be known before the events are there. */
  async #prepare(batch: Batch, firstDueMs: number): Promise<void> {
    const { topic } = this.#keys;
    this.#preparing = true;
    try {
      if (!this.#known) await this.#topics.add(topic, unconditional, { withinMs: leftMs(batch) });
      this.#known = true;
      if (firstDueMs !== Number.POSITIVE_INFINITY)
        await this.#delayed.announce(topic, firstDueMs, unconditional);
    } finally {
      this.#preparing = false;
    }
  }

  async #append(batch: Batch): Promise<readonly string[]> {
    const events = eventArguments(batch);
    const run = (mustFollow: boolean): Promise<Reply> => {
      const args = [...this.#limit, batch.number, mustFollow ? 1 : 0, ...events];
      // Its answer may be lost, and then it is sent again: Redis knows the batch by its number.
      const sending = { repeat: true, withinMs: leftMs(batch) };
      return this.#link.run(publishScript, this.#scriptKeys, args, unconditional, sending);
    };
    let reply = await run(this.#underWay[0] !== batch);
    if (reply === notYet) {
      await this.#untilFirst(batch);
      reply = await run(false);
    }
    if (reply === notYet)
      throw new RedisFailure("unavailable", "Redis has taken what was published later already");
    return String(reply).split("\n").slice(1);
  }

  /** Resolves when nothing before a batch is under way any more. */
  async #untilFirst(batch: Batch): Promise<void> {
    if (this.#underWay[0] === batch) return;
    await new Promise<void>((resolve) => {
      batch.onFirst = resolve;
    });
  }
}

/** Tells the calls of a batch what became of their events. */
function answer(calls: readonly Waiting[], ids: readonly string[]): void {
  let next = 0;
  for (const { events, resolve } of calls) {
    resolve(
      events.map(() => {
        const id = ids[next++]!;
        return id.startsWith("!") ? toFailure(replyError(id.slice(1))) : { position: id };
      }),
    );
  }
}

/** How long a batch may still take, in milliseconds. */
function leftMs({ calls }: Batch): number {
  return Math.max(patienceMs - (performance.now() - calls[0]!.sinceMs), 0);
}

/** When the first of its delayed events is due, in milliseconds since 1970; infinity without any. */
function firstDueOf({ calls }: Batch): number {
  let firstMs = Number.POSITIVE_INFINITY;
  for (const { events } of calls) {
    for (const { deliverAtMs } of events)
      if (deliverAtMs !== undefined && deliverAtMs < firstMs) firstMs = deliverAtMs;
  }
  return firstMs;
}

/** As the script takes them. */
function eventArguments({ calls }: Batch): Argument[] {
  const args: Argument[] = [];
  for (const { events, encoded } of calls) {
    for (const [index, { deliverAtMs }] of events.entries()) {
      const fields = encoded[index]!;
      if (deliverAtMs === undefined && fields.length === 2) args.push("", fields[1]!);
      else args.push(Math.ceil(deliverAtMs ?? 0), fields.length, ...fields);
    }
  }
  return args;
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
