/** pubsub.sqlite: a log of events in the embedded store. The work is done in its thread. */
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Call } from "../../blocks/call.ts";
import {
  type DriverSubscription,
  type Lag,
  type Outgoing,
  type Published,
  type PubSubDriver,
  type Received,
  type Settlement,
  type StartAt,
  type SubscriptionSpec,
  UnknownPosition,
} from "../../blocks/pubsub/driver.ts";
import { bareEvent } from "../../blocks/pubsub/event-attributes.ts";
import { decodeEvent, decodeEventExactly, encodeEvent } from "../../blocks/pubsub/event-codec.ts";
import type { Database } from "./database.ts";
import type { Lease } from "./databases.ts";
import { classify } from "./errors.ts";
import { type Plain, receivedFields, type StartRow, settleCodes } from "./messages.ts";

/** For what must be done whoever waits for it. */
const unconditional: Call = { signal: new AbortController().signal };

/** A broker in a file. */
export class SqlitePubSub implements PubSubDriver {
  readonly supports = {
    delay: true,
    ordering: true,
    wildcards: true,
    positions: true,
    startAtTime: true,
    lag: true,
    durableAttempts: true,
  };
  readonly classify = classify;
  readonly #lease: Lease<"attachPubSub">;
  readonly #timeoutMs: number;
  readonly #subscriptions = new Set<SqliteSubscription>();

  /** Calls may take `timeoutMs`, after which they are given up. */
  constructor(lease: Lease<"attachPubSub">, timeoutMs: number) {
    this.#lease = lease;
    this.#timeoutMs = timeoutMs;
  }

  async publish(topic: string, events: readonly Outgoing[], call: Call): Promise<readonly Published[]> {
    const fields: Plain[] = [];
    const blobs: Uint8Array[] = [];
    for (const { event, key, headers, raw, deliverAtMs, timeToLiveMs } of events) {
      // In the order of `eventFields`.
      fields.push(key, toJson(headers), raw ? 1 : 0, deliverAtMs, timeToLiveMs);
      blobs.push(raw ? event.data : encodeEvent(event));
    }
    const ask = { topic, events: fields };
    const { database } = await this.#lease.opened();
    const { answer } = await database.ask("publish", ask, call, blobs, this.#timeoutMs);
    return answer.map((position) => ({ position: position === 0 ? "" : String(position) }));
  }

  async open(spec: SubscriptionSpec, call: Call): Promise<DriverSubscription> {
    const { topic, group, ordered, raw } = spec;
    const ask = { topic, group, ordered, start: toStart(spec.start) };
    const { database } = await this.#lease.opened();
    call.signal.throwIfAborted();
    // A member that nobody knows would hold events for ever: its id is waited for.
    const { answer } = await database.ask("join", ask, unconditional, [], this.#timeoutMs);
    const subscription = new SqliteSubscription(database, answer, raw, this.#timeoutMs, () =>
      this.#subscriptions.delete(subscription),
    );
    this.#subscriptions.add(subscription);
    if (call.signal.aborted) {
      await subscription.close();
      throw call.signal.reason;
    }
    return subscription;
  }

  async ping(call: Call): Promise<void> {
    const { database } = await this.#lease.opened();
    await database.ask("ping", undefined, call, [], this.#timeoutMs);
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#subscriptions].map((subscription) => subscription.close()));
    await this.#lease.release();
  }
}

/** What a received event is settled by. */
interface Receipt {
  readonly position: number;
}

class SqliteSubscription implements DriverSubscription {
  readonly #database: Database;
  readonly #member: number;
  readonly #raw: boolean;
  readonly #timeoutMs: number;
  readonly #onClose: () => void;
  /** What this member has and has not settled: a receipt is good once. */
  readonly #held = new Set<unknown>();
  #closed = false;

  constructor(database: Database, member: number, raw: boolean, timeoutMs: number, onClose: () => void) {
    this.#database = database;
    this.#member = member;
    this.#raw = raw;
    this.#timeoutMs = timeoutMs;
    this.#onClose = onClose;
  }

  async receive(max: number, call: Call): Promise<readonly Received[]> {
    if (call.signal.aborted) return [];
    const { answer, blobs } = await this.#database.wait("receive", { member: this.#member, max }, call);
    const events: Event[] = [];
    for (const [index, blob] of blobs.entries()) {
      // In the order of `receivedFields`.
      const raw = this.#raw || answer[index * receivedFields + 4] === 1;
      events.push(raw ? bareEvent(blob) : (decodeEvent(blob) ?? (await decodeEventExactly(blob))));
    }
    return events.map((event, index) => this.#toReceived(answer, index * receivedFields, event));
  }

  async settle(settlements: readonly Settlement[]): Promise<void> {
    const held = settlements.filter(({ receipt }) => this.#held.has(receipt));
    if (held.length === 0) return;
    const codes: number[] = [];
    for (const settlement of held) {
      const { position } = settlement.receipt as Receipt;
      codes.push(
        position,
        settleCodes[settlement.kind],
        settlement.kind === "again" ? settlement.delayMs : 0,
      );
    }
    for (const { receipt } of held) this.#held.delete(receipt);
    const ask = { member: this.#member, settlements: codes };
    try {
      // However long it takes: who gave up and asked again would settle what was received again meanwhile.
      await this.#database.ask("settle", ask, unconditional);
    } catch (error) {
      // It may be tried again.
      if (!this.#closed) for (const { receipt } of held) this.#held.add(receipt);
      throw error;
    }
  }

  async lag(call: Call): Promise<Lag> {
    return (await this.#database.ask("lag", { member: this.#member }, call, [], this.#timeoutMs)).answer;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose();
    this.#held.clear();
    await this.#database.ask("leave", { member: this.#member }, unconditional, [], this.#timeoutMs);
  }

  #toReceived(fields: readonly Plain[], at: number, event: Event): Received {
    // In the order of `receivedFields`.
    const position = fields[at] as number;
    const headers = fields[at + 3] as string | undefined;
    const published = fields[at + 5] as number;
    const receipt: Receipt = { position };
    this.#held.add(receipt);
    return {
      receipt,
      event,
      topic: fields[at + 1] as string,
      key: fields[at + 2] as string,
      position: String(position),
      publishedAtMs: published,
      expiresAtMs: fields[at + 6] as number | undefined,
      attempt: fields[at + 7] as number,
      headers: headers === undefined ? {} : (JSON.parse(headers) as Record<string, string>),
    };
  }
}

function toJson(headers: Readonly<Record<string, string>>): string | undefined {
  for (const _ in headers) return JSON.stringify(headers);
  return undefined;
}

function toStart(start: StartAt): StartRow {
  if (start.at !== "position") return start;
  if (!/^\d{1,15}$/.test(start.position)) {
    throw new UnknownPosition("the position is not one of this store");
  }
  return { at: "position", position: Number(start.position) };
}
