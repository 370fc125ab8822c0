/** Every operation, by its kind. */
import type { Answer, Ask, Kind } from "../messages.ts";
import type { Tables } from "./tables.ts";

/** A call that is not answered yet. */
export interface PendingCall {
  readonly id: number;
  readonly kind: Kind;
  readonly ask: unknown;
  readonly blobs: readonly Uint8Array[];
  readonly bytes: number;
}

/** An answer and what goes with it. */
interface Result<K extends Kind> {
  readonly answer: Answer<K>;
  readonly blobs: readonly Uint8Array[];
}

/** Does one operation, within a transaction. Throws one of our own errors only when it has written nothing. */
type Operation<K extends Kind> = (tables: Tables, ask: Ask<K>, blobs: readonly Uint8Array[]) => Result<K>;

const reads = {
  ping: () => only(undefined),
  get: ({ items }, ask) => items.get(ask),
  list: ({ items }, ask) => items.list(ask),
  stat: ({ items }, ask) => only(items.stat(ask)),
  readChunk: ({ items }, ask) => {
    const chunk = items.chunk(ask);
    return { answer: undefined, blobs: chunk ? [chunk] : [] };
  },
  position: ({ watchers }, ask) => only(watchers.position(ask)),
  lag: ({ receivers, deliveries, groups }, { member }) => {
    const group = receivers.groupOf(member);
    const trimmedUnsettled = groups.progress(group.id)?.trimmed ?? 0;
    return only({ events: deliveries.unsettled(group), trimmedUnsettled });
  },
} satisfies { [K in Kind]?: Operation<K> };

const writes = {
  register: ({ processes }) => only(processes.self()),
  release: ({ processes }, { process }) => {
    processes.release(process);
    return only(undefined);
  },
  attachState: ({ items, processes, cleanupIntervalsMs }, { table, cleanupIntervalMs }) => {
    processes.self();
    const store = items.attach(table);
    cleanupIntervalsMs.set(store, cleanupIntervalMs);
    return only(store);
  },
  write: ({ items }, { store, writes }, blobs) => only(items.write(store, writes, blobs)),
  beginBlob: ({ blobs }) => only(blobs.begin()),
  putChunk: (tables, { blob, index }, [chunk]) => {
    if (chunk) tables.blobs.put(blob, index, chunk);
    return only(undefined);
  },
  finishBlob: ({ items }, ask) => only(items.writeBlob(ask)),
  dropBlob: ({ blobs }, { blob }) => {
    blobs.discard(blob);
    return only(undefined);
  },
  attachPubSub: ({ processes, retention }, limits) => {
    processes.self();
    retention.limit(limits);
    return only(undefined);
  },
  publish: ({ topics }, ask, blobs) => only(topics.publish(ask, blobs)),
  join: (tables, ask) => {
    // What dead members hold is free, and they have no say in the group's order.
    for (const dead of tables.processes.dead()) tables.processes.release(dead);
    const group = tables.groups.make(ask);
    const member = tables.processes.join(group);
    tables.receivers.addMember(member, group);
    return only(member);
  },
  settle: ({ receivers, deliveries, retention }, ask) => {
    const group = receivers.groupOf(ask.member);
    deliveries.settle(group, ask);
    if (group.topicId !== undefined) retention.consider(group.topicId);
    return only(undefined);
  },
  leave: ({ receivers, processes, retention }, { member }) => {
    const group = receivers.groupOf(member);
    receivers.cancelMember(member);
    processes.leave(member, group, false);
    if (group.topicId !== undefined) retention.consider(group.topicId);
    return only(undefined);
  },
} satisfies { [K in Kind]?: Operation<K> };

/** Kinds that are answered only when the disk has what they wrote. */
export const durableKinds: ReadonlySet<Kind> = new Set<Kind>([
  "attachState",
  "write",
  "finishBlob",
  "publish",
  "join",
]);

/** Whether a kind changes nothing. */
export function isRead(kind: Kind): kind is keyof typeof reads {
  return kind in reads;
}

/** Does a call that changes nothing. */
export function read(tables: Tables, call: PendingCall): Result<Kind> {
  return perform(reads[call.kind as keyof typeof reads], tables, call);
}

/** Does a call that changes something. */
export function write(tables: Tables, call: PendingCall): Result<Kind> {
  return perform(writes[call.kind as keyof typeof writes], tables, call);
}

function perform(operation: unknown, tables: Tables, { ask, blobs }: PendingCall): Result<Kind> {
  // Both come from tables with one entry for each kind: an operation gets the question of its own kind.
  return (operation as (tables: Tables, ask: unknown, blobs: readonly Uint8Array[]) => Result<Kind>)(
    tables,
    ask,
    blobs,
  );
}

function only<T>(answer: T): { answer: T; blobs: Uint8Array[] } {
  return { answer, blobs: [] };
}
