/** The fields of `spec.metadata` of this store's components: Dapr's, and those of our own log. */
import * as z from "zod";
import { byteSize, durationMs, flag, text } from "../../config/fields.ts";

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

/** What the schema makes of the metadata of state.sqlite. */
export type StateFields = z.infer<typeof stateSchema>;
/** The same of pubsub.sqlite. */
export type PubSubFields = z.infer<typeof pubSubSchema>;
