import type { Event } from "../../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { type Outgoing, type StartAt, UnknownPosition } from "../../../blocks/pubsub/driver.ts";
import { bareEvent } from "../../../blocks/pubsub/event-attributes.ts";
import type { Feed, Slot } from "./group.ts";
import { Ring } from "./ring.ts";

/** What an event takes in memory beside what is in it: a generous guess, in bytes. */
const eventOverheadBytes = 512;

/** How much a topic keeps. */
export interface Retention {
  /** How long an event stays that no group has still to settle, in milliseconds. */
  readonly ageMs: number;
  /** What a topic may hold, and what may wait for its time, in bytes. */
  readonly bytes: number;
}

/** An event in a topic. */
export class Entry {
  readonly topic: Topic;
  readonly event: Event;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly raw: boolean;
  /** Counts up over all topics of the broker, so that a pattern has one order too. */
  readonly sequence: number;
  readonly position: string;
  readonly publishedAtMs: number;
  readonly expiresAtMs: number | undefined;
  readonly bytes: number;
  /** The place in the topic's log; -1 when it has left it. */
  index = -1;
  /** Groups that have it to settle. */
  pending = 0;
  /** The first of a chain through `Slot.sibling`: one slot for each group that has or had it to settle. */
  slots: Slot | undefined = undefined;

  constructor(topic: Topic, outgoing: Outgoing, sequence: number, publishedAtMs: number) {
    this.topic = topic;
    this.event = outgoing.raw ? dataOnly(outgoing.event) : outgoing.event;
    this.key = outgoing.key;
    this.headers = outgoing.headers;
    this.raw = outgoing.raw;
    this.sequence = sequence;
    this.position = String(sequence);
    this.publishedAtMs = publishedAtMs;
    this.expiresAtMs =
      outgoing.timeToLiveMs === undefined ? undefined : publishedAtMs + outgoing.timeToLiveMs;
    this.bytes = bytesOf(outgoing);
  }
}

/**
 * A decoded event's data is often a view of the whole message that it came in. While its neighbours are there
 * too, that costs nothing; an event that stays behind alone takes its data along, or memory would be bounded on paper only.
 */
export function withOwnData(event: Event): Event {
  if (event.data.buffer.byteLength > 2 * event.data.byteLength) event.data = event.data.slice();
  return event;
}

/** The events of one name, and the groups that read them. */
export class Topic {
  readonly name: string;
  readonly #retention: Retention;
  readonly #log = new Ring<Entry>();
  readonly #feeds: Feed[] = [];
  /** Feeds of groups that stay when nobody is there. */
  #durableFeeds = 0;
  #bytes = 0;

  constructor(name: string, retention: Retention) {
    this.name = name;
    this.#retention = retention;
  }

  /** True: nothing is lost when the topic is forgotten and made again. */
  get forgettable(): boolean {
    return this.#log.length === 0 && this.#feeds.every((feed) => feed.group.isPattern && feed.idle);
  }

  /** Appends an event for all groups; they are told by `published`. */
  append(outgoing: Outgoing, sequence: number, nowMs: number): Entry {
    const entry = new Entry(this, outgoing, sequence, nowMs);
    entry.index = this.#log.push(entry);
    this.#bytes += entry.bytes;
    for (const feed of this.#feeds) feed.add(entry);
    return entry;
  }

  /** Hands out what was appended, then makes room: the newest event always stays. */
  published(): void {
    for (const feed of this.#feeds) feed.group.wake();
    while (this.#bytes > this.#retention.bytes && this.#log.length > 1) this.#trim(this.#log.first()!);
  }

  attach(feed: Feed): void {
    this.#feeds.push(feed);
    if (feed.group.durable) this.#durableFeeds += 1;
  }

  /** Removes a feed and all trace of it. */
  detach(feed: Feed): void {
    this.#feeds.splice(this.#feeds.indexOf(feed), 1);
    if (feed.group.durable) this.#durableFeeds -= 1;
    for (const entry of this.#log.values()) {
      let before: Slot | undefined;
      for (let slot = entry.slots; slot; slot = slot.sibling) {
        if (slot.feed !== feed) {
          before = slot;
          continue;
        }
        if (before) before.sibling = slot.sibling;
        else entry.slots = slot.sibling;
        if (slot.unsettled) this.settled(entry);
      }
    }
  }

  /** One group has settled an event for good. When all have, it goes. */
  settled(entry: Entry): void {
    entry.pending -= 1;
    if (entry.pending === 0 && entry.index >= 0 && this.#durableFeeds > 0) this.#remove(entry);
  }

  /** Drops events that are older than the age and that no group has to settle. */
  sweep(nowMs: number): void {
    for (let first = this.#log.first(); first; first = this.#log.first()) {
      if (first.pending > 0 || nowMs - first.publishedAtMs < this.#retention.ageMs) return;
      this.#remove(first);
    }
  }

  /** What a new group begins with, in order. */
  from(start: StartAt): Entry[] {
    switch (start.at) {
      case "earliest":
        return this.#log.values();
      case "latest":
        return [];
      case "time":
        return this.#log.values().filter((entry) => entry.publishedAtMs >= start.timeMs);
      case "position": {
        const sequence = parsePosition(start.position);
        return this.#log.values().filter((entry) => entry.sequence > sequence);
      }
    }
  }

  /** Everything that is kept, in order. */
  entries(): Entry[] {
    return this.#log.values();
  }

  /** Removes an event that groups may still have to settle. What is out with a member can still be done. */
  #trim(entry: Entry): void {
    this.#remove(entry);
    for (let slot = entry.slots; slot; slot = slot.sibling) slot.feed.group.trimmed(slot);
  }

  #remove(entry: Entry): void {
    this.#log.clear(entry.index);
    entry.index = -1;
    this.#bytes -= entry.bytes;
  }
}

/** Throws UnknownPosition when it is none that was ever given. */
export function parsePosition(position: string): number {
  if (!/^\d{1,15}$/.test(position)) {
    throw new UnknownPosition("the position was not given by this component");
  }
  return Number(position);
}

/** What a subscriber without an envelope sees of an event. */
export function dataOnly(event: Event): Event {
  return bareEvent(event.data);
}

/** About what an event takes in memory. */
export function bytesOf({ event, key, headers }: Outgoing): number {
  let characters = key.length + event.id.length + event.source.length + event.type.length;
  characters += event.subject.length + event.dataContentType.length + event.dataSchema.length;
  for (const name in event.extensions) characters += name.length + event.extensions[name]!.length + 16;
  for (const name in headers) characters += name.length + headers[name]!.length + 16;
  return eventOverheadBytes + event.data.byteLength + 2 * characters;
}
