/**
 * The function that writes: one statement from the client, whose transaction ends with it. So a sidecar that
 * freezes or dies never holds a lock, and a pooler in transaction mode makes no difference.
 */
import { maxValueBytes } from "../../../blocks/state/driver.ts";
import { raised } from "../errors.ts";
import type { Layout } from "./layout.ts";

/** How a write comes to the function: short names, since each write has them. */
export interface WriteRow {
  /** From 1, in the order of the call. */
  readonly i: number;
  readonly k: string;
  /** Set; else delete. */
  readonly s: boolean;
  /** The etag that the item must have. */
  readonly e?: string;
  /** There must be no item. */
  readonly a?: boolean;
  /** What goes into `outrider`, as JSON members, or nothing. */
  readonly o?: string;
  /** Milliseconds since 1970. */
  readonly x?: number;
  /** Where the value is in the bytes that come with the rows. */
  readonly f?: number;
  readonly l?: number;
  /** Whether it may be JSON. */
  readonly j?: boolean;
  /** The chunks that are the value, and how many bytes they have. */
  readonly b?: number;
  readonly n?: number;
}

const fields =
  "i int, k text, s boolean, e text, a boolean, o text, x float8, f int, l int, j boolean, b bigint, n bigint";

/** Creates the function. */
export function writeFunction(layout: Layout): string {
  const { items, write, chunks, blobs, about, etag, expires, updated } = layout;
  const values =
    layout.version === "v2"
      ? { columns: "value", inserted: "bytes", set: "value = excluded.value" }
      : {
          columns: "value, isbinary",
          inserted: "document, document_is_binary",
          set: "value = excluded.value, isbinary = excluded.isbinary",
        };
  const convert = layout.version === "v2" ? "" : convertV1;
  const insert = `INSERT INTO ${items} AS t (key, ${values.columns}, ${etag}, ${expires}, outrider)
          VALUES (w.k, ${values.inserted}, fresh, to_timestamp(w.x / 1000.0), ours)`;
  const update = `${values.set}, ${etag} = excluded.${etag}, ${updated} = now(),
            ${expires} = excluded.${expires}, outrider = excluded.outrider`;
  return `
  CREATE OR REPLACE FUNCTION ${write}(writes json, data bytea, OUT etags text[], OUT watched boolean)
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE
    w record; current record; live boolean; fresh uuid; bytes bytea; extra text; ours json;
    written bigint; many boolean := json_array_length(writes) > 1; at timestamptz := clock_timestamp();
    document jsonb; document_is_binary boolean; source text; missing text[] := '{}';
  BEGIN
    etags := '{}';
    IF many THEN
      -- In the order of keys, so that two transactions never wait for each other.
      PERFORM 1 FROM ${items} WHERE key IN (SELECT k FROM json_to_recordset(writes) AS r(k text))
        ORDER BY key COLLATE "C" FOR UPDATE;
    END IF;
    FOR w IN SELECT * FROM json_to_recordset(writes) AS r(${fields}) WHERE e IS NOT NULL OR a ORDER BY i LOOP
      SELECT ${etag}::text AS etag, ${expires} AS expires INTO current FROM ${items} WHERE key = w.k FOR UPDATE;
      live := FOUND AND (current.expires IS NULL OR current.expires > at);
      IF NOT FOUND THEN missing := missing || w.k; END IF;
      IF (w.a AND live) OR (w.e IS NOT NULL AND (NOT live OR current.etag <> w.e)) THEN
        RAISE EXCEPTION 'a precondition is not met' USING ERRCODE = '${raised.etagMismatch}', DETAIL = w.k;
      END IF;
    END LOOP;
    FOR w IN SELECT * FROM json_to_recordset(writes) AS r(${fields}) ORDER BY k COLLATE "C" LOOP
      IF NOT w.s THEN
        DELETE FROM ${items} WHERE key = w.k;
        etags[w.i] := '';
        CONTINUE;
      END IF;
      fresh := gen_random_uuid();
      extra := coalesce(w.o, '');
      IF w.b IS NULL THEN
        bytes := substring(data FROM w.f + 1 FOR w.l);
      ELSE
        DELETE FROM ${blobs} WHERE id = w.b;
        IF NOT FOUND THEN RAISE EXCEPTION 'the chunks are gone' USING ERRCODE = '${raised.chunksGone}'; END IF;
        IF w.n <= ${maxValueBytes} THEN
          SELECT coalesce(string_agg(c.data, '' ORDER BY n), '') INTO bytes FROM ${chunks} c WHERE c.blob = w.b;
          DELETE FROM ${chunks} WHERE blob = w.b;
        ELSE
          bytes := '';
          extra := extra || ',"blob":' || w.b || ',"bytes":' || w.n;
        END IF;
      END IF;${convert}
      ours := CASE WHEN extra <> '' THEN ('{"etag":"' || fresh || '"' || extra || '}')::json END;
      IF w.k = ANY (missing) AND w.a THEN
        ${insert}
          ON CONFLICT (key) DO NOTHING;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written = 0 THEN
          RAISE EXCEPTION 'a precondition is not met' USING ERRCODE = '${raised.etagMismatch}', DETAIL = w.k;
        END IF;
      ELSE
        ${insert}
          ON CONFLICT (key) DO UPDATE SET ${update};
      END IF;
      etags[w.i] := fresh::text;
    END LOOP;
    SELECT watched_until > at INTO watched FROM ${about};
  END $f$;`;
}

/** JSON is kept as such, so that it can be read and queried; what jsonb would change is kept beside it. */
const convertV1 = `
      document_is_binary := true;
      IF w.j THEN
        BEGIN
          source := convert_from(bytes, 'UTF8');
          document := source::jsonb;
          document_is_binary := false;
          IF convert_to(document::text, 'UTF8') <> bytes THEN
            extra := extra || ',"text":' || to_json(source)::text;
          END IF;
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
          document_is_binary := true;
        END;
      END IF;
      IF document_is_binary THEN document := to_jsonb(translate(encode(bytes, 'base64'), E'\\n', '')); END IF;`;
