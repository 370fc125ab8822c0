/**
 * What the two threads say to each other. Everything of a tick goes in one
 * packet, and all its bytes in one buffer: structured clone costs by the object.
 */
import type { Precondition } from "../../blocks/state/driver.ts";
import type { Failure } from "./errors.ts";

/** An operation: what is asked, and what comes back. Bytes travel beside both, as blobs. */
interface Operation<Ask, Answer> {
  readonly ask: Ask;
  readonly answer: Answer;
}

/** Every operation of the store's thread. */
export interface Operations {
  readonly ping: Operation<undefined, undefined>;
  /** Makes this process known to the others. Answers its id. */
  readonly register: Operation<undefined, number>;
  /** Frees everything that a process held of which it is known that it is dead. */
  readonly release: Operation<{ readonly process: number }, undefined>;

  /** Finds or makes the table of a state store. Answers its id. */
  readonly attachState: Operation<{ readonly table: string; readonly cleanupIntervalMs: number }, number>;
  /** One answer for each key. Blobs: the values of those items that have one; those past `maxBytes` have none. */
  readonly get: Operation<
    { readonly store: number; readonly keys: readonly string[]; readonly maxBytes: number },
    readonly (ItemRow | undefined)[]
  >;
  /** Blobs: the values of sets, in order. Answers etags. */
  readonly write: Operation<
    { readonly store: number; readonly writes: readonly WriteRow[] },
    readonly string[]
  >;
  readonly list: Operation<
    {
      readonly store: number;
      readonly prefix: string;
      readonly after: string | undefined;
      readonly limit: number;
      readonly keysOnly: boolean;
    },
    { readonly items: readonly ItemRow[]; readonly more: boolean }
  >;
  /** Checks a position, or gives the present one. */
  readonly position: Operation<{ readonly store: number; readonly resumeAfter: string | undefined }, string>;
  /** Waits for changes after a position; no changes when it was cancelled. Blobs: as with `get`. */
  readonly changes: Operation<
    { readonly store: number; readonly selector: PlainSelector; readonly after: string },
    { readonly changes: readonly (readonly [string, ItemRow | undefined])[]; readonly position: string }
  >;
  /** Begins a value in chunks. Answers its id. */
  readonly beginBlob: Operation<undefined, number>;
  /** Blobs: one chunk. */
  readonly putChunk: Operation<{ readonly blob: number; readonly index: number }, undefined>;
  readonly finishBlob: Operation<
    { readonly store: number; readonly blob: number; readonly bytes: number; readonly write: WriteRow },
    string
  >;
  readonly dropBlob: Operation<{ readonly blob: number }, undefined>;
  /** One item without its value; `readChunk` reads it. */
  readonly stat: Operation<{ readonly store: number; readonly key: string }, ItemRow | undefined>;
  /** Blobs: the piece, or none after the last. ValueChanged when `etag` is not the item's any more. */
  readonly readChunk: Operation<
    { readonly store: number; readonly key: string; readonly etag: string; readonly index: number },
    undefined
  >;

  /** Retention that this process asks for. */
  readonly attachPubSub: Operation<{ readonly ageMs: number; readonly bytes: number }, undefined>;
  /**
   * `events` has `eventFields` values for each event. Blobs: the events.
   * Answers positions, 0 for an event that enters its topic later.
   */
  readonly publish: Operation<
    { readonly topic: string; readonly events: readonly Plain[] },
    readonly number[]
  >;
  /** Joins a group. Answers the member's id. */
  readonly join: Operation<
    {
      readonly topic: string;
      readonly group: string | undefined;
      readonly start: StartRow;
      readonly ordered: boolean;
    },
    number
  >;
  /** Waits; empty when it was cancelled. `receivedFields` values for each event. Blobs: the events. */
  readonly receive: Operation<{ readonly member: number; readonly max: number }, readonly Plain[]>;
  /** Three values for each settlement: the event's position, a SettleCode, the delay in milliseconds. */
  readonly settle: Operation<{ readonly member: number; readonly settlements: readonly number[] }, undefined>;
  readonly lag: Operation<
    { readonly member: number },
    { readonly events: number; readonly trimmedUnsettled: number }
  >;
  readonly leave: Operation<{ readonly member: number }, undefined>;
}

export type Kind = keyof Operations;
export type Ask<K extends Kind> = Operations[K]["ask"];
export type Answer<K extends Kind> = Operations[K]["answer"];

