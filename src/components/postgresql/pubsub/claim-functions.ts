/** Functions that hand out events and settle them. */
import { raised } from "../errors.ts";
import type { Tables } from "./tables.ts";

/** Deliveries of a group that may wait for an earlier event of their key. Behind it, other keys wait too. */
const maxBlocked = 10_000;

/** Events that one look of an ordered group reads past, and looks in one call. */
const maxScanned = 1000;
const maxScans = 10;

const milliseconds = (column: string) => `(extract(epoch FROM ${column}) * 1000)::float8`;

/** Creates the functions. */
export function claimFunctions(t: Tables): string {
  const event = (attempt: string, name: string) =>
    `e.topic_id, ${name}, e.seq, e.key, e.raw, e.headers::text, e.attributes::text, e.data,
      ${milliseconds("e.published_at")}, ${milliseconds("e.expires_at")}, ${attempt}`;
  return `
  -- Gives a member up to p_max events of its group: first those that are due again, then what comes next in the log. Numbers
  -- have no gaps, so a range of them stands for LIMIT: that would have a table without statistics sorted as a whole.
  -- When there are none, one row without a seq says in how many milliseconds the next is due, if any. p_claim: the member
  -- counts its claims from 1, so that what it says of one never concerns another.
  CREATE OR REPLACE FUNCTION ${t.claim}(p_group bigint, p_member bigint, p_max integer, p_bytes bigint, p_claim bigint)
  RETURNS TABLE (topic_id bigint, topic text, seq bigint, key text, raw boolean, headers text, attributes text,
    data bytea, published_ms float8, expires_ms float8, attempt integer)
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE
    v_pattern text; v_ordered boolean; v_cursor record; v_count integer; v_left integer := p_max;
    v_bytes bigint := p_bytes; v_size bigint; v_last bigint; v_from bigint; v_until bigint; v_scans integer := 0;
    v_found boolean; v_void bigint;
    v_now timestamp with time zone := clock_timestamp();
  BEGIN
    SELECT pattern, ordered INTO v_pattern, v_ordered FROM ${t.groups} WHERE id = p_group FOR UPDATE;
    v_found := FOUND;
    -- When the server crashes, the last claims may be forgotten, and their events received by others although they are
    -- still being handled. Order cannot bear that, so there the disk is waited for.
    IF NOT v_ordered THEN PERFORM set_config('synchronous_commit', 'off', true); END IF;
    IF v_found THEN
      SELECT void_claim INTO v_void FROM ${t.members} WHERE id = p_member FOR KEY SHARE;
      v_found := FOUND;
    END IF;
    IF NOT v_found THEN RAISE EXCEPTION 'the member is not known' USING ERRCODE = '${raised.memberGone}'; END IF;
    -- It was on its way while its member gave it up: nobody would know what it took.
    IF p_claim <= v_void THEN RETURN; END IF;

    IF EXISTS (SELECT FROM ${t.deliveries} WHERE group_id = p_group AND due_at <= v_now) THEN
      RETURN QUERY
        WITH due AS (
          SELECT d.topic_id, d.seq, row_number() OVER w AS nth, sum(e.bytes) OVER w - e.bytes AS before
          FROM (SELECT topic_id, seq, due_at FROM ${t.deliveries} WHERE group_id = p_group AND due_at <= v_now
            ORDER BY due_at, topic_id, seq LIMIT p_max) AS d
          JOIN ${t.events} AS e ON e.topic_id = d.topic_id AND e.seq = d.seq
          WINDOW w AS (ORDER BY d.due_at, d.topic_id, d.seq)
        ), taken AS (
          UPDATE ${t.deliveries} AS d SET owner = p_member, claim = p_claim, attempt = d.attempt + 1, due_at = NULL
          FROM due
          WHERE due.before < p_bytes AND d.group_id = p_group AND d.topic_id = due.topic_id AND d.seq = due.seq
          RETURNING d.topic_id, d.seq, d.attempt, due.nth
        )
        SELECT ${event("taken.attempt", "n.name")} FROM taken
        JOIN ${t.events} AS e ON e.topic_id = taken.topic_id AND e.seq = taken.seq
        JOIN ${t.topics} AS n ON n.id = taken.topic_id ORDER BY taken.nth;
      GET DIAGNOSTICS v_count = ROW_COUNT;
      v_left := v_left - v_count;
    END IF;

    IF v_pattern IS NOT NULL THEN PERFORM ${t.find_topics}(p_group, v_pattern); END IF;
    FOR v_cursor IN SELECT c.topic_id, greatest(c.cursor, n.first_seq - 1) AS cursor, n.name, n.last_seq FROM ${t.cursors} AS c
      JOIN ${t.topics} AS n ON n.id = c.topic_id WHERE c.group_id = p_group AND n.last_seq > c.cursor
      -- The topic whose next event is the oldest goes first.
      ORDER BY CASE WHEN v_pattern IS NOT NULL THEN (SELECT e.published_at FROM ${t.events} AS e
        WHERE e.topic_id = c.topic_id AND e.seq > c.cursor ORDER BY e.seq LIMIT 1) END, c.topic_id
    LOOP
      v_from := v_cursor.cursor;
      WHILE v_left > 0 AND v_bytes > 0 LOOP
        IF v_ordered THEN
          v_scans := v_scans + 1;
          EXIT WHEN v_scans > ${maxScans} OR (SELECT count(*) >= ${maxBlocked} FROM (SELECT FROM ${t.deliveries}
            WHERE group_id = p_group AND owner IS NULL AND due_at IS NULL LIMIT ${maxBlocked}) AS b);
          v_until := v_from + ${maxScanned};
          -- An event is free when it has no key, or is the first unsettled one of its key.
          WITH scan AS (
            SELECT e.seq, nullif(e.key, '') AS lane, e.bytes FROM ${t.events} AS e
            WHERE e.topic_id = v_cursor.topic_id AND e.seq > v_from AND e.seq <= v_until
          ), ranked AS (
            SELECT scan.*, lane IS NULL OR (row_number() OVER (PARTITION BY lane ORDER BY seq) = 1 AND NOT EXISTS (
              SELECT FROM ${t.deliveries} AS d
              WHERE d.group_id = p_group AND d.topic_id = v_cursor.topic_id AND d.lane = scan.lane)) AS free FROM scan
          ), counted AS (
            SELECT ranked.*, count(*) FILTER (WHERE free) OVER w AS nth,
              coalesce(sum(bytes) FILTER (WHERE free) OVER w, 0) - CASE WHEN free THEN bytes ELSE 0 END AS before
            FROM ranked WINDOW w AS (ORDER BY seq)
          ), put AS (
            INSERT INTO ${t.deliveries} (group_id, topic_id, seq, owner, claim, attempt, lane)
            SELECT p_group, v_cursor.topic_id, seq, CASE WHEN free THEN p_member END, p_claim, free::int, lane FROM counted
            WHERE nth <= v_left AND before < v_bytes RETURNING seq, owner
          )
          SELECT max(seq), count(owner) INTO v_last, v_count FROM put;
        ELSE
          v_until := v_from + v_left;
          SELECT max(seq), count(*) INTO v_last, v_count FROM (
            SELECT e.seq, sum(e.bytes) OVER (ORDER BY e.seq) - e.bytes AS before FROM ${t.events} AS e
            WHERE e.topic_id = v_cursor.topic_id AND e.seq > v_from AND e.seq <= v_until
          ) AS fit WHERE before < v_bytes;
          INSERT INTO ${t.deliveries} (group_id, topic_id, seq, owner, claim, attempt)
            SELECT p_group, v_cursor.topic_id, e.seq, p_member, p_claim, 1 FROM ${t.events} AS e
            WHERE e.topic_id = v_cursor.topic_id AND e.seq > v_from AND e.seq <= v_last;
        END IF;
        -- Somebody has removed what there was.
        IF v_last IS NULL THEN
          SELECT coalesce(min(e.seq) - 1, v_cursor.last_seq) INTO v_last FROM ${t.events} AS e
            WHERE e.topic_id = v_cursor.topic_id AND e.seq > v_until AND e.seq <= v_cursor.last_seq;
        END IF;
        UPDATE ${t.cursors} AS c SET cursor = v_last WHERE c.group_id = p_group AND c.topic_id = v_cursor.topic_id;
        IF v_count > 0 THEN
          SELECT sum(bytes) INTO v_size FROM ${t.events} AS e
            WHERE e.topic_id = v_cursor.topic_id AND e.seq > v_from AND e.seq <= v_last;
          v_bytes := v_bytes - v_size;
          v_left := v_left - v_count;
        END IF;
        IF v_count > 0 AND v_ordered THEN
          RETURN QUERY SELECT ${event("1", "v_cursor.name")} FROM ${t.events} AS e
            JOIN ${t.deliveries} AS d ON d.group_id = p_group AND d.topic_id = e.topic_id AND d.seq = e.seq
            WHERE e.topic_id = v_cursor.topic_id AND e.seq > v_from AND e.seq <= v_last AND d.owner = p_member
            ORDER BY e.seq;
        ELSIF v_count > 0 THEN
          RETURN QUERY SELECT ${event("1", "v_cursor.name")} FROM ${t.events} AS e
            WHERE e.topic_id = v_cursor.topic_id AND e.seq > v_from AND e.seq <= v_last ORDER BY e.seq;
        END IF;
        v_from := v_last;
        EXIT WHEN v_from >= v_cursor.last_seq;
      END LOOP;
    END LOOP;

    IF v_left = p_max THEN
      RETURN QUERY SELECT NULL::bigint, NULL::text, NULL::bigint, NULL::text, NULL::boolean, NULL::text, NULL::text,
        NULL::bytea, (SELECT greatest(0, extract(epoch FROM min(due_at) - clock_timestamp()) * 1000)::float8
          FROM ${t.deliveries} WHERE group_id = p_group AND due_at IS NOT NULL), NULL::float8, NULL::integer;
    END IF;
  END $f$;

  -- Frees the next event of each key, when the one before it is settled.
  CREATE OR REPLACE FUNCTION ${t.free_lanes}(p_group bigint, p_topics bigint[], p_lanes text[]) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE v_lane record; v_head record; v_freed boolean := false;
  BEGIN
    FOR v_lane IN SELECT DISTINCT topic, lane FROM unnest(p_topics, p_lanes) AS u(topic, lane) WHERE lane IS NOT NULL LOOP
      SELECT seq, owner, due_at INTO v_head FROM ${t.deliveries}
        WHERE group_id = p_group AND topic_id = v_lane.topic AND lane = v_lane.lane ORDER BY seq LIMIT 1;
      IF FOUND AND v_head.owner IS NULL AND v_head.due_at IS NULL THEN
        UPDATE ${t.deliveries} SET due_at = 'epoch'
          WHERE group_id = p_group AND topic_id = v_lane.topic AND seq = v_head.seq;
        v_freed := true;
      END IF;
    END LOOP;
    RETURN v_freed;
  END $f$;

  -- Settles what a member holds, by runs of numbers. p_kinds: 0 done, 1 again after a delay, 2 given back. p_claims: what
  -- was given by another claim is passed over. So a statement that is sent twice, or arrives late, does not settle what
  -- the member has been given again since.
  -- True: others may receive something now, or later.
  CREATE OR REPLACE FUNCTION ${t.settle}(p_group bigint, p_member bigint, p_topics bigint[], p_firsts bigint[],
    p_lasts bigint[], p_claims bigint[], p_kinds integer[], p_delays float8[]) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE
    v_ordered boolean; v_freed boolean := false; v_topics bigint[] := '{}'; v_lanes text[] := '{}';
    v_some bigint[]; v_more text[]; v_now timestamp with time zone := clock_timestamp();
  BEGIN
    SELECT ordered INTO v_ordered FROM ${t.groups} WHERE id = p_group;
    IF NOT FOUND THEN RETURN false; END IF;
    -- Or a claim could put an event behind one that is being settled, and nobody would free it.
    IF v_ordered THEN PERFORM 1 FROM ${t.groups} WHERE id = p_group FOR UPDATE; END IF;
    FOR i IN 1 .. array_length(p_kinds, 1) LOOP
      IF p_kinds[i] = 0 AND v_ordered THEN
        WITH gone AS (DELETE FROM ${t.deliveries} WHERE group_id = p_group AND topic_id = p_topics[i]
          AND seq BETWEEN p_firsts[i] AND p_lasts[i] AND owner = p_member AND claim = p_claims[i] RETURNING topic_id, lane)
        SELECT array_agg(topic_id), array_agg(lane) INTO v_some, v_more FROM gone WHERE lane IS NOT NULL;
        v_topics := v_topics || v_some;
        v_lanes := v_lanes || v_more;
      ELSIF p_kinds[i] = 0 THEN
        DELETE FROM ${t.deliveries} WHERE group_id = p_group AND topic_id = p_topics[i]
          AND seq BETWEEN p_firsts[i] AND p_lasts[i] AND owner = p_member AND claim = p_claims[i];
      ELSE
        UPDATE ${t.deliveries} SET owner = NULL, attempt = attempt - (p_kinds[i] = 2)::int,
            due_at = CASE WHEN p_kinds[i] = 2 THEN 'epoch' ELSE v_now + p_delays[i] * interval '1 millisecond' END
          WHERE group_id = p_group AND topic_id = p_topics[i] AND seq BETWEEN p_firsts[i] AND p_lasts[i]
            AND owner = p_member AND claim = p_claims[i];
        v_freed := v_freed OR FOUND;
      END IF;
    END LOOP;
    RETURN ${t.free_lanes}(p_group, v_topics, v_lanes) OR v_freed;
  END $f$;

  -- Gives back what a member was given by a claim whose answer did not arrive; one that is yet to come takes nothing.
  CREATE OR REPLACE FUNCTION ${t.return_lost}(p_group bigint, p_member bigint, p_claim bigint) RETURNS void
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  BEGIN
    PERFORM 1 FROM ${t.groups} WHERE id = p_group FOR UPDATE;
    UPDATE ${t.members} SET void_claim = p_claim WHERE id = p_member AND void_claim < p_claim;
    UPDATE ${t.deliveries} SET owner = NULL, due_at = 'epoch', attempt = attempt - 1
      WHERE group_id = p_group AND owner = p_member AND claim = p_claim;
  END $f$;
  `;
}
