-- Lease parked tasks of known names.
CREATE OR REPLACE FUNCTION adopt(
    given double precision, who text, names text[], queues text[], want integer
) RETURNS TABLE (
    body bytea, execution integer, counters bytea, cancel text, worker text, at double precision
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    clock double precision := now_or(given);
BEGIN
    IF NOT EXISTS (SELECT 1 FROM parked) OR NOT EXISTS (
        SELECT 1 FROM worker w WHERE w.id = who AND w.until > clock AND NOT w.swept
    ) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM gated) THEN
        PERFORM pg_current_xact_id();  -- before the clock, as in push
        -- However few this worker wants: a step takes them, and not past their gates.
        PERFORM unpark(now_or(given), names, queues, greatest(want, 1000));
    END IF;
    RETURN QUERY WITH taken AS (
        DELETE FROM parked WHERE ctid = ANY (ARRAY(
            SELECT p.ctid FROM parked p
            WHERE p.name = ANY (names) AND p.queue = ANY (queues) AND NOT EXISTS (
                SELECT 1 FROM queue q WHERE q.name = p.queue AND q.pause IS NOT NULL)
                -- More gated ones may be parked than `unpark` has taken, or just have been.
                AND NOT EXISTS (SELECT 1 FROM gated g WHERE g.id = p.id)
            ORDER BY p.id LIMIT want FOR UPDATE SKIP LOCKED))
        RETURNING id, queue
    ), leased AS (
        INSERT INTO lease (id, execution, worker, at, queue)
        SELECT k.id, t.execution + 1, who, clock, k.queue FROM taken k JOIN task t ON t.id = k.id
        RETURNING id, execution, queue
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, l.queue, 3, l.execution, array_agg(l.id) FROM leased l
        GROUP BY l.queue, l.execution
    )
    SELECT t.body, l.execution, t.counters, NULL::text, who, clock
    FROM leased l JOIN task t ON t.id = l.id ORDER BY t.id;
END $$;

