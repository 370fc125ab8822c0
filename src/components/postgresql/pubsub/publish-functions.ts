/** Functions that append to topics. */
import { locks, type Tables } from "./tables.ts";

/** What an event costs beside its bytes, for `retentionBytes`: about the row and its place in the index. */
const overheadBytes = 100;

const columns = "published_at, expires_at, key, raw, headers, attributes, data, bytes";
const rowFields = "i integer, k text, r boolean, h json, a json, f integer, l integer, t float8, d float8";

/** Creates the functions. Parameters begin with p_ and variables with v_, since columns have the plain names. */
export function publishFunctions(t: Tables): string {
  return `
  -- Appends events, and keeps those for later. Of each: k key, r raw, h headers, a attributes, f and l where its data
  -- is, t time to live, i which one it is, and d when, of one for later. first_seq: of the first of p_now.
  CREATE OR REPLACE FUNCTION ${t.publish}(
    p_topic text, p_now json, p_later json, p_data bytea, p_bytes bigint, p_me integer,
    OUT topic_id bigint, OUT first_seq bigint, OUT others boolean
  ) LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE
    v_topic bigint; v_last bigint; v_at timestamp with time zone; v_count integer := json_array_length(p_now);
  BEGIN
    SELECT id INTO v_topic FROM ${t.topics} WHERE name = p_topic;
    IF NOT FOUND THEN
      INSERT INTO ${t.topics} (name) VALUES (p_topic) ON CONFLICT (name) DO NOTHING;
      SELECT id INTO v_topic FROM ${t.topics} WHERE name = p_topic;
    END IF;
    IF json_array_length(p_later) > 0 THEN
      INSERT INTO ${t.scheduled} (due_at, topic_id, ttl_ms, key, raw, headers, attributes, data, bytes)
        SELECT to_timestamp(d / 1000.0), v_topic, t, k, r, h, a, substring(p_data FROM f + 1 FOR l), l + ${overheadBytes}
        FROM json_to_recordset(p_later) AS e(${rowFields}) ORDER BY i;
    END IF;
    IF v_count > 0 THEN
      -- Locked until the commit: nobody else appends to the topic meanwhile.
      UPDATE ${t.topics} SET last_seq = last_seq + v_count, bytes = bytes + p_bytes + v_count * ${overheadBytes}
        WHERE id = v_topic RETURNING last_seq INTO v_last;
      v_at := date_trunc('milliseconds', clock_timestamp());
      INSERT INTO ${t.events} (topic_id, seq, ${columns})
        SELECT v_topic, v_last - v_count + i, v_at, v_at + ceil(t) * interval '1 millisecond', k, r, h, a,
          substring(p_data FROM f + 1 FOR l), l + ${overheadBytes}
        FROM json_to_recordset(p_now) AS e(${rowFields});
    END IF;
    topic_id := v_topic;
    first_seq := v_last - v_count + 1;
    others := EXISTS (SELECT FROM ${t.sidecars} WHERE id <> p_me);
  END $f$;

  -- Moves events that are due into their topics, in the order of their times. One sidecar at a time.
  CREATE OR REPLACE FUNCTION ${t.enter_due}(p_limit integer, OUT moved integer, OUT topics bigint[])
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE
    v_ids bigint[]; v_part record; v_last bigint; v_at timestamp with time zone;
  BEGIN
    moved := 0;
    topics := '{}';
    IF NOT pg_try_advisory_xact_lock(${t.lockClass}, ${locks.enterDue}) THEN RETURN; END IF;
    v_ids := ARRAY(SELECT id FROM ${t.scheduled} WHERE due_at <= clock_timestamp() ORDER BY due_at, id LIMIT p_limit);
    FOR v_part IN SELECT topic_id AS id, count(*) AS n, sum(bytes) AS size FROM ${t.scheduled}
      WHERE id = ANY (v_ids) GROUP BY topic_id ORDER BY topic_id
    LOOP
      UPDATE ${t.topics} SET last_seq = last_seq + v_part.n, bytes = bytes + v_part.size
        WHERE id = v_part.id RETURNING last_seq INTO v_last;
      v_at := date_trunc('milliseconds', clock_timestamp());
      WITH gone AS (DELETE FROM ${t.scheduled} WHERE id = ANY (v_ids) AND topic_id = v_part.id RETURNING *)
      INSERT INTO ${t.events} (topic_id, seq, ${columns})
        SELECT topic_id, v_last - v_part.n + row_number() OVER (ORDER BY due_at, id), v_at,
          v_at + ceil(ttl_ms) * interval '1 millisecond', key, raw, headers, attributes, data, bytes FROM gone;
      moved := moved + v_part.n;
      topics := topics || v_part.id;
    END LOOP;
  END $f$;
  `;
}
