/** Functions about groups, their members, and the sidecars that the members are in. */
import { raised } from "../errors.ts";
import type { Tables } from "./tables.ts";

/** Creates the functions. */
export function memberFunctions(t: Tables): string {
  return `
  -- The number of the last event of a topic that was published before a time.
  CREATE OR REPLACE FUNCTION ${t.before_time}(p_topic bigint, p_at timestamp with time zone) RETURNS bigint
  LANGUAGE plpgsql STABLE AS $f$
  #variable_conflict use_column
  DECLARE v_low bigint; v_high bigint; v_middle bigint; v_event record;
  BEGIN
    SELECT first_seq - 1, last_seq INTO v_low, v_high FROM ${t.topics} WHERE id = p_topic;
    WHILE v_low < v_high LOOP
      v_middle := (v_low + v_high) / 2;
      SELECT seq, published_at INTO v_event FROM ${t.events}
        WHERE topic_id = p_topic AND seq > v_middle ORDER BY seq LIMIT 1;
      IF FOUND AND v_event.published_at < p_at THEN v_low := v_event.seq; ELSE v_high := v_middle; END IF;
    END LOOP;
    RETURN v_low;
  END $f$;

  -- Gives a group that reads a pattern the topics that it does not know yet.
  CREATE OR REPLACE FUNCTION ${t.find_topics}(p_group bigint, p_pattern text) RETURNS void
  LANGUAGE sql AS $f$
    INSERT INTO ${t.cursors} (group_id, topic_id, cursor)
      SELECT p_group, id, 0 FROM ${t.topics} WHERE name ~ p_pattern
        AND NOT EXISTS (SELECT FROM ${t.cursors} AS c WHERE c.group_id = p_group AND c.topic_id = ${t.topics}.id)
      ON CONFLICT DO NOTHING;
  $f$;

  -- Finds or makes a group, and adds a member to it. p_start: earliest, latest, time or position; p_at is milliseconds
  -- since 1970; p_topic_id and p_seq are the position.
  CREATE OR REPLACE FUNCTION ${t.join}(
    p_topic text, p_pattern text, p_name text, p_ordered boolean, p_start text, p_at float8, p_topic_id bigint,
    p_seq bigint, p_sidecar integer, OUT member bigint, OUT group_id bigint, OUT topic_id bigint
  ) LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE v_group bigint; v_ordered boolean; v_new boolean; v_topic record; v_cursor bigint; v_time timestamp with time zone;
  BEGIN
    PERFORM 1 FROM ${t.sidecars} WHERE id = p_sidecar FOR KEY SHARE;
    IF NOT FOUND THEN RAISE EXCEPTION 'the sidecar is not known' USING ERRCODE = '${raised.memberGone}'; END IF;
    IF p_pattern IS NULL THEN
      INSERT INTO ${t.topics} (name) VALUES (p_topic) ON CONFLICT (name) DO NOTHING;
      SELECT id INTO topic_id FROM ${t.topics} WHERE name = p_topic;
    END IF;
    INSERT INTO ${t.groups} (topic, pattern, name, ordered) VALUES (p_topic, p_pattern, p_name, p_ordered)
      ON CONFLICT (topic, name) DO NOTHING RETURNING id INTO v_group;
    v_new := FOUND;
    IF NOT v_new THEN
      SELECT id, ordered INTO v_group, v_ordered FROM ${t.groups} WHERE topic = p_topic AND name = p_name FOR UPDATE;
      IF NOT FOUND THEN RAISE EXCEPTION 'the group went away' USING ERRCODE = '40001'; END IF;
      IF v_ordered <> p_ordered THEN
        IF EXISTS (SELECT FROM ${t.members} AS m WHERE m.group_id = v_group) THEN
          RAISE EXCEPTION 'the group has members that want % order', CASE WHEN p_ordered THEN 'no' ELSE 'an' END
            USING ERRCODE = '${raised.orderConflict}';
        END IF;
        UPDATE ${t.groups} SET ordered = p_ordered WHERE id = v_group;
        UPDATE ${t.deliveries} AS d SET lane = CASE WHEN p_ordered THEN nullif(e.key, '') END,
            due_at = CASE WHEN p_ordered AND e.key <> '' AND EXISTS (
              SELECT FROM ${t.deliveries} AS o JOIN ${t.events} AS oe ON oe.topic_id = o.topic_id AND oe.seq = o.seq
              WHERE o.group_id = v_group AND o.topic_id = d.topic_id AND oe.key = e.key AND o.seq < d.seq
            ) THEN NULL ELSE coalesce(d.due_at, 'epoch') END
          FROM ${t.events} AS e WHERE d.group_id = v_group AND e.topic_id = d.topic_id AND e.seq = d.seq;
      END IF;
    ELSE
      IF p_start = 'position' THEN
        SELECT published_at INTO v_time FROM ${t.events} WHERE topic_id = p_topic_id AND seq = p_seq;
        IF NOT EXISTS (SELECT FROM ${t.topics} WHERE id = p_topic_id AND last_seq >= p_seq
            AND (name = p_topic OR name ~ p_pattern)) THEN
          RAISE EXCEPTION 'the position is not one of this topic' USING ERRCODE = '${raised.unknownPosition}';
        END IF;
      ELSIF p_start = 'time' THEN
        v_time := to_timestamp(p_at / 1000.0);
      END IF;
      FOR v_topic IN SELECT id, last_seq FROM ${t.topics}
        WHERE (p_pattern IS NULL AND name = p_topic) OR name ~ p_pattern
      LOOP
        v_cursor := CASE
          WHEN p_start = 'latest' THEN v_topic.last_seq
          WHEN p_start = 'position' AND v_topic.id = p_topic_id THEN p_seq
          WHEN v_time IS NOT NULL THEN ${t.before_time}(v_topic.id, v_time)
          ELSE 0 END;
        INSERT INTO ${t.cursors} (group_id, topic_id, cursor) VALUES (v_group, v_topic.id, v_cursor);
      END LOOP;
    END IF;
    INSERT INTO ${t.members} (group_id, sidecar_id) VALUES (v_group, p_sidecar) RETURNING id INTO member;
    group_id := v_group;
  END $f$;

  -- Removes a member, and gives back what it holds. Undefined when there is none.
  CREATE OR REPLACE FUNCTION ${t.leave}(p_member bigint, p_counted boolean, OUT group_id bigint)
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE v_group bigint; v_name text;
  BEGIN
    SELECT m.group_id INTO v_group FROM ${t.members} AS m WHERE id = p_member;
    IF NOT FOUND THEN RETURN; END IF;
    SELECT name INTO v_name FROM ${t.groups} WHERE id = v_group FOR UPDATE;
    DELETE FROM ${t.members} WHERE id = p_member;
    IF NOT FOUND THEN RETURN; END IF;
    IF v_name IS NULL THEN
      DELETE FROM ${t.deliveries} AS d WHERE d.group_id = v_group;
      DELETE FROM ${t.cursors} AS c WHERE c.group_id = v_group;
      DELETE FROM ${t.groups} WHERE id = v_group;
    ELSE
      UPDATE ${t.deliveries} AS d SET owner = NULL, due_at = 'epoch', attempt = attempt - (NOT p_counted)::int
        WHERE d.group_id = v_group AND owner = p_member;
      group_id := v_group;
    END IF;
  END $f$;

  -- Says that a sidecar lives, and tells of all of them. Without a row of its own, others have taken it for dead.
  CREATE OR REPLACE FUNCTION ${t.beat}(p_sidecar integer, p_locked boolean)
  RETURNS TABLE (id integer, beat bigint, locked boolean, held boolean) LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE ${t.sidecars} AS s SET beat = s.beat + 1, locked = p_locked WHERE s.id = p_sidecar;
    RETURN QUERY SELECT s.id, s.beat, s.locked, s.locked AND s.id <> p_sidecar AND EXISTS (
      SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = ${t.lockClass >>> 0}::oid AND objid = s.id::oid
        AND objsubid = 2 AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
      FROM ${t.sidecars} AS s;
  END $f$;

  -- Takes everything from a sidecar, unless it has shown a sign of life meanwhile or another does it.
  CREATE OR REPLACE FUNCTION ${t.reap}(p_sidecar integer, p_beat bigint, p_counted boolean) RETURNS SETOF bigint
  LANGUAGE plpgsql AS $f$
  #variable_conflict use_column
  DECLARE v_member bigint;
  BEGIN
    PERFORM 1 FROM ${t.sidecars} WHERE id = p_sidecar AND (beat = p_beat OR p_beat IS NULL) FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN; END IF;
    FOR v_member IN SELECT m.id FROM ${t.members} AS m WHERE m.sidecar_id = p_sidecar ORDER BY m.group_id, m.id LOOP
      RETURN NEXT ${t.leave}(v_member, p_counted);
    END LOOP;
    DELETE FROM ${t.sidecars} WHERE id = p_sidecar;
  END $f$;
  `;
}
