-- The functions that the store calls on the server, one call for each batch. The tables are those of duroxide-pg, and
-- this file does not change them.
--
-- {schema} stands for the schema, and {version} for a hash of this text. Nodes of two releases may share a schema, so a
-- function that changes gets a new name.
--
-- The functions force their plans. Otherwise the planner would expect one row for ever in a queue that was analyzed
-- while it was empty. Where a statement finds a lock row by its instance, it hides the end of the lease from the
-- planner (locked_until + 0). If statistics were taken on an empty table, the planner would otherwise read all live
-- leases for each instance. The time of a message that is found by its instance is hidden for the same reason, and the
-- token of an activity that is found by its id: an index of both would be searched for each pair of them. Work is
-- taken in the order of an existing index, (visible_at, lock_token), so that the server does not sort the queue.
--
-- Each function sets search_path. Otherwise the server might choose an operator or a function of another role, which
-- fits the types of an expression better than those of pg_catalog, and run it with the rights of the caller.
--
-- A value of a row must not stop the work on other rows. Any role that may write into a queue can write an infinite
-- time or the largest number, so the functions bound such values before they calculate with them. If a row fails
-- nevertheless, a node finds it with python_unclaimable and leaves it out.
--
-- The functions read again under a lock what other transactions have committed, so they refuse a transaction with another
-- isolation than read committed (connect/session.rs).
--
-- Leases use only the server's clock, so that the clocks of the nodes may differ. The transaction that deletes a lock
-- row owns it. A transaction waits for a lock row only while a renewal of the same lease commits. It finds the new version
-- of the row then, so the keys and the token choose a row, and never its place (ctid), which the renewal changes. New
-- lock rows are inserted in the order of their instances, so two batches never wait for each other in a circle.

-- The reports of instances that wait for other code: see queries/mismatch_reports.rs.
CREATE TABLE IF NOT EXISTS "{schema}".python_waiting (
    instance_id TEXT PRIMARY KEY REFERENCES "{schema}".instances ON DELETE CASCADE,
    execution_id BIGINT NOT NULL,
    last_event_id BIGINT NOT NULL,
    report TEXT NOT NULL
);

-- The last row of each application's outbox that the store has taken over: see queries/outbox.rs.
CREATE TABLE IF NOT EXISTS "{schema}".python_outboxes (outbox TEXT PRIMARY KEY, last BIGINT NOT NULL);

-- The reports of the nodes that work on the store: see queries/live.rs.
CREATE TABLE IF NOT EXISTS "{schema}".python_nodes (
    node TEXT PRIMARY KEY,
    seen TIMESTAMPTZ NOT NULL,
    report TEXT NOT NULL
);

-- What only the roles of the schema may know: the key with which nodes hide the ids of instances in notifications, which
-- each role of the database can read.
CREATE TABLE IF NOT EXISTS "{schema}".python_secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- Transactions that start instances lock rows of this table, so that of two starts of one id the second one sees the
-- first. An advisory lock would do as well, but each role of the database can take one and hold it. The places from 0 on
-- are those of ids, and the others those of outboxes.
CREATE TABLE IF NOT EXISTS "{schema}".python_start_locks (place INTEGER PRIMARY KEY);
INSERT INTO "{schema}".python_start_locks
SELECT place FROM generate_series(-64, 16383) AS place
WHERE NOT EXISTS (SELECT FROM "{schema}".python_start_locks) ON CONFLICT DO NOTHING;

-- The indexes for lists, where the table is empty. In a store that has instances, tune() creates them while work continues.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM "{schema}".instances) THEN
        CREATE INDEX IF NOT EXISTS python_instances_created
            ON "{schema}".instances (created_at, instance_id COLLATE "C");
        CREATE INDEX IF NOT EXISTS python_instances_name
            ON "{schema}".instances (orchestration_name, created_at, instance_id COLLATE "C");
    END IF;
END $$;

