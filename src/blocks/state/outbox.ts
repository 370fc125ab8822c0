/**
 * The transactional outbox of a store: an event for each write of a transaction, if and only if it commits.
 *
 * A transaction leaves a note among its writes. Whoever made it publishes the note's events as soon
 * as the store has answered, in the order of the answers, and then removes the note. What is left in
 * the store is found by recovery.
 *
 * An announcement says before a transaction that there will be one. Nobody reads it: it shows that the broker
 * takes events at that time, where somebody wants transactions to fail when it does not.
 *
 * At least once: who dies between the publish and the removal leaves a note whose events are published again,
 * with the same ids, by which an inbox knows them.
 */
import type { Outgoing } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { fault } from "../../faults.ts";
import { noData } from "../../protobuf/reader.ts";
import { durationFromMs } from "../../protobuf/times.ts";
import type { Gauge } from "../../telemetry/metrics.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";
import type { Call } from "../call.ts";
import type { Connection } from "../connection.ts";
import { bareEvent, bareOutgoing } from "../pubsub/event-attributes.ts";
import { EtagMismatch, maxValueBytes, type StateDriver, type Write } from "./driver.ts";
import { eventsOf, type Note, NoteKeys, type OutboxTarget, writeOf } from "./outbox-note.ts";
import { NotePublisher, type PublishEvents } from "./outbox-publisher.ts";
import { OutboxRecovery } from "./outbox-recovery.ts";
import type { WriteInput } from "./requests.ts";

/** What an outbox is made of. */
export interface OutboxOptions {
  readonly connection: Connection<StateDriver>;
  readonly target: OutboxTarget;
  /** Where transactions are announced; undefined: nowhere. */
  readonly announceTo?: OutboxTarget | undefined;
  readonly appId: string;
  /** Another for every start of a sidecar. */
  readonly instanceId: string;
  /** The largest data of an event, in bytes. */
  readonly maxEventBytes: number;
  readonly publish: PublishEvents;
  readonly telemetry: Telemetry;
}

/** How long a broker keeps an announcement that can forget events by themselves. */
const announcementMs = 60_000;
/** Events published together. */
const maxEvents = 1000;
/** Committed transactions that wait in memory, and their bytes; those beyond are found in the store. */
const maxWaiting = 1000;
const maxWaitingBytes = 32 * 1024 * 1024;

