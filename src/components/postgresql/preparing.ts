/** Making tables and functions: one sidecar at a time, and only where something is missing. */
import type { PoolClient } from "pg";
import type { Call } from "../../blocks/call.ts";
import type { Database } from "./database.ts";
import { PostgresError } from "./errors.ts";
import { quoted, type TableName } from "./names.ts";

/** Runs statements in a transaction that one sidecar at a time has, over the whole database. Throws PostgresError. */
export function alone<T>(
  database: Database,
  body: (client: PoolClient) => Promise<T>,
  call: Call,
): Promise<T> {
  return database.transaction(async (client) => {
    await client.query("SELECT pg_advisory_xact_lock(hashtext('outrider'), 0)");
    await client.query("SET LOCAL client_min_messages = warning");
    return body(client);
  }, call);
}

/** The schema that a table is in, or will be made in; it is made if need be. Only within `alone`. */
export async function schemaOf(client: PoolClient, { schema, table }: TableName): Promise<string> {
  if (schema !== undefined) {
    // Asked first: making one takes rights, even where it is there.
    const name = quoted(schema);
    const { rows } = await client.query<{ there: boolean }>(
      "SELECT to_regnamespace($1) IS NOT NULL AS there",
      [name],
    );
    if (!rows[0]!.there) await client.query(`CREATE SCHEMA ${name}`);
    return schema.toLowerCase();
  }
  const { rows } = await client.query<{ schema: string | null }>(
    `SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE c.oid = to_regclass($1)), current_schema())::text AS schema`,
    [quoted(table)],
  );
  const found = rows[0]?.schema;
  if (!found) throw new PostgresError("refused", "the user's search_path names no schema that exists");
  return found;
}

/** Whether all of these tables are there. */
export async function exist(client: PoolClient, ...tables: readonly string[]): Promise<boolean> {
  const { rows } = await client.query<{ there: boolean }>(
    "SELECT bool_and(to_regclass(name) IS NOT NULL) AS there FROM unnest($1::text[]) AS name",
    [tables],
  );
  return rows[0]!.there;
}