-- Locks the ids of starts until the end of the transaction. No transaction holds another lock when it calls this, and
-- all lock the rows in their order. A transaction that starts many instances locks all ids at once.
CREATE OR REPLACE FUNCTION "{schema}".python_lock_starts_{version}(p_instances text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    places integer[] := ARRAY(SELECT DISTINCT hashtext(start) & 16383 FROM unnest(p_instances) AS start);
BEGIN
    IF cardinality(places) > 64 THEN
        LOCK TABLE "{schema}".python_start_locks IN EXCLUSIVE MODE;
    ELSE
        PERFORM 1 FROM "{schema}".python_start_locks l WHERE l.place = ANY (places) ORDER BY l.place FOR UPDATE;
    END IF;
END $$;

-- The server's time, in ms since the epoch. The statements of the store that are no functions take their times from
-- here, since they must not depend on the search_path of their session.
CREATE OR REPLACE FUNCTION "{schema}".python_now_ms_{version}() RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
END $$;

-- The server's time in p_ms from now.
CREATE OR REPLACE FUNCTION "{schema}".python_time_in_ms_{version}(p_ms bigint) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN clock_timestamp() + p_ms * interval '1 millisecond';
END $$;

-- A time, in ms since the epoch. Times before the epoch, times after the year 9999 and missing ones are bounded.
CREATE OR REPLACE FUNCTION "{schema}".python_in_ms_{version}(p_time timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (extract(epoch FROM least(greatest(p_time, to_timestamp(0)), to_timestamp(253402300800))) * 1000)::bigint;
END $$;

-- A time, in microseconds since the epoch, bounded in the same way.
CREATE OR REPLACE FUNCTION "{schema}".python_in_us_{version}(p_time timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (extract(epoch FROM least(greatest(p_time, to_timestamp(0)), to_timestamp(253402300800)))
            * 1000000)::bigint;
END $$;

-- Leases those of the given instances that are free and have something to read. The rows of the answer:
--
-- kind 2, one for each leased instance: token, instance, attempt (1 if it has no history, and its start is not due),
--   name, version, execution, last_event (of that execution; 1 if there is a history without an instance), stamp (when it
--   was created, in microseconds since the epoch);
-- kind 3, one for each message: token, id, attempt (counted so far), item, last_event (1 if the message is held back),
--   stamp (how long ago it was sent, in ms);
-- kind 4, one for each key of an earlier execution: token, name (the key), item (the value), stamp (when it was set, in
--   ms);
-- kind 12, one for each instance with many messages that are held back: token, item (their ids), name (the mark of the
--   server). These messages have no rows of kind 3, since the node may know them already. The mark changes with the
--   server and after a crash, since an id may name another message then.
CREATE OR REPLACE FUNCTION "{schema}".python_lease_{version}(
    p_instances text[], p_tokens text[], p_lease_ms bigint, p_lowest bigint, p_highest bigint
) RETURNS TABLE (
    kind smallint, token text, instance text, id bigint, attempt integer, item text,
    name text, version text, execution bigint, last_event bigint, stamp bigint
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    now_ms bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    now_at timestamptz := to_timestamp(now_ms / 1000.0);
    instances text[];
    tokens text[];
    abandoned text[];
    crowded text[];
    mark text;
BEGIN
    SELECT array_agg(wanted.instance ORDER BY wanted.instance), array_agg(wanted.token ORDER BY wanted.instance),
           array_agg(wanted.instance) FILTER (WHERE wanted.is_abandoned)
    INTO instances, tokens, abandoned
    FROM (
        SELECT asked.instance, asked.token,
               (SELECT true FROM "{schema}".instance_locks l
                WHERE l.instance_id = asked.instance LIMIT 1) AS is_abandoned
        FROM unnest(p_instances, p_tokens) AS asked (instance, token)
        WHERE (SELECT true FROM "{schema}".orchestrator_queue q
               WHERE q.instance_id = asked.instance
                 AND (q.visible_at + interval '0' <= now_at OR q.visible_at = q.created_at) LIMIT 1)
          AND (SELECT true FROM "{schema}".instance_locks l
               WHERE l.instance_id = asked.instance AND l.locked_until + 0 > now_ms LIMIT 1) IS NULL
          AND (p_lowest IS NULL OR coalesce(
               (SELECT e.duroxide_version_major * 1000000::bigint + e.duroxide_version_minor * 1000::bigint
                       + e.duroxide_version_patch BETWEEN p_lowest AND p_highest
                FROM "{schema}".instances i, "{schema}".executions e
                WHERE i.instance_id = asked.instance AND e.instance_id = i.instance_id
                  AND e.execution_id = i.current_execution_id LIMIT 1), true))
        OFFSET 0
    ) AS wanted;
    IF instances IS NULL THEN
        RETURN;
    END IF;
    IF abandoned IS NOT NULL THEN
        -- The holder let the lease end, so the messages that it had read count as tried. (duroxide-pg counts a message
        -- when it reads it, and marks the messages that it has counted.)
        WITH ended AS MATERIALIZED (
            SELECT l.instance_id, l.lock_token, l.locked_at FROM "{schema}".instance_locks l
            WHERE l.instance_id = ANY (abandoned) AND l.locked_until + 0 <= now_ms
            FOR UPDATE SKIP LOCKED
        ), tried AS (
            UPDATE "{schema}".orchestrator_queue q SET attempt_count = least(q.attempt_count, 2147483646) + 1
            FROM ended
            WHERE q.instance_id = ended.instance_id
              AND q.visible_at + interval '0' <= to_timestamp(greatest(0, least(ended.locked_at, now_ms)) / 1000.0)
              AND q.lock_token IS DISTINCT FROM ended.lock_token
        ), freed AS (
            DELETE FROM "{schema}".instance_locks l USING ended
            WHERE l.instance_id = ended.instance_id AND l.lock_token = ended.lock_token RETURNING l.instance_id
        )
        SELECT array_agg(asked.instance), array_agg(asked.token) INTO instances, tokens
        FROM unnest(instances, tokens) WITH ORDINALITY AS asked (instance, token, place)
        WHERE asked.instance <> ALL (abandoned) OR asked.instance IN (SELECT freed.instance_id FROM freed);
    END IF;
    WITH leased AS (
        INSERT INTO "{schema}".instance_locks (instance_id, lock_token, locked_until, locked_at)
        SELECT asked.instance, asked.token, now_ms + p_lease_ms, now_ms
        FROM unnest(instances, tokens) AS asked (instance, token)
        ON CONFLICT (instance_id) DO NOTHING RETURNING instance_id, lock_token
    )
    SELECT array_agg(leased.instance_id), array_agg(leased.lock_token) INTO instances, tokens FROM leased;
    IF instances IS NULL THEN
        RETURN;
    END IF;
    -- Messages that the last turn sent to its own instance are read now, whatever the clocks say. If the successor came
    -- after its messages, it would find them gone. A message without a delay is visible from the time when it was sent.
    now_at := clock_timestamp();
    RETURN QUERY
    SELECT 2::smallint, leased.token, leased.instance, NULL::bigint,
           CASE WHEN last.event IS NULL
                THEN (SELECT 1 FROM "{schema}".orchestrator_queue q
                      WHERE q.instance_id = leased.instance AND q.visible_at + interval '0' > now_at
                        AND q.work_item LIKE '{"StartOrchestration":%' LIMIT 1) END,
           NULL::text,
           i.orchestration_name, i.orchestration_version, i.current_execution_id, last.event,
           CASE WHEN i.instance_id IS NOT NULL
                THEN (extract(epoch FROM least(greatest(i.created_at, to_timestamp(0)), to_timestamp(253402300800)))
                      * 1000000)::bigint END
    FROM unnest(instances, tokens) AS leased (instance, token)
    LEFT JOIN LATERAL (SELECT * FROM "{schema}".instances i
                       WHERE i.instance_id = leased.instance OFFSET 0) AS i ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN i.instance_id IS NULL
                    THEN (SELECT 1::bigint FROM "{schema}".history h WHERE h.instance_id = leased.instance LIMIT 1)
                    ELSE (SELECT max(h.event_id) FROM "{schema}".history h
                          WHERE h.instance_id = i.instance_id AND h.execution_id = i.current_execution_id) END AS event
        OFFSET 0) AS last;
    crowded := ARRAY(
        SELECT leased.instance FROM unnest(instances) AS leased (instance)
        WHERE (SELECT true FROM "{schema}".orchestrator_queue q
               WHERE q.instance_id = leased.instance AND q.lock_token || '' = 'held'
               OFFSET 32 LIMIT 1)
          AND (SELECT true FROM "{schema}".instances i WHERE i.instance_id = leased.instance LIMIT 1));
    IF cardinality(crowded) > 0 THEN
        mark := extract(epoch FROM pg_postmaster_start_time())::text || ' '
                || (SELECT c.checkpoint_lsn::text FROM pg_control_checkpoint() AS c);
    END IF;
    -- This is one statement, so that each message comes either in a row of its own or in a list.
    RETURN QUERY
    SELECT 3::smallint, leased.token, NULL::text, q.id, q.attempt_count, q.work_item, NULL::text, NULL::text,
           NULL::bigint, CASE WHEN q.lock_token = 'held' THEN 1::bigint ELSE 0 END,
           (extract(epoch FROM now_at - greatest(least(q.created_at, now_at), to_timestamp(0))) * 1000)::bigint
    FROM unnest(instances, tokens) AS leased (instance, token),
         LATERAL (SELECT * FROM "{schema}".orchestrator_queue q
                  WHERE q.instance_id = leased.instance
                    AND (q.visible_at + interval '0' <= now_at OR q.visible_at = q.created_at OR q.lock_token = 'held')
                    AND (q.lock_token IS DISTINCT FROM 'held' OR q.attempt_count > 0
                         OR leased.instance <> ALL (crowded))
                  ORDER BY q.id OFFSET 0) AS q
    UNION ALL
    SELECT 12::smallint, leased.token, NULL::text, NULL::bigint, NULL::integer,
           (SELECT string_agg(q.id::text, ' ') FROM "{schema}".orchestrator_queue q
            WHERE q.instance_id = leased.instance AND q.lock_token || '' = 'held' AND q.attempt_count <= 0),
           mark, NULL::text, NULL::bigint, NULL::bigint, NULL::bigint
    FROM unnest(instances, tokens) AS leased (instance, token) WHERE leased.instance = ANY (crowded);
    RETURN QUERY
    SELECT 4::smallint, leased.token, NULL::text, NULL::bigint, NULL::integer, k.value, k.key, NULL::text, NULL::bigint,
           NULL::bigint, k.last_updated_at_ms
    FROM unnest(instances, tokens) AS leased (instance, token),
         LATERAL (SELECT * FROM "{schema}".kv_store k WHERE k.instance_id = leased.instance OFFSET 0) AS k;
END $$;

-- Leases the turns and activities that this node can take. The rows of the answer:
--
-- kinds 2 to 4 and 12, the turns, as above;
-- kind 5, one for each activity: token, id, attempt (with this one), item, name (the slot that owns its session),
--   execution (1 if the slot did not own the session before);
-- kind 6, when the next message is due (execution 0) or the next activity (execution 1): id, in ms from now;
-- kind 10: id (the server's time, in ms since the epoch);
-- kind 11, one for each session that has work and waits, since a runtime owns as many as it may: id (the runtime), name
--   (the session).
--
-- A slot owns the sessions that it serves. p_slots are the slots of the runtimes of this node, p_runtimes their runtimes,
-- p_waiting the places of the slots that wait (the first has waited longest), and p_most how many sessions each runtime
-- may own.
CREATE OR REPLACE FUNCTION "{schema}".python_claim_{version}(
    p_prefix text,
    p_turns bigint, p_lease_ms bigint, p_lowest bigint, p_highest bigint, p_left_instances text[],
    p_activities bigint, p_activity_lease_ms bigint, p_tag_mode text, p_tags text[], p_left_activities bigint[],
    p_slots text[], p_runtimes integer[], p_waiting integer[], p_most bigint[], p_session_ms bigint,
    p_session_idle_ms bigint, p_finds_ended boolean
) RETURNS TABLE (
    kind smallint, token text, instance text, id bigint, attempt integer, item text,
    name text, version text, execution bigint, last_event bigint, stamp bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    now_ms bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    now_at timestamptz := to_timestamp(now_ms / 1000.0);
    found_instances text[];
    activities bigint[];
    owners text[];
    runtimes integer[];
    place integer;
    owner_of_session text;
    bound record;
    is_new boolean;
    new_sessions text[] := '{}';
    held_back text[] := '{}';
    room bigint[];
    waiting integer;
    total integer := 0;
    freed integer;
    by_row boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the transaction must be read committed' USING ERRCODE = 'DX001';
    END IF;
    -- A crash of the server may lose this claim. The work is free again then, so the claim need not wait for the disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF p_turns > 0 THEN
        SELECT array_agg(DISTINCT waiting.instance_id ORDER BY waiting.instance_id) INTO found_instances
        FROM (
            SELECT q.instance_id FROM "{schema}".orchestrator_queue q
            WHERE q.visible_at <= now_at
              AND (SELECT true FROM "{schema}".instance_locks l
                   WHERE l.instance_id = q.instance_id AND l.locked_until + 0 > now_ms LIMIT 1) IS NULL
              AND q.instance_id <> ALL (p_left_instances)
              AND (p_lowest IS NULL OR coalesce(
                   (SELECT e.duroxide_version_major * 1000000::bigint + e.duroxide_version_minor * 1000::bigint
                           + e.duroxide_version_patch BETWEEN p_lowest AND p_highest
                    FROM "{schema}".instances i, "{schema}".executions e
                    WHERE i.instance_id = q.instance_id AND e.instance_id = i.instance_id
                      AND e.execution_id = i.current_execution_id LIMIT 1), true))
            ORDER BY q.visible_at LIMIT p_turns
        ) AS waiting;
        IF found_instances IS NOT NULL THEN
            RETURN QUERY SELECT * FROM "{schema}".python_lease_{version}(
                found_instances,
                ARRAY(SELECT p_prefix || 't' || place FROM generate_series(1, cardinality(found_instances)) AS place),
                p_lease_ms, p_lowest, p_highest);
        END IF;
    END IF;
    by_row := cardinality(p_waiting) > 0 AND p_activities > 0
              AND (SELECT true FROM "{schema}".worker_queue w WHERE w.session_id IS NOT NULL LIMIT 1);
    IF p_activities > 0 AND by_row IS NOT TRUE THEN
        activities := '{}';
        IF p_finds_ended THEN
            -- These have waited longest. On a busy server there is always other work, so they come first.
            activities := ARRAY(
                SELECT c.id FROM "{schema}".worker_queue c
                WHERE c.lock_token IS NOT NULL AND c.locked_until <= now_ms AND c.visible_at <= now_at
                  AND c.session_id IS NULL
                  AND CASE p_tag_mode WHEN 'default_only' THEN c.tag IS NULL WHEN 'tags' THEN c.tag = ANY (p_tags)
                      WHEN 'default_and' THEN c.tag IS NULL OR c.tag = ANY (p_tags) ELSE true END
                  AND c.id <> ALL (p_left_activities)
                ORDER BY c.id LIMIT p_activities FOR UPDATE SKIP LOCKED);
        END IF;
        IF cardinality(activities) < p_activities THEN
            activities := activities || ARRAY(
                SELECT c.id FROM "{schema}".worker_queue c
                WHERE c.lock_token IS NULL AND c.visible_at <= now_at AND c.session_id IS NULL
                  AND CASE p_tag_mode WHEN 'default_only' THEN c.tag IS NULL WHEN 'tags' THEN c.tag = ANY (p_tags)
                      WHEN 'default_and' THEN c.tag IS NULL OR c.tag = ANY (p_tags) ELSE true END
                  AND c.id <> ALL (p_left_activities)
                ORDER BY c.lock_token, c.id LIMIT p_activities - cardinality(activities) FOR UPDATE SKIP LOCKED);
        END IF;
        RETURN QUERY
        UPDATE "{schema}".worker_queue w
        SET lock_token = p_prefix || 'a' || w.id, locked_until = now_ms + p_activity_lease_ms,
            attempt_count = least(w.attempt_count, 2147483646) + 1
        WHERE w.id = ANY (activities)
        RETURNING 5::smallint, w.lock_token, w.instance_id, w.id, w.attempt_count, w.work_item, NULL::text, NULL::text,
                  NULL::bigint, NULL::bigint, NULL::bigint;
    END IF;
    IF by_row THEN
        SELECT array_agg(p_slots[slot.number] ORDER BY slot.place), array_agg(p_runtimes[slot.number] ORDER BY slot.place)
        INTO owners, runtimes FROM unnest(p_waiting) WITH ORDINALITY AS slot (number, place);
        -- The sessions that have work and no owner, in the order of their work, as many as slots wait.
        FOR bound IN
            SELECT w.session_id FROM "{schema}".worker_queue w
            WHERE w.session_id IS NOT NULL AND w.visible_at <= now_at
              AND (w.lock_token IS NULL OR w.locked_until <= now_ms)
              AND NOT EXISTS (SELECT 1 FROM "{schema}".sessions s
                              WHERE s.session_id = w.session_id AND s.locked_until > now_ms)
              AND CASE p_tag_mode WHEN 'default_only' THEN w.tag IS NULL WHEN 'tags' THEN w.tag = ANY (p_tags)
                  WHEN 'default_and' THEN w.tag IS NULL OR w.tag = ANY (p_tags) ELSE true END
              AND w.id <> ALL (p_left_activities)
            ORDER BY w.id
        LOOP
            EXIT WHEN cardinality(new_sessions) >= cardinality(owners);
            CONTINUE WHEN bound.session_id = ANY (new_sessions);
            new_sessions := new_sessions || bound.session_id;
        END LOOP;
        IF cardinality(new_sessions) > 0 THEN
            room := p_most;
            FOR place IN 1 .. cardinality(p_most) LOOP
                room[place] := p_most[place] - (
                    SELECT count(*) FROM "{schema}".sessions s
                    WHERE s.locked_until > now_ms AND s.worker_id = ANY (ARRAY(
                        SELECT slot.name FROM unnest(p_slots, p_runtimes) AS slot (name, runtime)
                        WHERE slot.runtime = place)));
                waiting := (SELECT count(*) FROM unnest(runtimes) AS slot (runtime) WHERE slot.runtime = place);
                waiting := least(waiting, cardinality(new_sessions) - total);
                IF room[place] < waiting THEN
                    -- The sessions that have been idle for longest make room.
                    WITH idle AS (
                        SELECT s.session_id FROM "{schema}".sessions s
                        WHERE s.locked_until > now_ms AND s.last_activity_at <= now_ms - p_session_idle_ms
                          AND s.worker_id = ANY (ARRAY(
                              SELECT slot.name FROM unnest(p_slots, p_runtimes) AS slot (name, runtime)
                              WHERE slot.runtime = place))
                          AND NOT EXISTS (SELECT 1 FROM "{schema}".worker_queue w WHERE w.session_id = s.session_id)
                        ORDER BY s.last_activity_at LIMIT waiting - room[place] FOR UPDATE SKIP LOCKED
                    ), gone AS (
                        DELETE FROM "{schema}".sessions s USING idle WHERE s.session_id = idle.session_id RETURNING 1
                    )
                    SELECT count(*) INTO freed FROM gone;
                    room[place] := room[place] + freed;
                END IF;
                total := total + greatest(0, least(waiting, room[place]));
            END LOOP;
            held_back := new_sessions[total + 1:];
            new_sessions := new_sessions[:total];
        END IF;
        -- Activities are taken in the order of their ids, with a session or without. A session stays with its owner; a
        -- new one goes to the slot that has waited longest, of a runtime that may own one more.
        FOR bound IN
            SELECT w.id, w.session_id, s.worker_id FROM "{schema}".worker_queue w
            LEFT JOIN "{schema}".sessions s ON s.session_id = w.session_id AND s.locked_until > now_ms
            WHERE w.visible_at <= now_at AND (w.lock_token IS NULL OR w.locked_until <= now_ms)
              AND (w.session_id IS NULL OR s.worker_id = ANY (owners) OR w.session_id = ANY (new_sessions))
              AND CASE p_tag_mode WHEN 'default_only' THEN w.tag IS NULL WHEN 'tags' THEN w.tag = ANY (p_tags)
                  WHEN 'default_and' THEN w.tag IS NULL OR w.tag = ANY (p_tags) ELSE true END
              AND w.id <> ALL (p_left_activities)
            ORDER BY w.id LIMIT p_activities FOR UPDATE OF w SKIP LOCKED
        LOOP
            owner_of_session := NULL;
            is_new := false;
            IF bound.session_id IS NOT NULL THEN
                -- Read the owner again: an earlier round of this loop may have given the session to a slot.
                SELECT s.worker_id INTO owner_of_session FROM "{schema}".sessions s
                WHERE s.session_id = bound.session_id AND s.locked_until > now_ms;
                is_new := owner_of_session IS NULL;
                IF is_new THEN
                    place := (SELECT min(slot.place) FROM unnest(runtimes) WITH ORDINALITY AS slot (runtime, place)
                              WHERE room[slot.runtime] > 0);
                    owner_of_session := owners[place];
                ELSE
                    place := array_position(owners, owner_of_session);
                END IF;
                CONTINUE WHEN place IS NULL;
                INSERT INTO "{schema}".sessions AS s (session_id, worker_id, locked_until, last_activity_at)
                VALUES (bound.session_id, owner_of_session, now_ms + p_session_ms, now_ms)
                ON CONFLICT (session_id) DO UPDATE
                SET worker_id = EXCLUDED.worker_id, locked_until = EXCLUDED.locked_until,
                    last_activity_at = EXCLUDED.last_activity_at
                WHERE s.locked_until <= now_ms OR s.worker_id = EXCLUDED.worker_id;
                CONTINUE WHEN NOT FOUND;
                IF is_new THEN
                    room[runtimes[place]] := room[runtimes[place]] - 1;
                END IF;
                owners := owners[:place - 1] || owners[place + 1:];
                runtimes := runtimes[:place - 1] || runtimes[place + 1:];
            ELSE
                owners := owners[2:];
                runtimes := runtimes[2:];
            END IF;
            RETURN QUERY
            UPDATE "{schema}".worker_queue w
            SET lock_token = p_prefix || 'a' || w.id, locked_until = now_ms + p_activity_lease_ms,
                attempt_count = least(w.attempt_count, 2147483646) + 1
            WHERE w.id = bound.id
            RETURNING 5::smallint, w.lock_token, w.instance_id, w.id, w.attempt_count, w.work_item, owner_of_session,
                      NULL::text, is_new::integer::bigint, NULL::bigint, NULL::bigint;
        END LOOP;
        RETURN QUERY
        SELECT 11::smallint, NULL::text, NULL::text, full_runtime.number, NULL::integer, NULL::text, waiting_session.name,
               NULL::text, NULL::bigint, NULL::bigint, NULL::bigint
        FROM unnest(held_back) AS waiting_session (name),
             unnest(room) WITH ORDINALITY AS full_runtime (room, number)
        WHERE full_runtime.room <= 0;
    END IF;
    RETURN QUERY
    (SELECT 6::smallint, NULL::text, NULL::text,
            (extract(epoch FROM least(q.visible_at, now_at + interval '1 day') - now_at) * 1000)::bigint,
            NULL::integer, NULL::text, NULL::text, NULL::text, 0::bigint, NULL::bigint, NULL::bigint
     FROM "{schema}".orchestrator_queue q WHERE q.visible_at > now_at ORDER BY q.visible_at LIMIT 1)
    UNION ALL
    (SELECT 6::smallint, NULL::text, NULL::text,
            (extract(epoch FROM least(w.visible_at, now_at + interval '1 day') - now_at) * 1000)::bigint,
            NULL::integer, NULL::text, NULL::text, NULL::text, 1::bigint, NULL::bigint, NULL::bigint
     FROM "{schema}".worker_queue w WHERE w.visible_at > now_at ORDER BY w.visible_at LIMIT 1)
    UNION ALL
    SELECT 10::smallint, NULL::text, NULL::text, now_ms, NULL::integer, NULL::text, NULL::text, NULL::text,
           NULL::bigint, NULL::bigint, NULL::bigint;
END $$;

-- Finds the rows that no node can lease, since the server refuses a value of theirs. A node asks for them after
-- python_claim has failed. The rows of the answer: the table, the id of the row, its instance, and the server's
-- message. The function tries to lease each instance and each activity that is due, and takes the attempt back.
CREATE OR REPLACE FUNCTION "{schema}".python_unclaimable_{version}(
    p_lowest bigint, p_highest bigint, p_left_instances text[], p_left_activities bigint[]
) RETURNS TABLE (name text, id bigint, instance text, message text) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT waiting.instance_id, min(waiting.id) AS id
        FROM (SELECT q.instance_id, q.id FROM "{schema}".orchestrator_queue q
              WHERE q.visible_at <= clock_timestamp() AND q.instance_id <> ALL (p_left_instances)
              ORDER BY q.visible_at LIMIT 1000) AS waiting
        GROUP BY waiting.instance_id
    LOOP
        BEGIN
            PERFORM "{schema}".python_lease_{version}(
                ARRAY[found.instance_id], ARRAY['trial.' || pg_backend_pid()], 0, p_lowest, p_highest);
            RAISE EXCEPTION 'the attempt is taken back' USING ERRCODE = 'DX002';
        EXCEPTION
            WHEN SQLSTATE 'DX002' THEN
                NULL;
            WHEN data_exception THEN
                RETURN QUERY SELECT 'orchestrator_queue', found.id, found.instance_id, SQLERRM;
        END;
    END LOOP;
    FOR found IN
        SELECT w.id, w.instance_id FROM "{schema}".worker_queue w
        WHERE w.visible_at <= clock_timestamp() AND w.id <> ALL (p_left_activities)
        ORDER BY w.visible_at LIMIT 1000
    LOOP
        BEGIN
            UPDATE "{schema}".worker_queue w
            SET lock_token = 'trial.' || pg_backend_pid(), locked_until = 0,
                attempt_count = least(w.attempt_count, 2147483646) + 1
            WHERE w.id = found.id AND (w.lock_token IS NULL OR w.locked_until <= 0);
            RAISE EXCEPTION 'the attempt is taken back' USING ERRCODE = 'DX002';
        EXCEPTION
            WHEN SQLSTATE 'DX002' THEN
                NULL;
            WHEN data_exception THEN
                RETURN QUERY SELECT 'worker_queue', found.id, found.instance_id, SQLERRM;
        END;
    END LOOP;
END $$;

-- Commits a batch of operations, and leases those of its target instances that can continue at once. The rows of the
-- answer:
--
-- kind 0, one for each turn whose lease held: id (its place), stamp (when its instance was created, in microseconds, if
--   this commit created it);
-- kind 1, one for each activity whose lease held: id (its place);
-- kind 7, one for each start that was not made, since the instance exists: id (its place), name, or item (its waiting
--   start);
-- kind 8, if the batch records something that must be recorded once: id (the transaction), stamp (the last checkpoint:
--   as long as it is the last one, the server has not crashed, and has not given the number of the transaction to
--   another one);
-- kind 9, one for each activity that was scheduled and leased: token, id;
-- kinds 2 to 4 and 12, the leased targets, as above.
CREATE OR REPLACE FUNCTION "{schema}".python_commit_{version}(
    p_turn_tokens text[], p_turn_instances text[], p_turn_executions bigint[], p_turn_records boolean[],
    p_turn_names text[], p_turn_versions text[], p_turn_parents text[], p_turn_statuses text[], p_turn_outputs text[],
    p_turn_majors integer[], p_turn_minors integer[], p_turn_patches integer[],
    p_turn_custom_sets boolean[], p_turn_customs text[],
    p_read_turns integer[], p_read_ids bigint[],
    p_event_turns integer[], p_event_ids bigint[], p_event_types text[], p_event_data text[],
    p_key_turns integer[], p_key_actions text[], p_keys text[], p_key_values text[], p_key_times bigint[],
    p_cancelled_turns integer[], p_cancelled_instances text[], p_cancelled_executions bigint[],
    p_cancelled_ids bigint[],
    p_hold_turns integer[], p_hold_ids bigint[], p_hold_ms bigint[],
    p_activity_turns integer[], p_activity_items text[], p_activity_instances text[], p_activity_executions bigint[],
    p_activity_ids bigint[], p_activity_sessions text[], p_activity_tags text[], p_activity_tokens text[],
    p_activity_lease_ms bigint,
    p_sent_turns integer[], p_sent_instances text[], p_sent_items text[], p_sent_delays_ms bigint[],
    p_ended_ids bigint[], p_ended_tokens text[], p_ended_instances text[], p_ended_items text[],
    p_start_instances text[], p_start_items text[],
    p_targets text[], p_target_tokens text[], p_lease_ms bigint, p_lowest bigint, p_highest bigint
) RETURNS TABLE (
    kind smallint, token text, instance text, id bigint, attempt integer, item text,
    name text, version text, execution bigint, last_event bigint, stamp bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    now_ms bigint;
    now_at timestamptz;
    starts text[];
    held integer[];
    place integer;
    ended bigint[];
    ended_tokens text[];
    ended_sessions text[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the transaction must be read committed' USING ERRCODE = 'DX001';
    END IF;
    -- The starts by clients, and those that turns send.
    starts := p_start_instances;
    IF cardinality(p_sent_items) > 0 THEN
        starts := starts || ARRAY(
            SELECT sent.instance FROM unnest(p_sent_instances, p_sent_items) AS sent (instance, item)
            WHERE sent.item LIKE '{"StartOrchestration":%');
    END IF;
    -- These locks come first, so that no transaction that holds another lock waits for them. Starts of one id take the
    -- same lock, so that a start that was acknowledged comes first.
    IF cardinality(starts) > 0 THEN
        PERFORM "{schema}".python_lock_starts_{version}(starts);
    END IF;
    now_ms := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    now_at := to_timestamp(now_ms / 1000.0);

    IF cardinality(p_turn_tokens) > 0 THEN
        WITH freed AS (
            DELETE FROM "{schema}".instance_locks l
            WHERE l.instance_id = ANY (p_turn_instances) AND l.lock_token = ANY (p_turn_tokens)
              AND l.locked_until + 0 > now_ms
            RETURNING l.lock_token
        )
        SELECT array_agg(turn.place::integer) INTO held
        FROM unnest(p_turn_tokens) WITH ORDINALITY AS turn (token, place), freed WHERE freed.lock_token = turn.token;
        held := coalesce(held, '{}');

        IF cardinality(p_read_ids) > 0 THEN
            DELETE FROM "{schema}".orchestrator_queue q
            WHERE q.id = ANY (ARRAY(
                SELECT r.id FROM unnest(p_read_turns, p_read_ids) AS r (turn, id) WHERE r.turn = ANY (held)));
        END IF;

        IF true = ANY (p_turn_records) THEN
            INSERT INTO "{schema}".instances AS i
                (instance_id, orchestration_name, orchestration_version, current_execution_id, parent_instance_id,
                 created_at, updated_at)
            SELECT turn.instance, turn.name, turn.version, turn.execution, turn.parent, now_at, now_at
            FROM unnest(p_turn_instances, p_turn_executions, p_turn_names, p_turn_versions, p_turn_parents)
                 WITH ORDINALITY AS turn (instance, execution, name, version, parent, place)
            WHERE turn.name IS NOT NULL AND turn.version IS NOT NULL AND turn.place = ANY (held)
            ON CONFLICT (instance_id) DO UPDATE
            SET orchestration_name = EXCLUDED.orchestration_name,
                orchestration_version = EXCLUDED.orchestration_version,
                parent_instance_id = coalesce(i.parent_instance_id, EXCLUDED.parent_instance_id),
                current_execution_id = greatest(i.current_execution_id, EXCLUDED.current_execution_id),
                updated_at = EXCLUDED.updated_at;
            UPDATE "{schema}".instances i
            SET current_execution_id = greatest(i.current_execution_id, turn.execution), updated_at = now_at
            FROM unnest(p_turn_instances, p_turn_executions, p_turn_names, p_turn_versions, p_turn_records)
                 WITH ORDINALITY AS turn (instance, execution, name, version, records, place)
            WHERE i.instance_id = turn.instance AND turn.records AND (turn.name IS NULL OR turn.version IS NULL)
              AND turn.place = ANY (held);
            INSERT INTO "{schema}".executions AS x
                (instance_id, execution_id, status, output, started_at, completed_at,
                 duroxide_version_major, duroxide_version_minor, duroxide_version_patch)
            SELECT turn.instance, turn.execution, coalesce(turn.status, 'Running'), turn.output, now_at,
                   CASE WHEN turn.status IN ('Completed', 'Failed') THEN now_at END, turn.major, turn.minor, turn.patch
            FROM unnest(p_turn_instances, p_turn_executions, p_turn_statuses, p_turn_outputs, p_turn_majors,
                        p_turn_minors, p_turn_patches, p_turn_records)
                 WITH ORDINALITY AS turn (instance, execution, status, output, major, minor, patch, records, place)
            WHERE turn.records AND turn.place = ANY (held)
            ON CONFLICT (instance_id, execution_id) DO UPDATE
            SET status = CASE WHEN EXCLUDED.status = 'Running' THEN x.status ELSE EXCLUDED.status END,
                output = CASE WHEN EXCLUDED.status = 'Running' THEN x.output ELSE EXCLUDED.output END,
                completed_at = CASE WHEN EXCLUDED.status = 'Running' THEN x.completed_at ELSE EXCLUDED.completed_at END,
                duroxide_version_major = coalesce(EXCLUDED.duroxide_version_major, x.duroxide_version_major),
                duroxide_version_minor = coalesce(EXCLUDED.duroxide_version_minor, x.duroxide_version_minor),
                duroxide_version_patch = coalesce(EXCLUDED.duroxide_version_patch, x.duroxide_version_patch);
        END IF;

        IF cardinality(p_event_ids) > 0 THEN
            INSERT INTO "{schema}".history (instance_id, execution_id, event_id, event_type, event_data, created_at)
            SELECT p_turn_instances[event.turn], p_turn_executions[event.turn], event.id, event.type, event.data, now_at
            FROM unnest(p_event_turns, p_event_ids, p_event_types, p_event_data) AS event (turn, id, type, data)
            WHERE event.turn = ANY (held);
        END IF;

        IF true = ANY (p_turn_custom_sets) THEN
            UPDATE "{schema}".instances i
            SET custom_status = turn.custom, custom_status_version = least(i.custom_status_version, 2147483646) + 1
            FROM unnest(p_turn_instances, p_turn_custom_sets, p_turn_customs)
                 WITH ORDINALITY AS turn (instance, sets, custom, place)
            WHERE i.instance_id = turn.instance AND turn.sets AND turn.place = ANY (held);
        END IF;

        IF cardinality(p_keys) > 0 THEN
            FOR place IN 1 .. cardinality(p_keys) LOOP
                CONTINUE WHEN p_key_turns[place] <> ALL (held);
                IF p_key_actions[place] = 'clear_all' THEN
                    UPDATE "{schema}".kv_delta d SET value = NULL, last_updated_at_ms = p_key_times[place]
                    WHERE d.instance_id = p_turn_instances[p_key_turns[place]];
                    INSERT INTO "{schema}".kv_delta (instance_id, key, value, last_updated_at_ms)
                    SELECT k.instance_id, k.key, NULL, p_key_times[place] FROM "{schema}".kv_store k
                    WHERE k.instance_id = p_turn_instances[p_key_turns[place]]
                    ON CONFLICT (instance_id, key) DO NOTHING;
                ELSE
                    INSERT INTO "{schema}".kv_delta (instance_id, key, value, last_updated_at_ms)
                    VALUES (p_turn_instances[p_key_turns[place]], p_keys[place], p_key_values[place],
                            p_key_times[place])
                    ON CONFLICT (instance_id, key) DO UPDATE
                    SET value = EXCLUDED.value, last_updated_at_ms = EXCLUDED.last_updated_at_ms;
                END IF;
            END LOOP;
        END IF;
        IF EXISTS (SELECT 1 FROM unnest(p_turn_statuses) AS status WHERE status IS NOT NULL) THEN
            FOR place IN
                SELECT turn.place FROM unnest(p_turn_instances, p_turn_statuses)
                     WITH ORDINALITY AS turn (instance, status, place)
                WHERE turn.status IN ('Completed', 'Failed', 'ContinuedAsNew') AND turn.place = ANY (held)
                  AND (SELECT true FROM "{schema}".kv_delta d WHERE d.instance_id = turn.instance LIMIT 1)
            LOOP
                INSERT INTO "{schema}".kv_store (instance_id, key, value, execution_id, last_updated_at_ms)
                SELECT d.instance_id, d.key, d.value, p_turn_executions[place], d.last_updated_at_ms
                FROM "{schema}".kv_delta d
                WHERE d.instance_id = p_turn_instances[place] AND d.value IS NOT NULL
                ON CONFLICT (instance_id, key) DO UPDATE
                SET value = EXCLUDED.value, execution_id = EXCLUDED.execution_id,
                    last_updated_at_ms = EXCLUDED.last_updated_at_ms;
                DELETE FROM "{schema}".kv_store k USING "{schema}".kv_delta d
                WHERE k.instance_id = p_turn_instances[place] AND d.instance_id = k.instance_id AND d.key = k.key
                  AND d.value IS NULL;
                DELETE FROM "{schema}".kv_delta d WHERE d.instance_id = p_turn_instances[place];
            END LOOP;
        END IF;

        IF cardinality(p_activity_items) > 0 THEN
            RETURN QUERY
            INSERT INTO "{schema}".worker_queue AS w
                (work_item, visible_at, created_at, instance_id, execution_id, activity_id, session_id, tag,
                 lock_token, locked_until, attempt_count)
            SELECT activity.item, now_at, now_at, activity.instance, activity.execution, activity.id, activity.session,
                   activity.tag, activity.token,
                   CASE WHEN activity.token IS NOT NULL THEN now_ms + p_activity_lease_ms END,
                   CASE WHEN activity.token IS NOT NULL THEN 1 ELSE 0 END
            FROM unnest(p_activity_turns, p_activity_items, p_activity_instances, p_activity_executions, p_activity_ids,
                        p_activity_sessions, p_activity_tags, p_activity_tokens)
                 AS activity (turn, item, instance, execution, id, session, tag, token)
            WHERE activity.turn = ANY (held)
            RETURNING 9::smallint, w.lock_token, NULL::text, w.id, NULL::integer, NULL::text, NULL::text, NULL::text,
                      NULL::bigint, NULL::bigint, NULL::bigint;
        END IF;
        IF cardinality(p_cancelled_ids) > 0 THEN
            DELETE FROM "{schema}".worker_queue w
            USING unnest(p_cancelled_turns, p_cancelled_instances, p_cancelled_executions, p_cancelled_ids)
                  AS cancelled (turn, instance, execution, id)
            WHERE w.instance_id = cancelled.instance AND w.execution_id = cancelled.execution
              AND w.activity_id = cancelled.id AND cancelled.turn = ANY (held);
        END IF;
        IF cardinality(p_hold_ids) > 0 THEN
            UPDATE "{schema}".orchestrator_queue q
            SET visible_at = CASE WHEN hold.ms > 0 THEN now_at + hold.ms * interval '1 millisecond'
                                  ELSE least(q.created_at, now_at) END,
                created_at = least(q.created_at, now_at),
                lock_token = CASE WHEN hold.ms > 0 THEN 'held' END,
                locked_until = CASE WHEN hold.ms > 0 THEN now_ms + hold.ms END
            FROM unnest(p_hold_turns, p_hold_ids, p_hold_ms) AS hold (turn, id, ms)
            WHERE q.id = hold.id AND hold.turn = ANY (held);
        END IF;
        RETURN QUERY
        SELECT 0::smallint, NULL::text, NULL::text, turn.place::bigint, NULL::integer, NULL::text, NULL::text,
               NULL::text, NULL::bigint, NULL::bigint,
               CASE WHEN p_turn_names[turn.place] IS NOT NULL
                    THEN (SELECT (extract(epoch FROM least(greatest(i.created_at, to_timestamp(0)),
                                                           to_timestamp(253402300800))) * 1000000)::bigint
                          FROM "{schema}".instances i WHERE i.instance_id = p_turn_instances[turn.place]) END
        FROM unnest(held) AS turn (place);
    END IF;

    IF cardinality(p_ended_ids) > 0 THEN
        WITH freed AS (
            DELETE FROM "{schema}".worker_queue w
            WHERE w.id = ANY (p_ended_ids) AND w.lock_token || '' = ANY (p_ended_tokens) AND w.locked_until + 0 > now_ms
            RETURNING w.lock_token, w.session_id
        )
        SELECT array_agg(freed.lock_token), array_agg(freed.session_id) FILTER (WHERE freed.session_id IS NOT NULL)
        INTO ended_tokens, ended_sessions FROM freed;
        -- The token tells the ends of one activity apart: a batch may hold the end of a lost lease beside that of the new
        -- one. Of two ends with one token, the first counts.
        ended := ARRAY(
            SELECT min(activity.place) FROM unnest(p_ended_tokens) WITH ORDINALITY AS activity (token, place)
            WHERE activity.token = ANY (ended_tokens) GROUP BY activity.token);
        IF ended_sessions IS NOT NULL THEN
            UPDATE "{schema}".sessions s SET last_activity_at = now_ms
            WHERE s.session_id = ANY (ended_sessions) AND s.locked_until > now_ms;
        END IF;
        RETURN QUERY
        SELECT 1::smallint, NULL::text, NULL::text, activity.place, NULL::integer, NULL::text, NULL::text, NULL::text,
               NULL::bigint, NULL::bigint, NULL::bigint
        FROM unnest(ended) AS activity (place);
    END IF;

    IF cardinality(p_start_instances) > 0 THEN
        RETURN QUERY
        WITH known AS MATERIALIZED (
            SELECT start.place, start.instance, start.item AS new_item, running.name, running.item
            FROM unnest(p_start_instances, p_start_items) WITH ORDINALITY AS start (instance, item, place)
            LEFT JOIN LATERAL (
                (SELECT i.orchestration_name AS name, NULL::text AS item FROM "{schema}".instances i
                 WHERE i.instance_id = start.instance)
                UNION ALL
                (SELECT NULL::text, q.work_item FROM "{schema}".orchestrator_queue q
                 WHERE q.instance_id = start.instance AND q.work_item LIKE '{"StartOrchestration":%'
                 ORDER BY q.id LIMIT 1)
                LIMIT 1) AS running ON true
        ), started AS (
            INSERT INTO "{schema}".orchestrator_queue (instance_id, work_item, visible_at, created_at)
            SELECT known.instance, known.new_item, now_at, now_at FROM known
            WHERE known.name IS NULL AND known.item IS NULL ORDER BY known.place
        )
        SELECT 7::smallint, NULL::text, NULL::text, known.place, NULL::integer, known.item, known.name, NULL::text,
               NULL::bigint, NULL::bigint, NULL::bigint
        FROM known WHERE known.name IS NOT NULL OR known.item IS NOT NULL;
    END IF;

    -- The messages are inserted after the starts, so that a message of this batch comes after the start of its
    -- instance.
    IF cardinality(p_sent_items) > 0 OR cardinality(p_ended_items) > 0 THEN
        INSERT INTO "{schema}".orchestrator_queue (instance_id, work_item, visible_at, created_at)
        SELECT message.instance, message.item, now_at + coalesce(message.delay_ms, 0) * interval '1 millisecond', now_at
        FROM (
            SELECT activity.instance, activity.item, NULL::bigint AS delay_ms, 0::bigint AS kind, activity.place
            FROM unnest(p_ended_instances, p_ended_items) WITH ORDINALITY AS activity (instance, item, place)
            WHERE activity.item IS NOT NULL AND activity.place = ANY (ended)
            UNION ALL
            SELECT sent.instance, sent.item, sent.delay_ms, 1, sent.place
            FROM unnest(p_sent_turns, p_sent_instances, p_sent_items, p_sent_delays_ms)
                 WITH ORDINALITY AS sent (turn, instance, item, delay_ms, place)
            WHERE sent.turn = 0 OR sent.turn = ANY (held)
            ORDER BY kind, place
        ) AS message;
    END IF;

    IF cardinality(p_targets) > 0 THEN
        RETURN QUERY SELECT * FROM "{schema}".python_lease_{version}(
            p_targets, p_target_tokens, p_lease_ms, p_lowest, p_highest);
    END IF;
    IF cardinality(p_start_instances) > 0 OR 0 = ANY (p_sent_turns) THEN
        RETURN QUERY
        SELECT 8::smallint, NULL::text, NULL::text, pg_current_xact_id()::text::bigint, NULL::integer, NULL::text,
               NULL::text, NULL::text, NULL::bigint, NULL::bigint, (c.checkpoint_lsn - '0/0')::bigint
        FROM pg_control_checkpoint() AS c;
    END IF;
END $$;

-- Gives the lease of a turn back. The messages that the turn had read become visible again after the delay, and count
-- as tried if p_counts is true.
CREATE OR REPLACE FUNCTION "{schema}".python_give_back_turn_{version}(
    p_instance text, p_token text, p_read_ids bigint[], p_delay_ms bigint, p_counts boolean
) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
BEGIN
    DELETE FROM "{schema}".instance_locks l WHERE l.instance_id = p_instance AND l.lock_token = p_token;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_counts OR p_delay_ms > 0 THEN
        UPDATE "{schema}".orchestrator_queue q
        SET attempt_count = least(q.attempt_count, 2147483646) + CASE WHEN p_counts THEN 1 ELSE 0 END,
            visible_at = CASE WHEN p_delay_ms > 0 THEN clock_timestamp() + p_delay_ms * interval '1 millisecond'
                              ELSE q.visible_at END
        WHERE q.id = ANY (p_read_ids);
    END IF;
    RETURN true;
END $$;

-- Repairs the times after the server's clock was set back. What was sent at a time still to come counts as sent now, and
-- keeps its delay. With p_longest_ms, no lease lasts longer than that from now, and no pause of a message or an activity;
-- timers may be longer. This waits for no row: what another transaction works on now is repaired by the next call.
CREATE OR REPLACE FUNCTION "{schema}".python_set_back_{version}(p_longest_ms bigint) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
    latest bigint := (extract(epoch FROM now_at) * 1000)::bigint + p_longest_ms;
    latest_at timestamptz := now_at + p_longest_ms * interval '1 millisecond';
BEGIN
    UPDATE "{schema}".orchestrator_queue q
    SET visible_at = CASE WHEN q.created_at > now_at
                          THEN q.visible_at - (least(q.created_at, now_at + interval '1000 years') - now_at)
                          ELSE now_at END,
        created_at = least(q.created_at, now_at)
    WHERE q.id = ANY (ARRAY(
        SELECT ahead.id FROM "{schema}".orchestrator_queue ahead
        WHERE ahead.visible_at > now_at
          AND (ahead.created_at > now_at
               OR ahead.visible_at > latest_at AND ahead.work_item NOT LIKE '{"TimerFired":%')
        FOR UPDATE SKIP LOCKED));
    UPDATE "{schema}".worker_queue w SET visible_at = now_at, created_at = least(w.created_at, now_at)
    WHERE w.id = ANY (ARRAY(
        SELECT ahead.id FROM "{schema}".worker_queue ahead
        WHERE ahead.visible_at > now_at AND (ahead.created_at > now_at OR ahead.visible_at > latest_at)
        FOR UPDATE SKIP LOCKED));
    UPDATE "{schema}".instance_locks l SET locked_until = latest
    WHERE l.instance_id = ANY (ARRAY(
        SELECT ahead.instance_id FROM "{schema}".instance_locks ahead WHERE ahead.locked_until > latest
        FOR UPDATE SKIP LOCKED));
    UPDATE "{schema}".worker_queue w SET locked_until = latest
    WHERE w.id = ANY (ARRAY(
        SELECT ahead.id FROM "{schema}".worker_queue ahead WHERE ahead.locked_until > latest
        FOR UPDATE SKIP LOCKED));
END $$;

-- Sends a message for an application, in the application's own transaction: a start, an event or a message of a queue. It
-- runs with the rights of its owner, so an application needs no right on a table. It refuses all other messages, for
-- example the result of an activity. Applications of other versions call it, so its name and its parameters never change.
CREATE OR REPLACE FUNCTION "{schema}".python_send(p_instance text, p_item text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kinds text[];
    body json;
BEGIN
    SELECT array_agg(key), json_agg(value) -> 0 INTO kinds, body FROM json_each(p_item::json);
    IF kinds IS NULL OR cardinality(kinds) <> 1
       OR kinds[1] NOT IN ('StartOrchestration', 'ExternalRaised', 'QueueMessage')
       -- Nodes know starts by the beginning of their text.
       OR p_item NOT LIKE '{"' || kinds[1] || '":%'
       OR (body ->> 'instance') IS DISTINCT FROM p_instance
       OR (body ->> 'parent_instance') IS NOT NULL OR (body ->> 'parent_id') IS NOT NULL
       OR coalesce(body ->> 'execution_id', '1') <> '1' THEN
        RAISE EXCEPTION 'an application may send a start, an event or a message of a queue to the instance that it names'
            USING ERRCODE = '42501';
    END IF;
    INSERT INTO "{schema}".orchestrator_queue (instance_id, work_item, visible_at, created_at)
    VALUES (p_instance, p_item, now(), now());
END $$;
REVOKE ALL ON FUNCTION "{schema}".python_send(text, text) FROM PUBLIC;
-- Up to version 0.3, an application needed the right to insert into the queue.
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN
        SELECT DISTINCT CASE WHEN entry.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(entry.grantee)) END
        FROM pg_class c, aclexplode(c.relacl) AS entry
        WHERE c.oid = '"{schema}".orchestrator_queue'::regclass AND entry.privilege_type = 'INSERT'
    LOOP
        EXECUTE 'GRANT EXECUTE ON FUNCTION "{schema}".python_send(text, text) TO ' || role;
    END LOOP;
END $$;