/** See the head of this file. */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #keys: NoteKeys;
  readonly #publisher: NotePublisher;
  readonly #recovery: OutboxRecovery;
  readonly #inHand = new Set<string>();
  readonly #gauge: Gauge;
  /** Committed, in order. */
  #waiting: Note[] = [];
  #waitingBytes = 0;
  #publishing: Promise<void> | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(options: OutboxOptions) {
    const { connection, appId, instanceId, publish, telemetry } = options;
    this.#options = options;
    this.#keys = new NoteKeys(appId, instanceId);
    this.#publisher = new NotePublisher(connection, publish, telemetry);
    const inHand = (key: string) => this.#inHand.has(key);
    this.#recovery = new OutboxRecovery({ ...options, publisher: this.#publisher, inHand });
    this.#gauge = telemetry.metrics
      .gauge(
        "outrider_state_outbox_waiting_transactions",
        "Transactions under way, or whose events are being published.",
        ["component"],
      )
      .with({ component: connection.component });
  }

  /** Begins to publish, and to look for what was left, when `turn` resolves; it never rejects. Returns at once. */
  start(turn: Promise<void> = Promise.resolve()): void {
    this.#turn = turn;
    void turn.then(() => this.#recovery.start());
  }

  /** Where the events go. */
  get target(): OutboxTarget {
    return this.#options.target;
  }

  /** Publishes what is in hand, for as long as the signal lets it; the rest stays in the store. */
  async close(signal: AbortSignal): Promise<void> {
    const { promise: late, resolve: giveUp } = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => giveUp(), { once: true });
    if (!signal.aborted) await Promise.race([this.#publishing, late]);
    await this.#recovery.close();
  }

  /** Announces a transaction, where that is asked for. Throws what says why the broker did not take it. */
  async announce(call: Call): Promise<void> {
    const { announceTo, publish } = this.#options;
    if (announceTo === undefined) return;
    const announcement = bareOutgoing({ ...bareEvent(noData), type: "dev.outrider.outbox.announced" });
    announcement.timeToLive = durationFromMs(announcementMs);
    const [answer] = await publish(announceTo, [announcement], call);
    if (answer instanceof Error) throw answer;
  }

  /**
   * Writes a transaction with its note, and has its events published: the answer does not wait for that.
   * `stored` are the `inputs` as the store takes them; `given` are the events, which are made of the inputs
   * otherwise. Returns their etags. Throws TOO_LARGE for what no event can carry, and what the driver throws.
   */
  async write(
    inputs: readonly WriteInput[],
    stored: readonly Write[],
    driver: StateDriver,
    trace: TraceHeaders,
    call: Call,
    given?: readonly Outgoing[],
  ): Promise<readonly string[]> {
    if (given?.length === 0) return driver.write(stored, call);
    this.#checkSizes(inputs);
    const { appId, instanceId, target } = this.#options;
    const made = this.#keys.next();
    const key = driver.beside?.(made, stored[0]!.key) ?? made;
    const note = { key, target, events: given ?? eventsOf(inputs, appId, trace) };
    this.#inHand.add(key);
    this.#gauge.set(this.#inHand.size);
    let etags: readonly string[];
    try {
      etags = await driver.write([...stored, await writeOf(note, instanceId)], call);
    } catch (error) {
      this.#release([note]);
      // It may have been written all the same, and its answer lost.
      if (!(error instanceof EtagMismatch)) this.#recovery.wake();
      throw error;
    }
    this.#committed(note);
    return etags.slice(0, inputs.length);
  }

  #committed(note: Note): void {
    if (this.#waiting.length >= maxWaiting || this.#waitingBytes >= maxWaitingBytes) {
      this.#release([note]);
      this.#recovery.wake();
      return;
    }
    this.#waiting.push(note);
    this.#waitingBytes += bytesOf(note);
    this.#publishing ??= this.#publishWaiting();
  }

  async #publishWaiting(): Promise<void> {
    await this.#turn;
    while (this.#waiting.length > 0) {
      const notes = this.#take();
      const all = await this.#publisher.settle(notes);
      this.#release(notes);
      if (all) continue;
      // What comes after them waits with them.
      this.#release(this.#waiting);
      this.#waiting = [];
      this.#waitingBytes = 0;
      this.#recovery.wake();
    }
    this.#publishing = undefined;
  }

  /** Notes whose events make one publish. */
  #take(): Note[] {
    let events = 0;
    let count = 0;
    for (const note of this.#waiting) {
      events += note.events.length;
      if (count > 0 && events > maxEvents) break;
      count += 1;
      this.#waitingBytes -= bytesOf(note);
    }
    return this.#waiting.splice(0, count);
  }

  #release(notes: readonly Note[]): void {
    for (const { key } of notes) this.#inHand.delete(key);
    this.#gauge.set(this.#inHand.size);
  }

  #checkSizes(inputs: readonly WriteInput[]): void {
    const { maxEventBytes } = this.#options;
    let bytes = 0;
    for (const input of inputs) {
      if (input.kind === "delete") continue;
      bytes += input.value.byteLength;
      if (input.value.byteLength > maxEventBytes)
        throw tooLarge(`the value of "${input.key}"`, maxEventBytes);
    }
    const most = maxValueBytes - inputs.length * 4096;
    if (bytes > most) throw tooLarge("the values of the transaction together", most);
  }
}

function bytesOf({ events }: Note): number {
  let bytes = 0;
  for (const { event } of events) bytes += event!.data.byteLength;
  return bytes;
}

function tooLarge(what: string, maxBytes: number) {
  return fault("TOO_LARGE", `${what} can have at most ${maxBytes} bytes where there is an outbox`, {
    metadata: { maxEventBytes: String(maxBytes) },
  });
}
