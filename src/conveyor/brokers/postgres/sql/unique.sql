-- Unique keys: rows of `uniq`, whose primary key decides. They are locked in their order, and
-- before lanes and gates; whoever holds one waits for nobody's task.

-- Give back the keys of tasks that are final.
CREATE OR REPLACE FUNCTION release(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM uniq WHERE ctid = ANY (ARRAY(
        SELECT u.ctid FROM uniq u WHERE u.id = ANY (ids) AND u.expires IS NULL
        ORDER BY u.queue, u.name, u.key FOR UPDATE));
END $$;

-- Tasks that are put back take their keys again, if nobody else has them by now.
CREATE OR REPLACE FUNCTION retake(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO uniq (queue, name, key, id, since)
    SELECT t.queue, t.name, g.key, t.id, t.place
    FROM gated g JOIN task t ON t.id = g.id WHERE g.id = ANY (ids) AND g.key IS NOT NULL AND g.again
    ORDER BY t.queue, t.name, g.key
    ON CONFLICT DO NOTHING;
END $$;

-- Take a task from where it waits without waiting for whoever moves it just now.
CREATE OR REPLACE FUNCTION unseat(which uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM due d WHERE d.id = which FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        RETURN leave(which);
    END IF;
    PERFORM 1 FROM waiting w WHERE w.id = which FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        RETURN leave(which);
    END IF;
    PERFORM 1 FROM ready r WHERE r.id = which AND r.promoted FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        RETURN leave(which);
    END IF;
    PERFORM 1 FROM task t, ready r
    WHERE t.id = which AND r.queue = t.queue AND r.priority = t.priority AND r.vtime = t.place
        AND r.execution = t.execution AND r.id = t.id
    FOR UPDATE OF r SKIP LOCKED;
    IF FOUND THEN
        RETURN leave(which);
    END IF;
    PERFORM 1 FROM parked p WHERE p.id = which FOR UPDATE SKIP LOCKED;
    RETURN FOUND AND leave(which);
END $$;

-- Take a key for a task on its way in. Says who holds it then, and since when its series goes.
-- `replaces`: a holder that still waits is cancelled.
CREATE OR REPLACE FUNCTION take_key(
    clock double precision, which uuid, of_queue text, of_name text, with_key text,
    ends double precision, replaces boolean, OUT holder uuid, OUT series double precision
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO uniq AS u VALUES (of_queue, of_name, with_key, which, clock, ends)
    ON CONFLICT (queue, name, key) DO UPDATE
        SET id = excluded.id, since = excluded.since, expires = excluded.expires
        WHERE u.expires <= clock;
    SELECT u.id, u.since INTO holder, series FROM uniq u
        WHERE u.queue = of_queue AND u.name = of_name AND u.key = with_key;
    IF replaces AND holder <> which AND unseat(holder) THEN
        UPDATE uniq u SET id = which, expires = ends
            WHERE u.queue = of_queue AND u.name = of_name AND u.key = with_key;
        PERFORM ring(end_waiting(clock, holder, 7::smallint, 'replaced by ' || which));
        holder := which;
    END IF;
END $$;

-- Let a task that is not due yet start no earlier than `until`. Any other is left alone, and so is
-- one that is being moved just now.
CREATE OR REPLACE FUNCTION postpone(
    clock double precision, which uuid, until double precision
) RETURNS void LANGUAGE sql AS $$
    WITH found AS (
        SELECT d.id FROM due d
        WHERE d.id = which AND d.due > clock AND d.due < until FOR UPDATE SKIP LOCKED
    ), later AS (
        UPDATE due d SET due = until FROM found f WHERE d.id = f.id
    )
    UPDATE task t SET place = until FROM found f WHERE t.id = f.id
$$;

-- Tell the workers of queues.
CREATE OR REPLACE FUNCTION ring(queues text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(current_schema(), 'q' || q) FROM unnest(queues) AS q;
END $$;