-- Take a task from where it waits; false when it is not there (any more).
CREATE OR REPLACE FUNCTION leave(which uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    gone boolean;
BEGIN
    DELETE FROM due d WHERE d.id = which;
    IF FOUND THEN
        RETURN true;
    END IF;
    DELETE FROM parked p WHERE p.id = which;
    IF FOUND THEN
        RETURN true;
    END IF;
    IF leave_lane(which) THEN
        RETURN true;
    END IF;
    DELETE FROM ready r WHERE r.id = which AND r.promoted;
    IF FOUND THEN
        RETURN true;
    END IF;
    DELETE FROM ready r USING task t
    WHERE t.id = which AND r.queue = t.queue AND r.priority = t.priority AND r.vtime = t.place
        AND r.execution = t.execution AND r.id = t.id;
    RETURN FOUND;
END $$;

-- Ask tasks to stop. Tells each one's state afterwards, and rings for the workers that run one.
-- A task may move from one table to the next between two looks, so it is looked for again.
CREATE OR REPLACE FUNCTION cancel(
    given double precision, ids uuid[], why text
) RETURNS TABLE (id uuid, state smallint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    clock double precision := now_or(given);
    which uuid;
    runner text;
BEGIN
    FOR which IN SELECT i FROM unnest(ids) AS i ORDER BY 1 LOOP
        id := which;
        state := NULL;
        FOR look IN 1 .. 100 LOOP
            SELECT f.state INTO state FROM finished f WHERE f.id = which;
            EXIT WHEN FOUND;
            UPDATE lease l SET cancel = coalesce(l.cancel, why) WHERE l.id = which
                RETURNING l.worker INTO runner;
            IF FOUND THEN
                state := 3;
                PERFORM pg_notify(current_schema(), 'w' || runner);
                EXIT;
            END IF;
            IF leave(which) THEN
                state := 7;
                INSERT INTO finished (id, state, execution, at, prune_at, reason)
                    SELECT t.id, 7, t.execution, clock, clock + dead_retention(), why
                    FROM task t WHERE t.id = which;
                UPDATE idem i SET expires = clock + retention() WHERE i.id = which;
                INSERT INTO event (at, queue, state, execution, ids)
                    SELECT clock, t.queue, 7, t.execution, ARRAY[which]
                    FROM task t WHERE t.id = which;
                EXIT;
            END IF;
            -- Pruned while we looked.
            EXIT WHEN NOT EXISTS (SELECT 1 FROM task t WHERE t.id = which);
        END LOOP;
        CONTINUE WHEN state IS NULL;
        RETURN NEXT;
    END LOOP;
    PERFORM bury_cancelled(ids);
END $$;

-- Give dead letters another life; make scheduled tasks due. Tells the ids that changed.
CREATE OR REPLACE FUNCTION requeue(given double precision, ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    clock double precision;
    changed uuid[];
    which text;
BEGIN
    PERFORM pg_current_xact_id();  -- before the clock, as in push
    clock := now_or(given);
    WITH dead AS (
        DELETE FROM finished f WHERE f.id = ANY (ids) AND f.state IN (6, 7)
        RETURNING f.id, f.execution, f.last
    ), kept AS (
        INSERT INTO execution SELECT d.id, d.execution, d.last FROM dead d
        WHERE d.last IS NOT NULL ON CONFLICT DO NOTHING
    ), held AS (
        UPDATE idem i SET expires = NULL FROM dead d WHERE i.id = d.id
    ), fresh AS (
        UPDATE task t SET execution = d.execution, counters = NULL, error = NULL, reason = NULL,
            place = clock - 60 * t.priority
        FROM dead d WHERE t.id = d.id
        RETURNING t.id, t.queue, t.priority, t.execution
    ), early AS (
        DELETE FROM due d WHERE d.id = ANY (ids) RETURNING d.id
    ), hurried AS (
        UPDATE task t SET place = clock - 60 * t.priority FROM early e WHERE t.id = e.id
        RETURNING t.id, t.queue, t.priority, t.execution
    ), again AS (
        SELECT * FROM fresh UNION ALL SELECT * FROM hurried
    ), placed AS (
        INSERT INTO ready
        SELECT a.queue, a.priority, clock - 60 * a.priority, a.execution, a.id FROM again a
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, a.queue, 2, a.execution, array_agg(a.id) FROM again a
        GROUP BY a.queue, a.execution
    )
    SELECT array_agg(a.id) INTO changed FROM again a;
    IF EXISTS (SELECT 1 FROM gated) THEN
        PERFORM to_lanes(changed, false);
    END IF;
    FOR which IN SELECT DISTINCT t.queue FROM task t WHERE t.id = ANY (changed) LOOP
        PERFORM pg_notify(current_schema(), 'q' || which);
    END LOOP;
    RETURN coalesce(changed, '{}');
END $$;

-- Let scheduled tasks be due at another time. Tells the ids that were scheduled.
CREATE OR REPLACE FUNCTION reschedule(
    given double precision, ids uuid[], delay double precision, until double precision
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    clock double precision := now_or(given);
    at double precision := coalesce(until, clock + coalesce(delay, 0));
    changed uuid[];
    which text;
BEGIN
    -- In one order, so that two of these never wait for each other.
    WITH found AS (
        SELECT d.id FROM due d WHERE d.id = ANY (ids) ORDER BY d.id FOR UPDATE
    ), moved AS (
        UPDATE due d SET due = at FROM found f WHERE d.id = f.id RETURNING d.id
    ), noted AS (
        UPDATE task t SET place = at FROM moved m WHERE t.id = m.id
    )
    SELECT array_agg(m.id) INTO changed FROM moved m;
    FOR which IN SELECT DISTINCT t.queue FROM task t WHERE t.id = ANY (changed) LOOP
        PERFORM pg_notify(current_schema(), 'q' || which);
    END LOOP;
    RETURN coalesce(changed, '{}');
END $$;

-- Delete dead letters for good. Tells the ids deleted.
CREATE OR REPLACE FUNCTION discard(ids uuid[]) RETURNS uuid[] LANGUAGE sql AS $$
    WITH dead AS (
        DELETE FROM finished f WHERE f.id = ANY (ids) AND f.state IN (6, 7) RETURNING f.id
    ), bodies AS (
        DELETE FROM task t USING dead d WHERE t.id = d.id
    ), records AS (
        DELETE FROM execution e USING dead d WHERE e.id = d.id
    ), keys AS (
        DELETE FROM idem i USING dead d WHERE i.id = d.id
    )
    SELECT coalesce(array_agg(d.id), '{}') FROM dead d
$$;

-- Promote what is due in every queue and ring for it; prune what is past its time.
CREATE OR REPLACE FUNCTION tidy(
    given double precision, most integer, OUT promoted integer, OUT pruned integer
) LANGUAGE plpgsql AS $$
DECLARE
    clock double precision := now_or(given);
    which text;
    moved integer;
BEGIN
    promoted := 0;
    FOR which IN SELECT q.name FROM queue q WHERE EXISTS (
        SELECT 1 FROM due d WHERE d.queue = q.name AND d.due <= clock
    ) LOOP
        moved := promote(given, which, most);
        promoted := promoted + moved;
        PERFORM pg_notify(current_schema(), 'q' || which);
    END LOOP;
    WITH old AS (
        DELETE FROM finished WHERE ctid = ANY (ARRAY(
            SELECT f.ctid FROM finished f WHERE f.prune_at <= clock
            ORDER BY f.prune_at LIMIT most FOR UPDATE SKIP LOCKED))
        RETURNING id
    ), bodies AS (
        DELETE FROM task t USING old o WHERE t.id = o.id
    ), records AS (
        DELETE FROM execution e USING old o WHERE e.id = o.id
    )
    SELECT count(*) INTO pruned FROM old;
    pruned := pruned + tidy_terms(clock, most);
    DELETE FROM idem WHERE ctid = ANY (ARRAY(
        SELECT i.ctid FROM idem i WHERE i.expires <= clock LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS moved = ROW_COUNT;
    pruned := pruned + moved;
    -- A swept one is remembered for as long as it might come back and ask to be renewed.
    DELETE FROM worker WHERE ctid = ANY (ARRAY(
        SELECT w.ctid FROM worker w
        WHERE w.until <= clock - CASE WHEN w.swept THEN dead_retention() ELSE retention() END
            AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.worker = w.id)
        LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS moved = ROW_COUNT;
    pruned := pruned + moved;
    -- Seq and time rise together, so the first ones are the oldest.
    DELETE FROM event WHERE seq IN (
        SELECT e.seq FROM event e ORDER BY e.seq LIMIT most) AND at <= clock - retention();
    GET DIAGNOSTICS moved = ROW_COUNT;
    pruned := pruned + moved;
END $$;
