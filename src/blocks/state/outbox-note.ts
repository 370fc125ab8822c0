/**
 * The note that a transaction leaves beside its writes: what is to be published because of it.
 * It is an item of the same store, so it is there if and only if the writes are.
 */
import { randomUUID } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Event, Outgoing, PublishStreamRequest } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { noData } from "../../protobuf/reader.ts";
import { timestampNow } from "../../protobuf/times.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";
import { bareEvent, bareOutgoing } from "../pubsub/event-attributes.ts";
import type { Item, Write } from "./driver.ts";
import { notePrefix } from "./keys.ts";
import type { WriteInput } from "./requests.ts";

/** Where the events of a store's transactions go. */
export interface OutboxTarget {
  /** The pub/sub component. */
  readonly component: string;
  readonly topic: string;
  /** True: the topic is the runtime's own, and what scopes allow to the application does not count. */
  readonly ownTopic?: boolean;
}

/** What to publish, and the key of the note that says so. */
export interface Note {
  readonly key: string;
  readonly target: OutboxTarget;
  readonly events: readonly Outgoing[];
}

const contentType = "application/protobuf";
/** The name under which a note says which sidecar wrote it. */
const writerName = "writer";
/** The name under which a note says until when it is somebody's to publish, in milliseconds since 1970. */
const claimName = "claimed-until";

/** What the keys of all notes of an application begin with. */
export function notesPrefix(appId: string): string {
  return `${notePrefix}${appId}||`;
}

/** Makes the keys of notes: in their order, notes are in the order in which they were made. */
export class NoteKeys {
  readonly #prefix: string;
  readonly #writer: string;
  #lastMs = 0;
  #count = 0;

  constructor(appId: string, instanceId: string) {
    this.#prefix = notesPrefix(appId);
    this.#writer = instanceId;
  }

  next(): string {
    const nowMs = Date.now();
    // A clock that goes back does not put new notes before old ones.
    if (nowMs > this.#lastMs) [this.#lastMs, this.#count] = [nowMs, 0];
    const time = String(this.#lastMs).padStart(15, "0");
    return `${this.#prefix}${time}-${String(this.#count++).padStart(6, "0")}-${this.#writer}`;
  }
}

/**
 * The events of a transaction: one for each write, in order. Each has the state's key as its subject
 * and ordering key, and a type that tells a value from a deletion.
 */
export function eventsOf(inputs: readonly WriteInput[], source: string, trace: TraceHeaders): Outgoing[] {
  const id = randomUUID();
  const extensions: Record<string, string> = {};
  for (const name of ["traceparent", "tracestate", "baggage"] as const)
    if (trace[name] !== "") extensions[name] = trace[name];
  return inputs.map((input, index) => {
    const set = input.kind === "set";
    const event: Event = {
      ...bareEvent(set ? input.value : noData),
      id: `outbox-${id}-${index}`,
      source,
      type: set ? "dev.outrider.state.set" : "dev.outrider.state.deleted",
      subject: input.key,
      time: timestampNow(),
      dataContentType: set ? input.contentType : "",
      extensions: { ...extensions },
    };
    return { ...bareOutgoing(event), key: input.key };
  });
}

/** The write that leaves the note. */
export async function writeOf({ key, target, events }: Note, writer: string): Promise<Write> {
  const schema = await noteSchema();
  const { component, topic } = target;
  const request = create(schema, { component, topic, outgoing: [...events] });
  return noteWrite(key, toBinary(schema, request), { [writerName]: writer }, undefined);
}

/** The write that makes a note found in the store somebody's to publish; it fails when another was faster. */
export function claimOf(item: Item, untilMs: number): Write {
  const metadata = { ...item.metadata, [claimName]: String(untilMs) };
  return noteWrite(item.key, item.value!, metadata, { kind: "etag", etag: item.etag });
}

/** A note found in the store; undefined when it cannot be read. */
export async function noteOf({ key, value }: Item): Promise<Note | undefined> {
  const schema = await noteSchema();
  let request: PublishStreamRequest;
  try {
    request = fromBinary(schema, value!);
  } catch {
    return undefined;
  }
  const { component, topic, outgoing } = request;
  return { key, target: { component, topic }, events: outgoing };
}

/** Who wrote a note, when (milliseconds since 1970), and until when it is claimed. */
export function stateOf({ key, metadata }: Item): {
  writer: string;
  writtenAtMs: number;
  claimedUntilMs: number;
} {
  return {
    writer: metadata[writerName] ?? "",
    writtenAtMs: Number(/\|\|(\d{15})-/.exec(key)?.[1] ?? 0),
    claimedUntilMs: Number(metadata[claimName] ?? 0),
  };
}

/** What a note is. Loaded with the first one: hardly a sidecar has an outbox. */
async function noteSchema() {
  return (await import("../../../gen/outrider/pubsub/v1/pubsub_pb.ts")).PublishStreamRequestSchema;
}

function noteWrite(
  key: string,
  value: Uint8Array,
  metadata: Readonly<Record<string, string>>,
  precondition: Write["precondition"],
): Write {
  return { kind: "set", key, value, contentType, metadata, expiresAtMs: undefined, precondition };
}
