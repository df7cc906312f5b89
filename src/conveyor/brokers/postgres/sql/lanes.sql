-- Lanes: how gated tasks come into one, leave it, and end.

-- Put tasks in their lanes: those that are due in the order of vtimes. A task that kept its slot
-- through a retry gets a lane of its own: nothing may come between it and its turn, and the lane
-- that waits for it need not be touched. Lanes are made in their order, before any gate is locked.
CREATE OR REPLACE FUNCTION enter_lanes(ids uuid[], vtimes double precision[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    of_queues text[];
    lanes uuid[];
    starts double precision[];
    priorities smallint[];
    firsts uuid[];
    kept integer;
    is_low boolean;
BEGIN
    WITH placed AS (
        INSERT INTO waiting
        SELECT t.queue, CASE WHEN EXISTS (SELECT 1 FROM slot s WHERE s.id = g.id AND s.line)
            THEN g.id ELSE g.lane END, m.vtime, t.execution, g.id
        FROM unnest(ids, vtimes) AS m (id, vtime)
        JOIN gated g ON g.id = m.id JOIN task t ON t.id = m.id
        RETURNING queue, lane, vtime, id
    ), found AS (
        SELECT p.queue, p.lane, min(p.vtime) AS vtime, min(p.id::text)::uuid AS first
        FROM placed p GROUP BY p.queue, p.lane ORDER BY p.queue, p.lane
    )
    SELECT array_agg(f.queue), array_agg(f.lane), array_agg(f.vtime), array_agg(t.priority),
        array_agg(f.first)
    INTO of_queues, lanes, starts, priorities, firsts FROM found f JOIN task t ON t.id = f.first;
    IF lanes IS NULL THEN
        RETURN;
    END IF;
    LOOP
        SELECT count(*), bool_or(k.is_low) INTO kept, is_low FROM (
            SELECT l.low > w.start AS is_low FROM unnest(of_queues, lanes, starts) AS w (queue, id, start)
            JOIN lane l ON l.queue = w.queue AND l.id = w.id FOR KEY SHARE OF l) k;
        IF is_low THEN
            -- The clock went back, or another one made the lane just now.
            UPDATE lane o SET low = '-infinity' WHERE o.ctid = ANY (ARRAY(
                SELECT l.ctid FROM unnest(of_queues, lanes, starts) AS w (queue, id, start)
                JOIN lane l ON l.queue = w.queue AND l.id = w.id
                WHERE l.low > w.start ORDER BY l.queue, l.id FOR NO KEY UPDATE OF l));
        END IF;
        EXIT WHEN kept = cardinality(lanes);
        INSERT INTO gate (id) SELECT DISTINCT t.gate FROM toll t WHERE t.id = ANY (firsts)
            AND NOT EXISTS (SELECT 1 FROM gate g WHERE g.id = t.gate) ORDER BY t.gate
        ON CONFLICT DO NOTHING;
        INSERT INTO lane (queue, id, priority, vtime, low)
        SELECT w.queue, w.id, w.priority, w.vtime, w.vtime
        FROM unnest(of_queues, lanes, starts, priorities) AS w (queue, id, vtime, priority)
        WHERE NOT EXISTS (SELECT 1 FROM lane l WHERE l.queue = w.queue AND l.id = w.id)
        ORDER BY w.queue, w.id
        ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- Move those of the tasks that are gated from the plain line, where they have just been put, to
-- their lanes.
CREATE OR REPLACE FUNCTION to_lanes(ids uuid[], are_promoted boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved uuid[];
    vtimes double precision[];
BEGIN
    WITH gone AS (
        DELETE FROM ready r USING gated g, task t
        WHERE NOT are_promoted AND g.id = ANY (ids) AND t.id = g.id
            AND r.queue = t.queue AND r.priority = t.priority AND r.vtime = t.place
            AND r.execution = t.execution AND r.id = t.id
        RETURNING r.id, r.vtime
    ), due_before AS (
        DELETE FROM ready r USING gated g
        WHERE are_promoted AND g.id = ANY (ids) AND r.id = g.id AND r.promoted
        RETURNING r.id, r.vtime
    ), both_kinds AS (
        SELECT * FROM gone UNION ALL SELECT * FROM due_before
    )
    SELECT array_agg(g.id), array_agg(g.vtime) INTO moved, vtimes FROM both_kinds g;
    IF moved IS NOT NULL THEN
        PERFORM enter_lanes(moved, vtimes);
    END IF;
END $$;

-- Gated tasks are never adopted past their gates: they go (back) to their lanes.
CREATE OR REPLACE FUNCTION unpark(
    clock double precision, names text[], queues text[], want integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    vtimes double precision[];
    which text;
BEGIN
    WITH gone AS (
        DELETE FROM parked WHERE ctid = ANY (ARRAY(
            SELECT p.ctid FROM parked p JOIN gated g ON g.id = p.id
            WHERE p.name = ANY (names) AND p.queue = ANY (queues)
            ORDER BY p.id LIMIT want FOR UPDATE OF p SKIP LOCKED))
        RETURNING id
    )
    SELECT array_agg(t.id), array_agg(clock - 60 * t.priority) INTO ids, vtimes
    FROM gone g JOIN task t ON t.id = g.id;
    IF ids IS NOT NULL THEN
        PERFORM enter_lanes(ids, vtimes);
        FOREACH which IN ARRAY queues LOOP
            PERFORM pg_notify(current_schema(), 'q' || which);
        END LOOP;
    END IF;
END $$;

-- Take a task from its lane; false when it is in none. If the lane waits for its time, that may
-- have been the time of this very task.
CREATE OR REPLACE FUNCTION leave_lane(which uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was record;
BEGIN
    DELETE FROM waiting w WHERE w.id = which RETURNING w.queue, w.lane INTO was;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE lane SET at = NULL WHERE ctid = ANY (ARRAY(
        SELECT l.ctid FROM lane l WHERE l.queue = was.queue AND l.id = was.lane
            AND l.at < 'infinity' FOR NO KEY UPDATE SKIP LOCKED));
    IF FOUND THEN
        PERFORM pg_notify(current_schema(), 'q' || was.queue);
    END IF;
    RETURN true;
END $$;

-- Delete a lane that has no tasks; false when somebody is adding one, or its gate is busy. If it
-- was woken, the next lane is: what woke it was not used up.
CREATE OR REPLACE FUNCTION close_lane(of_queue text, which uuid, woken_by text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM lane l WHERE l.queue = of_queue AND l.id = which FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR EXISTS (
        SELECT 1 FROM waiting w WHERE w.queue = of_queue AND w.lane = which
    ) THEN
        RETURN false;
    END IF;
    IF woken_by IS NOT NULL THEN
        PERFORM 1 FROM gate g WHERE g.id = woken_by FOR UPDATE SKIP LOCKED;
        IF NOT FOUND AND EXISTS (SELECT 1 FROM gate g WHERE g.id = woken_by) THEN
            RETURN false;
        END IF;
        PERFORM wake(woken_by, of_queue, 1);
    END IF;
    DELETE FROM lane l WHERE l.queue = of_queue AND l.id = which;
    RETURN true;
END $$;

-- What a final task with terms leaves behind. The keys first, in their order, then the slots.
-- Tells the queues whose lanes may look again.
CREATE OR REPLACE FUNCTION bury(dead uuid[]) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM release(dead);
    DELETE FROM gated g WHERE g.id = ANY (dead);
    DELETE FROM toll t WHERE t.id = ANY (dead);
    RETURN (free_slots(dead, '{}')).woken;
END $$;

-- What `cancel` leaves to do for tasks with terms, after all others: slots come last.
CREATE OR REPLACE FUNCTION bury_cancelled(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gone uuid[];
BEGIN
    IF EXISTS (SELECT 1 FROM gated) OR EXISTS (SELECT 1 FROM uniq) THEN
        gone := ARRAY(SELECT f.id FROM finished f WHERE f.id = ANY (ids));
        PERFORM ring(bury(gone));
    END IF;
END $$;

-- End a task that waits no more (it was taken from where it did).
CREATE OR REPLACE FUNCTION end_waiting(
    clock double precision, which uuid, ends smallint, why text
) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO finished (id, state, execution, at, prune_at, reason)
        SELECT t.id, ends, t.execution, clock,
            clock + CASE ends WHEN 7 THEN dead_retention() ELSE retention() END, why
        FROM task t WHERE t.id = which;
    UPDATE idem i SET expires = clock + retention() WHERE i.id = which;
    INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, t.queue, ends, t.execution, ARRAY[which] FROM task t WHERE t.id = which;
    RETURN bury(ARRAY[which]);
END $$;

-- Settled tasks with terms: `dead` ones ended for good, `back` ones were put back or, if their
-- cancellation was on record, ended too. Tells the queues whose lanes may look again, and the
-- highest gate that is locked now.
CREATE OR REPLACE FUNCTION settle_terms(
    dead uuid[], back uuid[], OUT woken text[], OUT highest text
) LANGUAGE plpgsql AS $$
DECLARE
    gone uuid[] := dead || ARRAY(SELECT f.id FROM finished f WHERE f.id = ANY (back));
    living uuid[] := ARRAY(SELECT b FROM unnest(back) AS b WHERE b <> ALL (gone));
BEGIN
    PERFORM release(gone);
    IF cardinality(living) > 0 THEN
        PERFORM retake(living);
        PERFORM to_lanes(living, false);
    END IF;
    DELETE FROM gated g WHERE g.id = ANY (gone);
    DELETE FROM toll t WHERE t.id = ANY (gone);
    SELECT f.woken, f.highest INTO woken, highest FROM free_slots(gone, living) f;
END $$;
