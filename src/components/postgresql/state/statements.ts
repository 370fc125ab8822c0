/** The statements of a state store, written once for its layout. */
import { maxValueBytes } from "../../../blocks/state/driver.ts";
import type { Layout } from "./layout.ts";

/** Bytes of values in one answer to `list`; the first item always goes in. */
const maxAnswerBytes = 8 * 1024 * 1024;

/** What every statement that reads items gives of each. */
export interface ItemRow {
  readonly key: string;
  readonly etag: string;
  /** What is ours, as JSON; counts while its etag is the item's. */
  readonly outrider: string | null;
  /** Milliseconds since 1970. */
  readonly expires: number | null;
  /** Of what is in the row. */
  readonly bytes: number;
  readonly value: Buffer | null;
}

/** What `outrider` has. */
export interface Beside {
  readonly etag: string;
  readonly contentType?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Chunks that are the value, and how many bytes they have. */
  readonly blob?: number;
  readonly bytes?: number;
}

/** Makes the statements. */
export function statementsOf(layout: Layout) {
  const { items, changes, about, chunks, blobs, etag, expires, value, bytes } = layout;
  const live = `(${expires} IS NULL OR ${expires} > clock_timestamp())`;
  const about_ = `key, ${etag}::text AS etag, outrider::text AS outrider,
    round(extract(epoch FROM ${expires}) * 1000)::float8 AS expires`;
  const sent = `CASE WHEN bytes <= ${maxValueBytes} THEN value END AS value`;
  const range = (bounds: string) => `key COLLATE "C" ${bounds} AND ${live} ORDER BY key COLLATE "C"`;
  const list = (bounds: string) => `
    SELECT key, etag, outrider, expires, bytes, size - bytes < ${maxAnswerBytes} AS fits,
      CASE WHEN size - bytes < ${maxAnswerBytes} AND bytes <= ${maxValueBytes} THEN value END AS value
    FROM (SELECT *, sum(CASE WHEN bytes <= ${maxValueBytes} THEN bytes ELSE 0 END) OVER (ORDER BY key COLLATE "C") AS size
      FROM (SELECT ${about_}, ${bytes} AS bytes, ${value} AS value FROM ${items} WHERE ${range(bounds)} LIMIT $3) AS f) AS g
    ORDER BY key COLLATE "C"`;
  const keys = (bounds: string) =>
    `SELECT ${about_}, ${bytes} AS bytes, true AS fits, NULL AS value FROM ${items} WHERE ${range(bounds)} LIMIT $3`;
  const changed = (which: string) => `
    SELECT pg_current_snapshot()::text AS now, (SELECT forgotten FROM ${about})::text AS forgotten,
      ARRAY(SELECT DISTINCT key FROM ${changes} WHERE xid >= pg_snapshot_xmin($1::pg_snapshot)
        AND NOT pg_visible_in_snapshot(xid, $1::pg_snapshot) AND ${which}) AS keys`;
  return {
    get: `SELECT key, etag, outrider, expires, bytes, ${sent} FROM
      (SELECT ${about_}, ${bytes} AS bytes, ${value} AS value FROM ${items} WHERE key = ANY ($1::text[]) AND ${live}) AS f`,
    stat: `SELECT ${about_}, ${bytes} AS bytes, NULL AS value FROM ${items} WHERE key = $1 AND ${live}`,
    write: `SELECT etags, watched FROM ${layout.write}($1, $2)`,
    /** After or from $1, before $2, which is null where nothing ends it. */
    list: list('>= $1 AND ($2::text IS NULL OR key COLLATE "C" < $2)'),
    listAfter: list('> $1 AND ($2::text IS NULL OR key COLLATE "C" < $2)'),
    keys: keys('>= $1 AND ($2::text IS NULL OR key COLLATE "C" < $2)'),
    keysAfter: keys('> $1 AND ($2::text IS NULL OR key COLLATE "C" < $2)'),
    piece: `SELECT ${etag}::text AS etag, substring(${value} FROM $2::int FOR $3::int) AS data FROM ${items} WHERE key = $1`,
    chunk: `SELECT data FROM ${chunks} WHERE blob = $1 AND n = $2`,
    beginBlob: `INSERT INTO ${blobs} DEFAULT VALUES RETURNING id`,
    putChunk: `WITH touched AS (UPDATE ${blobs} SET touched_at = now() WHERE id = $1)
      INSERT INTO ${chunks} (blob, n, data) VALUES ($1, $2, $3)`,
    dropBlob: `WITH gone AS (DELETE FROM ${blobs} WHERE id = $1 RETURNING id)
      DELETE FROM ${chunks} WHERE blob IN (SELECT id FROM gone)`,
    snapshot: `SELECT pg_current_snapshot()::text AS now, identity, forgotten::text AS forgotten FROM ${about}`,
    changedKey: changed("key = $2"),
    changedKeys: changed("key >= $2 AND ($3::text IS NULL OR key < $3)"),
    watching: `UPDATE ${about} SET watched_until = now() + interval '30 seconds' WHERE watched_until < now() + interval '20 seconds'`,
    expire: `DELETE FROM ${items} WHERE key IN (SELECT key FROM ${items} WHERE ${expires} <= now()
      ORDER BY ${expires} LIMIT $1 FOR UPDATE SKIP LOCKED) AND ${expires} <= now()`,
    /** Forgets the oldest changes, and those whose transactions are of another server's history. */
    forget: `WITH old AS (SELECT ctid, xid FROM (SELECT ctid, xid, at FROM ${changes} ORDER BY xid LIMIT $1) AS first
        WHERE at < now() - $2 * interval '1 millisecond'),
      gone AS (DELETE FROM ${changes} WHERE ctid IN (SELECT ctid FROM old)),
      marked AS (UPDATE ${about} SET forgotten = (SELECT max(xid::text::bigint) FROM old)::text::xid8
        WHERE EXISTS (SELECT FROM old))
      SELECT count(*)::int AS count FROM old`,
    /** A store that was restored from a copy on another server begins its history anew. */
    renew: `WITH strange AS (DELETE FROM ${changes} WHERE xid > pg_current_xact_id() RETURNING 1),
      odd AS (SELECT 1 FROM ${about} WHERE forgotten > pg_current_xact_id())
      UPDATE ${about} SET identity = left(md5(gen_random_uuid()::text), 12), forgotten = '0'
      WHERE EXISTS (SELECT FROM strange) OR EXISTS (SELECT FROM odd)`,
    dropOldBlobs: `WITH gone AS (DELETE FROM ${blobs} WHERE touched_at < now() - interval '1 hour' RETURNING id)
      DELETE FROM ${chunks} WHERE blob IN (SELECT id FROM gone)`,
  };
}

/** See `statementsOf`. */
export type Statements = ReturnType<typeof statementsOf>;