/** A value in a flat list. */
export type Plain = string | number | undefined;

/** Values for each event of `publish`: key, headers as JSON or undefined, raw as 0 or 1, deliverAtMs, timeToLiveMs. */
export const eventFields = 5;

/** Values for each event of `receive`: position, topic, key, headers, raw, publishedAtMs, expiresAtMs, attempt. */
export const receivedFields = 8;

/** What a settlement says. */
export const settleCodes = { done: 0, again: 1, returned: 2 } as const;

/** Where a group begins, its numbers parsed. */
export type StartRow =
  | { readonly at: "earliest" | "latest" }
  | { readonly at: "time"; readonly timeMs: number }
  | { readonly at: "position"; readonly position: number };

/** What is watched. */
export type PlainSelector =
  | { readonly kind: "key"; readonly key: string }
  | { readonly kind: "prefix"; readonly prefix: string };

/** An item between the threads. */
export interface ItemRow {
  readonly key: string;
  /** Whether the value comes with it, as the next of the blobs. */
  readonly hasValue: boolean;
  readonly bytes: number;
  readonly etag: string;
  readonly contentType: string;
  /** JSON, or undefined for none. */
  readonly metadata: string | undefined;
  readonly expiresAtMs: number | undefined;
}

/** A write between the threads. */
export interface WriteRow {
  readonly key: string;
  readonly set: boolean;
  readonly precondition: Precondition | undefined;
  readonly contentType: string;
  readonly metadata: string | undefined;
  readonly expiresAtMs: number | undefined;
}

/** One call in a packet: its id, what, the question, and how many blobs are its. */
export type CallEntry = readonly [id: number, kind: Kind, ask: unknown, blobs: number];

/** From the main thread. */
export interface CallPacket {
  readonly calls: readonly CallEntry[];
  /** Calls of kind `receive` and `changes` that are not waited for any more. They are answered all the same. */
  readonly cancelled: readonly number[];
  readonly blobs: Blobs;
  /** True: close the file and end. */
  readonly close: boolean;
}

/** One answer: the call's id, a failure if it failed, else the answer, and how many blobs are its. */
export type AnswerEntry = readonly [id: number, failure: Failure | undefined, answer: unknown, blobs: number];

/** From the store's thread. */
export type AnswerPacket =
  | {
      readonly kind: "answers";
      readonly answers: readonly AnswerEntry[];
      readonly blobs: Blobs;
      /** How long commits took that waited for the disk, since the last answers. */
      readonly commitSeconds: readonly number[];
    }
  /** The file is open, or why it is not. The first message. */
  | { readonly kind: "opened"; readonly failure: Failure | undefined }
  | { readonly kind: "closed" };

/** Many byte strings as one. */
export interface Blobs {
  readonly lengths: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Joins byte strings. With `owned`, a single one that has its buffer for itself
 * is taken as it is, and is gone for the caller when the packet is sent.
 */
export function packBlobs(parts: readonly Uint8Array[], owned = false): Blobs {
  const [only] = parts;
  if (owned && only && parts.length === 1 && hasOwnBuffer(only))
    return { lengths: [only.length], bytes: only };
  let total = 0;
  const lengths: number[] = [];
  for (const part of parts) {
    lengths.push(part.length);
    total += part.length;
  }
  const bytes = new Uint8Array(total);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return { lengths, bytes };
}

/** Whether a byte string has its buffer for itself. */
export function hasOwnBuffer(bytes: Uint8Array): bytes is Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength;
}

/** Gives the byte strings of `Blobs` again, in order. */
export class BlobReader {
  readonly #blobs: Blobs;
  #index = 0;
  #offset = 0;

  constructor(blobs: Blobs) {
    this.#blobs = blobs;
  }

  /** The next `count`; they share one buffer. */
  take(count: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    for (let i = 0; i < count; i += 1) {
      const length = this.#blobs.lengths[this.#index] ?? 0;
      taken.push(this.#blobs.bytes.subarray(this.#offset, this.#offset + length));
      this.#offset += length;
      this.#index += 1;
    }
    return taken;
  }
}

/** What a worker is started with. */
export interface WorkerSettings {
  /** The database's file, an absolute path. */
  readonly path: string;
  /** The sidecar's instance id, for people who look into the file. */
  readonly instanceId: string;
  /** How long a transaction waits for those of other processes. */
  readonly lockLimitMs: number;
  /** False: changes of other processes are found by polling alone. For tests. */
  readonly watchFiles: boolean;
}
