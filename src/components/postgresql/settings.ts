/** The fields of `spec.metadata` of state.postgresql and pubsub.postgresql. */
import * as z from "zod";
import { byteSize, durationMs } from "../../config/fields.ts";
import { type ConnectionFields, connectionFields, positiveDurationMs } from "./connection-fields.ts";
import { parseConnectionString } from "./connection-string.ts";
import { PostgresError } from "./errors.ts";
import { schemaName, type TableName, tableName, tablePrefix } from "./names.ts";
import type { StoreNames } from "./state/schema.ts";

const hourMs = 60 * 60 * 1000;

/** The fields of state.postgresql: Dapr's, in both versions, and ours. */
export const stateSchema = z
  .strictObject({
    ...connectionFields,
    /** Version v1: the table. */
    tableName: tableName().optional(),
    /** Version v2: what is put before "state", the name of the table. */
    tablePrefix: tablePrefix().optional(),
    metadataTableName: tableName().optional(),
    /** How often expired items that nobody watches are removed. Zero or less: never. */
    cleanupInterval: durationMs(1000).optional(),
    cleanupIntervalInSeconds: durationMs(1000).optional(),
  })
  .superRefine(checkAddress);

/** The fields of pubsub.postgresql. */
export const pubSubSchema = z
  .strictObject({
    ...connectionFields,
    /** The schema of the tables. */
    schema: schemaName().optional(),
    /** What is put before the names of the tables. */
    tablePrefix: tablePrefix().optional(),
    /** Events older than this are removed, settled or not. */
    retentionAge: positiveDurationMs(1000).optional(),
    /** The oldest events of a topic are removed when its events take more, settled or not. */
    retentionBytes: byteSize()
      .refine((value) => value > 0, { message: "expected more than zero" })
      .optional(),
  })
  .superRefine(checkAddress);

/** Something has to say where the server is. */
function checkAddress(fields: ConnectionFields, context: z.RefinementCtx): void {
  const { connectionString, url, host, hostaddr } = fields;
  const given = connectionString ?? url;
  if (host || hostaddr || (given !== undefined && hasHost(given))) return;
  const message =
    given === undefined ? 'expected it, or "host"' : 'expected a host in it, or "host" beside it';
  context.addIssue({ code: "custom", path: ["connectionString"], message });
}

/** True for one that cannot be read, too: that is told of the field itself. */
function hasHost(connectionString: string): boolean {
  try {
    const parameters = parseConnectionString(connectionString);
    return parameters.has("host") || parameters.has("hostaddr");
  } catch {
    return true;
  }
}

export type StateFields = z.infer<typeof stateSchema>;
export type PubSubFields = z.infer<typeof pubSubSchema>;

/** Which tables, and how often they are cleaned. Throws PostgresError when a field is one of the other version. */
export function storeSettings(
  fields: StateFields,
  version: string,
): { names: StoreNames; cleanupIntervalMs: number | undefined } {
  const wrong = version === "v2" ? "tableName" : "tablePrefix";
  if (fields[wrong] !== undefined) {
    const text = `"${wrong}" is a field of version ${version === "v2" ? "v1" : "v2"}, and this is ${version}`;
    throw new PostgresError("refused", text);
  }
  const { schema, table: prefix } = fields.tablePrefix ?? { schema: undefined, table: "" };
  const items: TableName =
    version === "v2"
      ? { schema, table: `${prefix}state` }
      : (fields.tableName ?? { schema: undefined, table: "state" });
  const cleanupMs = fields.cleanupInterval ?? fields.cleanupIntervalInSeconds ?? hourMs;
  return {
    names: {
      version: version === "v2" ? "v2" : "v1",
      items,
      metadata: fields.metadataTableName ?? { schema: undefined, table: "dapr_metadata" },
      tablePrefix: schema === undefined ? prefix : `${schema}.${prefix}`,
    },
    cleanupIntervalMs: cleanupMs > 0 ? cleanupMs : undefined,
  };
}

/** What the log keeps. */
export function retentionSettings(fields: PubSubFields): { ageMs: number; bytes: number } {
  return { ageMs: fields.retentionAge ?? 7 * 24 * hourMs, bytes: fields.retentionBytes ?? 1024 ** 3 };
}
