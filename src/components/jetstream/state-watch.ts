/** Changes of a bucket, as they happen: a consumer of its stream that nobody else knows. */
import { AckPolicy, type ConsumerConfig, DeliverPolicy } from "@nats-io/jetstream";
import { type Msg, nanos, nuid } from "@nats-io/transport-node";
import type { Call } from "../../blocks/call.ts";
import {
  type Change,
  PositionExpired,
  type WatchBatch,
  type WatchSelector,
} from "../../blocks/state/driver.ts";
import { WakeUp } from "../../wake-up.ts";
import { type Bucket, rememberDeletionsMs } from "./bucket.ts";
import { until } from "./connection.ts";
import { apiCode, apiCodes } from "./errors.ts";
import { positionOf } from "./events.ts";
import { Pull } from "./pull.ts";
import { itemOf } from "./state-entry.ts";
import { bucketKeyOf, filterOf, keyOf } from "./state-keys.ts";

/** Changes asked for at a time: what a reader who does not read makes us hold. */
const batch = 128;
/** How long the server keeps the consumer of somebody who has vanished. */
const forgetAfterMs = 30_000;
/** How often the end of a snapshot is asked for that does not show by itself. */
const snapshotCheckMs = 500;

/** One watch of a bucket; read once. */
export class Watch {
  readonly #bucket: Bucket;
  readonly #selector: WatchSelector;
  readonly #call: Call;
  readonly #consumer = `outrider_watch_${nuid.next()}`;
  #pull: Pull | undefined;
  #arrived: Msg[] = [];
  readonly #wake = new WakeUp();
  #lost = true;
  /** Everything up to this sequence has been told. */
  #told = 0;

  constructor(bucket: Bucket, selector: WatchSelector, call: Call) {
    this.#bucket = bucket;
    this.#selector = selector;
    this.#call = call;
  }

