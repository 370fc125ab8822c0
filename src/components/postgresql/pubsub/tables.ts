/** The names of a log's tables and functions. */
import { createHash } from "node:crypto";
import { derived, quoted, type TableName } from "../names.ts";

const tables = [
  "topics",
  "events",
  "scheduled",
  "groups",
  "cursors",
  "members",
  "sidecars",
  "deliveries",
  "version",
] as const;
const functions = [
  "publish",
  "enter_due",
  "find_topics",
  "before_time",
  "join",
  "claim",
  "settle",
  "free_lanes",
  "leave",
  "return_lost",
  "beat",
  "reap",
  "look",
  "lag",
  "trim",
] as const;

/** Each qualified and quoted. */
export type Tables = Readonly<Record<(typeof tables)[number] | (typeof functions)[number], string>> & {
  readonly schema: string;
  /** Every table. */
  readonly all: readonly string[];
  /** What notifications go to. */
  readonly channel: string;
  /** The first of the two numbers of every advisory lock. */
  readonly lockClass: number;
  /** The bare name of a table, to build names of indexes on. */
  index(table: (typeof tables)[number], what: string): string;
};

/** Names what belongs to a prefix. */
export function tablesOf(schema: string, { table: prefix }: TableName): Tables {
  const name = (each: string) => `${quoted(schema)}.${quoted(`${prefix}${each}`)}`;
  const names = Object.fromEntries([...tables, ...functions].map((each) => [each, name(each)]));
  return {
    ...(names as Record<(typeof tables)[number] | (typeof functions)[number], string>),
    schema: quoted(schema),
    all: tables.map(name),
    channel: derived(`${schema}_${prefix}`.toLowerCase(), "log"),
    lockClass: createHash("sha256").update(`${schema}.${prefix}`.toLowerCase()).digest().readInt32BE(0),
    index: (table, what) => quoted(derived(`${prefix}${table}`, what)),
  };
}

/** The second number of locks that are not a sidecar's, whose numbers are 1 and more. */
export const locks = { trim: -1, enterDue: -2 } as const;
