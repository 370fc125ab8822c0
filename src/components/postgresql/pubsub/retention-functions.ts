/** Functions that look at all of a log: what is new, how far groups are behind, what can go. */
import { locks, type Tables } from "./tables.ts";

/** Creates the functions. */
export function retentionFunctions(t: Tables): string {
  return `
  -- What those who wait want to know: the last numbers of topics, and in how many milliseconds something is due.
  CREATE OR REPLACE FUNCTION ${t.look}(p_topics bigint[], p_groups bigint[])
  RETURNS TABLE (kind text, id bigint, value float8) LANGUAGE sql STABLE AS $f$
    SELECT 'topic', id, last_seq::float8 FROM ${t.topics} WHERE id = ANY (p_topics)
    UNION ALL
    SELECT 'group', g, (SELECT extract(epoch FROM min(due_at) - clock_timestamp()) * 1000 FROM ${t.deliveries}
      WHERE group_id = g AND due_at IS NOT NULL)::float8 FROM unnest(p_groups) AS g
    UNION ALL
    SELECT 'scheduled', 0, (SELECT extract(epoch FROM min(due_at) - clock_timestamp()) * 1000 FROM ${t.scheduled})::float8
  $f$;

  CREATE OR REPLACE FUNCTION ${t.lag}(p_group bigint, OUT events float8, OUT trimmed float8) LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE v_pattern text;
  BEGIN
    SELECT pattern INTO v_pattern FROM ${t.groups} WHERE id = p_group;
    IF v_pattern IS NOT NULL THEN PERFORM ${t.find_topics}(p_group, v_pattern); END IF;
    SELECT coalesce(sum(greatest(0, n.last_seq - greatest(c.cursor, n.first_seq - 1))), 0)::float8
        + (SELECT count(*) FROM ${t.deliveries} WHERE group_id = p_group), coalesce(sum(c.trimmed), 0)::float8
      INTO events, trimmed
      FROM ${t.cursors} AS c JOIN ${t.topics} AS n ON n.id = c.topic_id WHERE c.group_id = p_group;
  END $f$;

  -- Removes events that every group has settled, those that are too old, and the oldest of topics that are too large;
  -- about p_limit in all, one sidecar at a time. True: there may be more.
  CREATE OR REPLACE FUNCTION ${t.trim}(p_age_ms float8, p_bytes bigint, p_limit integer) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE
    v_topic record; v_reader record; v_wanted bigint; v_cut bigint; v_old bigint; v_gone bigint; v_size bigint;
    v_left integer := p_limit; v_lost bigint; v_topics bigint[]; v_lanes text[];
    v_oldest timestamp with time zone := clock_timestamp() - p_age_ms * interval '1 millisecond';
  BEGIN
    IF NOT pg_try_advisory_xact_lock(${t.lockClass}, ${locks.trim}) THEN RETURN false; END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM ${t.find_topics}(id, pattern) FROM ${t.groups} WHERE pattern IS NOT NULL;
    FOR v_topic IN SELECT id, first_seq, last_seq, bytes FROM ${t.topics} WHERE last_seq >= first_seq ORDER BY id LOOP
      EXIT WHEN v_left <= 0;
      SELECT min(coalesce((SELECT d.seq FROM ${t.deliveries} AS d
          WHERE d.group_id = c.group_id AND d.topic_id = c.topic_id ORDER BY d.seq LIMIT 1), c.cursor + 1))
        INTO v_wanted FROM ${t.cursors} AS c WHERE c.topic_id = v_topic.id;
      -- A topic without groups keeps its events for those to come.
      v_cut := CASE WHEN v_wanted IS NOT NULL THEN least(v_wanted - 1, v_topic.first_seq + v_left - 1) END;
      SELECT max(seq) INTO v_old FROM (
        SELECT seq, published_at, bytes, sum(bytes) OVER (ORDER BY seq) - bytes AS before FROM (
          SELECT e.seq, e.published_at, e.bytes FROM ${t.events} AS e
          WHERE e.topic_id = v_topic.id AND e.seq >= v_topic.first_seq AND e.seq < v_topic.first_seq + v_left) AS first
      ) AS f WHERE published_at < v_oldest OR v_topic.bytes - before > p_bytes;
      IF v_old >= v_wanted THEN
        -- Some groups still wanted them.
        FOR v_reader IN SELECT c.group_id FROM ${t.cursors} AS c WHERE c.topic_id = v_topic.id ORDER BY c.group_id LOOP
          PERFORM 1 FROM ${t.groups} WHERE id = v_reader.group_id FOR UPDATE;
          SELECT count(*) INTO v_lost FROM ${t.events} AS e JOIN ${t.cursors} AS c ON c.topic_id = e.topic_id
            WHERE c.group_id = v_reader.group_id AND e.topic_id = v_topic.id AND e.seq > c.cursor AND e.seq <= v_old;
          WITH gone AS (DELETE FROM ${t.deliveries} AS d WHERE d.group_id = v_reader.group_id
            AND d.topic_id = v_topic.id AND d.seq <= v_old RETURNING topic_id, lane)
          SELECT v_lost + count(*), array_agg(topic_id), array_agg(lane) INTO v_lost, v_topics, v_lanes FROM gone;
          UPDATE ${t.cursors} SET trimmed = trimmed + v_lost, cursor = greatest(cursor, v_old)
            WHERE group_id = v_reader.group_id AND topic_id = v_topic.id AND (v_lost > 0 OR cursor < v_old);
          PERFORM ${t.free_lanes}(v_reader.group_id, v_topics, v_lanes);
        END LOOP;
      END IF;
      v_cut := greatest(v_cut, v_old);
      CONTINUE WHEN v_cut IS NULL OR v_cut < v_topic.first_seq;
      WITH gone AS (DELETE FROM ${t.events} AS e WHERE e.topic_id = v_topic.id
        AND e.seq >= v_topic.first_seq AND e.seq <= v_cut RETURNING bytes)
      SELECT count(*), coalesce(sum(bytes), 0) INTO v_gone, v_size FROM gone;
      UPDATE ${t.topics} SET bytes = bytes - v_size, first_seq = v_cut + 1 WHERE id = v_topic.id;
      v_left := v_left - v_gone;
    END LOOP;
    RETURN v_left <= 0;
  END $f$;
  `;
}
