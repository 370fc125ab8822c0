/** What the applications of a crash test wrote down, and what it proves. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Acknowledged publishes: one file for each life of a publisher, with one line for each event. */
const acknowledgedFile = /^acknowledged-.*\.log$/;
/** Settlements of all subscribers, in the order in which they happened: one file that all append to. */
export const settledFile = "settled.log";

/** Settlements that the story of an event has. */
const maxTold = 20;

/** One event. Sequences of a key grow with each publish, over all lives of its publisher. */
export interface EventName {
  /** The ordering key, or "-" for an event without. */
  readonly key: string;
  readonly sequence: number;
}

/** An event that a subscriber handled, in the line that it wrote before it sent the settlement. */
export interface Settled extends EventName {
  readonly group: string;
  readonly attempt: number;
  /** Who handled it, and when, without spaces: for whoever wants to know how something wrong came to be. */
  readonly note?: string;
}

/** The line of an event that was acknowledged. Its end shows that the writer was not killed within it. */
export function acknowledgedLine({ key, sequence }: EventName): string {
  return `${key} ${sequence} .\n`;
}

/** The line of an event that was settled. A line break before it ends what another left unfinished. */
export function settledLine({ group, key, sequence, attempt, note = "-" }: Settled): string {
  return `\n${group} ${key} ${sequence} ${attempt} ${note} .\n`;
}

/** What the applications wrote down. */
export interface Records {
  readonly acknowledged: readonly EventName[];
  /** In the order of the settlements. */
  readonly settled: readonly Settled[];
}

/** Reads it all; lines whose writer was killed do not count. */
export async function readRecords(directory: string): Promise<Records> {
  const acknowledged: EventName[] = [];
  const settled: Settled[] = [];
  for (const name of await readdir(directory)) {
    if (!acknowledgedFile.test(name)) continue;
    for (const [, key, sequence] of await linesOf(join(directory, name), /^(\S+) (\d+) \.$/))
      acknowledged.push({ key: key!, sequence: Number(sequence) });
  }
  const lines = await linesOf(join(directory, settledFile), /^(\S+) (\S+) (\d+) (\d+) (\S+) \.$/);
  for (const [, group, key, sequence, attempt, note] of lines) {
    const known = note === "-" ? {} : { note: note! };
    settled.push({
      group: group!,
      key: key!,
      sequence: Number(sequence),
      attempt: Number(attempt),
      ...known,
    });
  }
  return { acknowledged, settled };
}

async function linesOf(path: string, form: RegExp): Promise<RegExpExecArray[]> {
  const text = await readFile(path, "utf8");
  return text
    .split("\n")
    .map((line) => form.exec(line))
    .filter((found) => found !== null);
}

/** What is wrong, and what is only told. */
export interface Verdict {
  /** Acknowledged, and never settled by a group: "group key sequence". Must be empty. */
  readonly lost: readonly string[];
  /** Acknowledged events of a key whose first settlements are not in the order of their publishes. Must be empty. */
  readonly disordered: readonly string[];
  /** Settled events that were delivered once more after a later one of their key. Must be empty. */
  readonly overtaken: readonly string[];
  readonly acknowledged: number;
  /** Settlements of an event that the group had settled before. */
  readonly duplicates: number;
  /** Events that were settled and never acknowledged, because somebody was killed between the two. */
  readonly unacknowledged: number;
  readonly highestAttempt: number;
}

/** What became of an event that was overtaken, and of those of its key after it; "" when there are no notes of it. */
function story(settled: readonly Settled[], { group, key, sequence, note }: Settled): string {
  if (note === undefined) return "";
  const own = settled.filter((one) => one.group === group && one.key === key && one.sequence >= sequence);
  const told = own.slice(0, maxTold).map((one) => `${one.sequence}#${one.attempt} ${one.note}`);
  return `: ${told.join(", ")}`;
}

/** Judges. `ordered` are the groups that asked for order. */
export function judge(
  { acknowledged, settled }: Records,
  groups: readonly { readonly name: string; readonly ordered: boolean }[],
): Verdict {
  const nameOf = ({ key, sequence }: EventName) => `${key} ${sequence}`;
  const known = new Set(acknowledged.map(nameOf));
  const lost: string[] = [];
  const disordered: string[] = [];
  const overtaken: string[] = [];
  const unacknowledged = new Set<string>();
  let duplicates = 0;
  let highestAttempt = 0;
  for (const { name: group, ordered } of groups) {
    const highestAttempts = new Map<string, number>();
    const latest = new Map<string, number>();
    for (const each of settled) {
      if (each.group !== group) continue;
      const { key, sequence, attempt } = each;
      const name = nameOf(each);
      const before = highestAttempts.get(name);
      highestAttempts.set(name, Math.max(before ?? 0, attempt));
      highestAttempt = Math.max(highestAttempt, attempt);
      if (before !== undefined) duplicates += 1;
      if (!known.has(name)) unacknowledged.add(name);
      if (!ordered || key === "-") continue;
      const last = latest.get(key) ?? 0;
      if (before === undefined) {
        // One that was never acknowledged may enter its topic late, from a sidecar that had stood still.
        if (!known.has(name)) continue;
        if (sequence < last) disordered.push(`${group} ${name} (attempt ${attempt}) after ${last}`);
        latest.set(key, Math.max(last, sequence));
      } else if (sequence < last && attempt > before && known.has(name)) {
        // Without a new attempt it is an old delivery, which a slow subscriber had in hand since before.
        overtaken.push(`${group} ${name} (attempt ${attempt}) after ${last}${story(settled, each)}`);
      }
    }
    for (const name of known) if (!highestAttempts.has(name)) lost.push(`${group} ${name}`);
  }
  return {
    lost,
    disordered,
    overtaken,
    acknowledged: known.size,
    duplicates,
    unacknowledged: unacknowledged.size,
    highestAttempt,
  };
}