  /** See StateDriver.watch. */
  async *batches(): AsyncIterable<WatchBatch> {
    const { signal } = this.#call;
    if (signal.aborted) return;
    const following = this.#bucket.connection.onChange(() => {
      this.#drop();
      this.#wake.ring();
    });
    try {
      if (this.#selector.resumeAfter === undefined) yield* this.#snapshot();
      else await this.#resume(this.#selector.resumeAfter);
      while (!signal.aborted) {
        const changes = await this.#next();
        if (changes.length > 0) yield { changes, position: position(this.#told), snapshotComplete: false };
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      following();
      await this.#end();
    }
  }

  async *#snapshot(): AsyncIterable<WatchBatch> {
    const { manager } = this.#bucket.connection;
    const { state } = await until(manager.streams.info(this.#bucket.stream), this.#call.signal);
    const upTo = state.last_seq;
    await this.#begin({ deliver_policy: DeliverPolicy.LastPerSubject });
    for (;;) {
      const messages = await this.#messages(snapshotCheckMs);
      if (this.#call.signal.aborted) return;
      const before = messages.filter((message) => sequenceOf(message) <= upTo);
      const after = messages.slice(before.length);
      const left = messages.length > 0 ? pendingOf(messages.at(-1)!) : await this.#left();
      const complete = after.length > 0 || left === 0;
      // What is not there is no part of a snapshot.
      const changes = this.#changesOf(before).filter(({ item }) => item !== undefined);
      if (complete) {
        this.#told = Math.max(this.#told, upTo);
        yield { changes, position: position(this.#told), snapshotComplete: true };
        const later = this.#changesOf(after);
        if (later.length > 0)
          yield { changes: later, position: position(this.#told), snapshotComplete: false };
        return;
      }
      if (changes.length > 0) yield { changes, position: undefined, snapshotComplete: false };
    }
  }

  async #resume(after: string): Promise<void> {
    const match = /^(\d{1,16})-(\d{1,16})$/.exec(after);
    if (!match) throw new PositionExpired("the position is not one of this store");
    const [sequence, timeMs] = [Number(match[1]), Number(match[2])];
    const { manager } = this.#bucket.connection;
    const { state } = await until(manager.streams.info(this.#bucket.stream), this.#call.signal);
    const forgotten = this.#bucket.timeToLive && Date.now() - timeMs > rememberDeletionsMs - 60_000;
    if (forgotten || sequence > state.last_seq)
      throw new PositionExpired("the bucket does not know any more what was deleted since then");
    this.#told = sequence;
    await this.#begin({ deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: sequence + 1 });
  }

  /** Waits for changes; none when the signal aborts, or when what came was of other keys. */
  async #next(): Promise<readonly Change[]> {
    if (this.#lost) {
      if (!this.#bucket.connection.connected) {
        await this.#wake.wait(this.#call.signal);
        return [];
      }
      await this.#begin({ deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: this.#told + 1 });
    }
    return this.#changesOf(await this.#messages());
  }

  #changesOf(messages: readonly Msg[]): Change[] {
    const changes: Change[] = [];
    for (const message of messages) {
      const found = positionOf(message.reply);
      if (!found) continue;
      this.#told = found.sequence;
      const key = keyOf(this.#bucket.key(message.subject));
      const { kind } = this.#selector;
      if (kind === "key" ? key !== this.#selector.key : !key.startsWith(this.#selector.prefix)) continue;
      const { headers, data } = message;
      const entry = { revision: found.sequence, storedAtMs: found.storedAtMs, headers, value: data };
      changes.push({ key, item: itemOf(key, entry) });
    }
    return changes;
  }

  /** Waits for messages; none after `withinMs`, when the signal aborts, and when the consumer is lost. */
  async #messages(withinMs?: number): Promise<readonly Msg[]> {
    if (this.#arrived.length === 0 && this.#pull && this.#pull.outstanding < batch / 2)
      this.#pull.request(batch - this.#pull.outstanding);
    if (this.#arrived.length === 0) await this.#wake.wait(this.#call.signal, withinMs);
    return this.#arrived.splice(0);
  }

  async #begin(from: Partial<ConsumerConfig>): Promise<void> {
    const { connection, stream } = this.#bucket;
    const selector = this.#selector;
    const filter = selector.kind === "key" ? bucketKeyOf(selector.key) : filterOf(selector.prefix);
    const config: Partial<ConsumerConfig> = {
      ...from,
      name: this.#consumer,
      ack_policy: AckPolicy.None,
      filter_subject: this.#bucket.subject(filter),
      inactive_threshold: nanos(forgetAfterMs),
      mem_storage: true,
      num_replicas: 1,
    };
    await this.#remove();
    await until(connection.manager.consumers.add(stream, config), this.#call.signal);
    const pull: Pull = new Pull(connection, stream, this.#consumer, {
      onMessage: (message) => {
        if (this.#pull !== pull) return;
        this.#arrived.push(message);
        this.#wake.ring();
      },
      onExpired: () => this.#wake.ring(),
      onLost: () => {
        if (this.#pull === pull) this.#drop();
        this.#wake.ring();
      },
    });
    this.#pull = pull;
    this.#lost = false;
  }

  /** How much of a snapshot the server has still to send. */
  async #left(): Promise<number> {
    const { manager } = this.#bucket.connection;
    const info = await until(manager.consumers.info(this.#bucket.stream, this.#consumer), this.#call.signal);
    return this.#arrived.length > 0 ? 1 : info.num_pending;
  }

  #drop(): void {
    const pull = this.#pull;
    this.#pull = undefined;
    this.#lost = true;
    void pull?.stop();
  }

  async #remove(): Promise<void> {
    try {
      await this.#bucket.connection.manager.consumers.delete(this.#bucket.stream, this.#consumer);
    } catch (error) {
      if (apiCode(error) !== apiCodes.consumerNotFound) throw error;
    }
  }

  async #end(): Promise<void> {
    this.#drop();
    const { connected, closed } = this.#bucket.connection;
    if (connected && !closed) await this.#remove().catch(() => undefined);
  }
}

function sequenceOf(message: Msg): number {
  return positionOf(message.reply)?.sequence ?? 0;
}

function pendingOf(message: Msg): number {
  return positionOf(message.reply)?.pending ?? 0;
}

/** Where a watch can go on, and when it was there: deletions are forgotten some day. */
function position(told: number): string {
  return `${told}-${Date.now()}`;
}
