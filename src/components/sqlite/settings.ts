/** What the fields of this store's components mean, and what goes where they say nothing. */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { PubSubFields, StateFields } from "./fields.ts";

const dayMs = 24 * 60 * 60 * 1000;

/** How long a transaction waits for those of other processes, when `busyTimeout` does not say. */
const defaultLockLimitMs = 10_000;

/** How long a call may take, when `timeout` does not say. */
const defaultTimeoutMs = 20_000;

/** The file that stores without a `connectionString` are in, within the data directory. */
const defaultFile = "outrider.db";

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
