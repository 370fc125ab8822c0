/** Makes the tables of a state store, or adds to Dapr's what they lack. */
import type { PoolClient } from "pg";
import type { Call } from "../../../blocks/call.ts";
import type { Database } from "../database.ts";
import { PostgresError } from "../errors.ts";
import { quoted, type TableName } from "../names.ts";
import { alone, exist, schemaOf } from "../preparing.ts";
import { type Layout, type LayoutVersion, layoutOf } from "./layout.ts";
import { writeFunction } from "./write-function.ts";

/** Grows with every change of what is below. */
const ourVersion = 1;

/** What to open. */
export interface StoreNames {
  readonly version: LayoutVersion;
  readonly items: TableName;
  readonly metadata: TableName;
  /** As in Dapr's key for what it has migrated. */
  readonly tablePrefix: string;
}

/** Tables that are there. */
export interface Prepared {
  readonly layout: Layout;
  /** Dapr's table of what was migrated, and cleaned up; qualified and quoted. */
  readonly metadata: string;
}

/**
 * Makes what is missing, under a lock: of several sidecars that start together one does it. Dapr's own
 * lock is taken too. Throws PostgresError.
 */
export function prepareStore(database: Database, names: StoreNames, call: Call): Promise<Prepared> {
  return alone(
    database,
    async (client) => {
      const layout = layoutOf(names.version, names.items, await schemaOf(client, names.items));
      const metadata = `${quoted(await schemaOf(client, names.metadata))}.${quoted(names.metadata.table)}`;
      const prepared = { layout, metadata };
      if (!(await exist(client, metadata)))
        await client.query(`CREATE TABLE ${metadata} (key text NOT NULL PRIMARY KEY, value text NOT NULL)`);
      const key = `outrider-state-${layout.version}-${layout.items}`;
      const { rows } = await client.query<{ value: string }>(`SELECT value FROM ${metadata} WHERE key = $1`, [
        key,
      ]);
      const found = Number(rows[0]?.value ?? 0);
      if (found > ourVersion) {
        const text = `the table ${layout.items} was made by a newer Outrider (version ${found}, this one knows ${ourVersion})`;
        throw new PostgresError("refused", text);
      }
      if (found === ourVersion && (await isComplete(client, layout))) return prepared;
      await client.query(`INSERT INTO ${metadata} VALUES ('lock', 'lock') ON CONFLICT (key) DO NOTHING`);
      await client.query(`SELECT value FROM ${metadata} WHERE key = 'lock' FOR UPDATE`);
      await checkColumns(client, layout);
      await client.query(layout.version === "v2" ? daprV2(layout) : daprV1(layout));
      const [migrations, level] =
        layout.version === "v2" ? [`migrations-state-v2-${names.tablePrefix}`, "1"] : ["migrations", "2"];
      await client.query(
        `INSERT INTO ${metadata} AS m VALUES ($1, $2)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE m.value::int < excluded.value::int`,
        [migrations, level],
      );
      await client.query(own(layout));
      await client.query(writeFunction(layout));
      await client.query(
        `INSERT INTO ${metadata} VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
        [key, String(ourVersion)],
      );
      return prepared;
    },
    call,
  );
}

/** Whether nobody has removed what was made. Another program may have made Dapr's table again, without what is ours. */
async function isComplete(client: PoolClient, layout: Layout): Promise<boolean> {
  const { items, changes, about, chunks, blobs } = layout;
  if (!(await exist(client, items, changes, about, chunks, blobs))) return false;
  const { rows } = await client.query<{ there: boolean }>(
    "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = 'outrider_changed') AS there",
    [items],
  );
  return rows[0]!.there;
}

/** A table of the other version, or of another program, is left alone. */
async function checkColumns(client: PoolClient, { items, version }: Layout): Promise<void> {
  const { rows } = await client.query<{ name: string; type: string }>(
    `SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped`,
    [items],
  );
  if (rows.length === 0) return;
  const value = rows.find(({ name }) => name === "value")?.type;
  if (value === (version === "v2" ? "bytea" : "jsonb") && rows.some(({ name }) => name === "key")) return;
  const other = value === "bytea" ? "v2" : value === "jsonb" ? "v1" : undefined;
  const hint = other ? `: it is one of version ${other}` : "";
  throw new PostgresError("refused", `the table ${items} is not one of state.postgresql ${version}${hint}`);
}

function daprV2({ items, expiryIndex }: Layout): string {
  return `
    CREATE TABLE IF NOT EXISTS ${items} (
      key text NOT NULL PRIMARY KEY, value bytea NOT NULL, etag uuid NOT NULL DEFAULT gen_random_uuid(),
      created_at timestamp with time zone NOT NULL DEFAULT now(), updated_at timestamp with time zone,
      expires_at timestamp with time zone
    );
    CREATE INDEX IF NOT EXISTS ${expiryIndex} ON ${items} (expires_at) WHERE expires_at IS NOT NULL;`;
}

function daprV1({ items, expiryIndex }: Layout): string {
  return `
    CREATE TABLE IF NOT EXISTS ${items} (
      key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, isbinary boolean NOT NULL,
      insertdate timestamp with time zone NOT NULL DEFAULT now(), updatedate timestamp with time zone NULL
    );
    ALTER TABLE ${items} ADD COLUMN IF NOT EXISTS expiredate timestamp with time zone;
    ALTER TABLE ${items} ADD COLUMN IF NOT EXISTS outrider_etag uuid NOT NULL DEFAULT gen_random_uuid();
    CREATE INDEX IF NOT EXISTS ${expiryIndex} ON ${items} (expiredate) WHERE expiredate IS NOT NULL;`;
}

/** What is ours. The triggers see what Dapr writes, too. */
function own(layout: Layout): string {
  const { items, changes, about, chunks, blobs, changed, renewed, keyIndex, etag } = layout;
  const renew = `
    -- Dapr's etag is xmin, which two items of one transaction share, and which comes back: ours is another for every write.
    CREATE OR REPLACE FUNCTION ${renewed}() RETURNS trigger LANGUAGE plpgsql AS $f$
    BEGIN
      IF NEW.outrider_etag = OLD.outrider_etag THEN NEW.outrider_etag := gen_random_uuid(); END IF;
      RETURN NEW;
    END $f$;
    CREATE OR REPLACE TRIGGER outrider_renewed BEFORE UPDATE ON ${items}
      FOR EACH ROW EXECUTE FUNCTION ${renewed}();`;
  const trigger = (sql: string, name: string) =>
    // CREATE OR REPLACE TRIGGER came with version 14.
    sql.replace(
      `CREATE OR REPLACE TRIGGER ${name}`,
      `DROP TRIGGER IF EXISTS ${name} ON ${items}; CREATE TRIGGER ${name}`,
    );
  const watch = `
    ALTER TABLE ${items} ADD COLUMN IF NOT EXISTS outrider json;
    COMMENT ON COLUMN ${items}.outrider IS 'What Outrider keeps beside the value, as long as it names the etag';
    CREATE INDEX IF NOT EXISTS ${keyIndex} ON ${items} (key COLLATE "C");
    CREATE TABLE IF NOT EXISTS ${changes} (
      xid xid8 NOT NULL DEFAULT pg_current_xact_id(), key text COLLATE "C" NOT NULL,
      at timestamp with time zone NOT NULL DEFAULT now()
    );
    CREATE INDEX IF NOT EXISTS ${keyOf(changes)}_xid ON ${changes} (xid);
    -- forgotten: the changes of this transaction and those before it may be gone.
    CREATE TABLE IF NOT EXISTS ${about} (
      one boolean PRIMARY KEY DEFAULT true CHECK (one), identity text NOT NULL,
      forgotten xid8 NOT NULL DEFAULT '0', watched_until timestamp with time zone NOT NULL DEFAULT now()
    );
    INSERT INTO ${about} (identity) VALUES (left(md5(gen_random_uuid()::text), 12)) ON CONFLICT DO NOTHING;
    CREATE TABLE IF NOT EXISTS ${blobs} (
      id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
      touched_at timestamp with time zone NOT NULL DEFAULT now()
    );
    CREATE TABLE IF NOT EXISTS ${chunks} (blob bigint NOT NULL, n integer NOT NULL, data bytea NOT NULL, PRIMARY KEY (blob, n));
    CREATE OR REPLACE FUNCTION ${changed}() RETURNS trigger LANGUAGE plpgsql AS $f$
    BEGIN
      IF TG_OP = 'DELETE' THEN
        INSERT INTO ${changes} (key) VALUES (OLD.key);
      ELSE
        INSERT INTO ${changes} (key) VALUES (NEW.key);
      END IF;
      IF TG_OP <> 'INSERT' AND OLD.outrider ->> 'blob' IS NOT NULL THEN
        IF TG_OP = 'DELETE' THEN
          DELETE FROM ${chunks} WHERE blob = (OLD.outrider ->> 'blob')::bigint;
        ELSIF NEW.outrider ->> 'blob' IS DISTINCT FROM OLD.outrider ->> 'blob'
          OR NEW.outrider ->> 'etag' IS DISTINCT FROM NEW.${etag}::text THEN
          DELETE FROM ${chunks} WHERE blob = (OLD.outrider ->> 'blob')::bigint;
        END IF;
      END IF;
      RETURN NULL;
    END $f$;
    CREATE OR REPLACE TRIGGER outrider_changed AFTER INSERT OR UPDATE OR DELETE ON ${items}
      FOR EACH ROW EXECUTE FUNCTION ${changed}();`;
  return (
    trigger(watch, "outrider_changed") + (layout.version === "v1" ? trigger(renew, "outrider_renewed") : "")
  );
}

/** The bare name of a qualified one, to build names of indexes on. */
function keyOf(qualified: string): string {
  return qualified.slice(qualified.lastIndexOf('."') + 2, -1);
}
