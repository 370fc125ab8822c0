/** The fields of `spec.metadata` of this store's components: Dapr's, and those of our own log. */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { byteSize, durationMs, flag, text } from "../../config/fields.ts";

const dayMs = 24 * 60 * 60 * 1000;

/** How long a transaction waits for those of other processes, when `busyTimeout` does not say. */
const defaultLockLimitMs = 10_000;

/** How long a call may take, when `timeout` does not say. */
const defaultTimeoutMs = 20_000;

/** The file that stores without a `connectionString` are in, within the data directory. */
const defaultFile = "outrider.db";

/** A file: a path, or a `file:` URI. */
function databaseFile() {
  return text().transform((value, context) => {
    const issue = fileIssue(value);
    if (issue === undefined) return value;
    context.addIssue({ code: "custom", message: issue });
    return z.NEVER;
  });
}

function fileIssue(value: string): string | undefined {
  if (value.trim() === "") return "expected a path";
  const query = new URLSearchParams(value.startsWith("file:") ? value.split("?")[1] : "");
  if (/^(file:)?:memory:/.test(value) || query.get("mode") === "memory") {
    return "expected a file; what is to be kept in memory only has components of its own (in-memory)";
  }
  if (query.get("mode") === "ro" || query.get("immutable") === "1")
    return "expected a file that can be written to";
  return undefined;
}

function positiveDurationMs(unitMs: number) {
  return durationMs(unitMs).refine((value) => value > 0, {
    message: "expected a duration of more than zero",
  });
}

function identifier() {
  return text().refine((value) => /^[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(value), {
    message: "expected up to 63 letters, digits and underscores, the first of them no digit",
  });
}

const fileFields = {
  connectionString: databaseFile().optional(),
  url: databaseFile().optional(),
  timeout: positiveDurationMs(1000).optional(),
  timeoutInSeconds: positiveDurationMs(1000).optional(),
  busyTimeout: positiveDurationMs(1).optional(),
  disableWAL: flag()
    .refine((value) => !value, {
      message: 'expected "false": the write-ahead log is what makes it durable and shared',
    })
    .optional(),
};

/** The fields of state.sqlite. */
export const stateSchema = z.strictObject({
  ...fileFields,
  /** Names the store within the file. */
  tableName: identifier().optional(),
  /** Taken, and without effect: the file itself knows its version. */
  metadataTableName: identifier().optional(),
  /** How often expired items that nobody watches are removed. Zero or less: never. */
  cleanupInterval: durationMs(1000).optional(),
  cleanupIntervalInSeconds: durationMs(1000).optional(),
});

/** The fields of pubsub.sqlite. */
export const pubSubSchema = z.strictObject({
  ...fileFields,
  /** Events older than this are removed, settled or not. */
  retentionAge: positiveDurationMs(1000).optional(),
  /** The oldest events of a topic are removed when its events take more, settled or not. */
  retentionBytes: byteSize()
    .refine((value) => value > 0, { message: "expected more than zero" })
    .optional(),
});

export type StateFields = z.infer<typeof stateSchema>;
export type PubSubFields = z.infer<typeof pubSubSchema>;

/** Where the database is, and how long to wait for it. */
export interface FileSettings {
  /** An absolute path. */
  readonly path: string;
  readonly lockLimitMs: number;
  readonly timeoutMs: number;
}

/** What all components of this store have in common. Relative paths are relative to the working directory, as in Dapr. */
export function fileSettings(fields: StateFields | PubSubFields, dataDirectory: string): FileSettings {
  const given = fields.connectionString ?? fields.url;
  return {
    path: given === undefined ? join(dataDirectory, defaultFile) : pathOf(given),
    lockLimitMs: fields.busyTimeout ?? defaultLockLimitMs,
    timeoutMs: fields.timeout ?? fields.timeoutInSeconds ?? defaultTimeoutMs,
  };
}

/** The name of the store within the file, and how often it is cleaned up. */
export function stateSettings(fields: StateFields): { table: string; cleanupIntervalMs: number } {
  const cleanupMs = fields.cleanupInterval ?? fields.cleanupIntervalInSeconds ?? dayMs / 24;
  return {
    table: fields.tableName ?? "state",
    cleanupIntervalMs: cleanupMs > 0 ? cleanupMs : Number.POSITIVE_INFINITY,
  };
}

/** What the log keeps. */
export function retentionSettings(fields: PubSubFields): { ageMs: number; bytes: number } {
  return { ageMs: fields.retentionAge ?? 7 * dayMs, bytes: fields.retentionBytes ?? 1024 ** 3 };
}

function pathOf(value: string): string {
  if (/^file:\/\//.test(value)) return fileURLToPath(value.split("?")[0]!);
  if (value.startsWith("file:"))
    return resolve(decodeURIComponent(value.slice("file:".length).split("?")[0]!));
  return resolve(value);
}
