/** Whether what an outbox published is what its store committed. */
import type { EventName, Records } from "./verdict.ts";

const itemPrefix = "tx-";
/** What no transaction that commits has among its writes. */
export const doomedPrefix = "doomed-";
/** It is there, and a transaction that wants it absent is refused. */
export const blockerKey = "blocker";

/** The key under which an event's write is stored. */
export function itemKey({ sequence }: EventName): string {
  return `${itemPrefix}${sequence}`;
}

/** What has the store: an Application, or what stands for one. */
export interface Store {
  readonly state: {
    list(
      request: { prefix: string; pageSize: number; pageToken: string; keysOnly: boolean },
      options: { timeoutMs: number },
    ): Promise<{ readonly items: readonly { readonly key: string }[]; readonly nextPageToken: string }>;
  };
}

/** What came of it. */
export interface OutboxVerdict {
  /** Writes that the store has. */
  readonly committed: number;
  /** Delivered though no transaction committed them, or stored though theirs was refused. Must be empty. */
  readonly phantoms: readonly string[];
  /** Committed and never delivered to a group: "group sequence". Must be empty. */
  readonly unpublished: readonly string[];
}

/** Judges by what the store has in the end. */
export async function judgeOutbox(
  app: Store,
  { settled }: Records,
  groups: readonly { readonly name: string }[],
): Promise<OutboxVerdict> {
  const stored = new Set(await sequencesUnder(app, itemPrefix));
  const phantoms = (await sequencesUnder(app, doomedPrefix)).map(
    (sequence) => `doomed ${sequence} is stored`,
  );
  const unpublished: string[] = [];
  for (const { name: group } of groups) {
    const mine = settled.filter((each) => each.group === group && isOfOutbox(each));
    const delivered = new Set(mine.map(({ sequence }) => sequence));
    for (const { key, sequence } of mine)
      if (key === "doomed" || !stored.has(sequence)) phantoms.push(`${group} ${key} ${sequence}`);
    for (const sequence of stored) if (!delivered.has(sequence)) unpublished.push(`${group} ${sequence}`);
  }
  return { committed: stored.size, phantoms, unpublished };
}

function isOfOutbox({ key, sequence }: EventName): boolean {
  return key === "doomed" || sequence % 10 >= 7;
}

async function sequencesUnder(app: Store, prefix: string): Promise<number[]> {
  const all: number[] = [];
  let pageToken = "";
  do {
    const page = await app.state.list(
      { prefix, pageSize: 1000, pageToken, keysOnly: true },
      { timeoutMs: 20_000 },
    );
    for (const { key } of page.items) all.push(Number(key.slice(prefix.length)));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return all;
}
