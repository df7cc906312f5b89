-- Store tasks, all or none; `keyed` are the positions of those with a key. Answers one row per keyed
-- task whose key another task holds.
CREATE OR REPLACE FUNCTION push(
    given double precision, ids uuid[], queues text[], names text[], priorities smallint[],
    delays double precision[], dues double precision[], bodies bytea[],
    keyed integer[], keys text[], digests text[]
) RETURNS TABLE (id uuid, holder uuid, conflict boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    clock double precision;
    taken uuid[] := '{}';
    woken text[];
    which text;
    place integer;
    p integer;
    held record;
BEGIN
    -- Numbered first, then timed: what a transaction that begins later stores, it stores later in
    -- time, whoever it has to wait for in between. Floors rely on it (ADR 0008).
    PERFORM pg_current_xact_id();
    clock := now_or(given);
    FOR place IN 1 .. coalesce(cardinality(keyed), 0) LOOP
        p := keyed[place];
        INSERT INTO idem AS i VALUES (queues[p], names[p], keys[place], ids[p], digests[place], NULL)
        ON CONFLICT (queue, name, key) DO UPDATE
            SET id = excluded.id, digest = excluded.digest, expires = NULL
            WHERE i.expires <= clock;
        SELECT i.id, i.digest INTO held FROM idem i
            WHERE i.queue = queues[p] AND i.name = names[p] AND i.key = keys[place];
        IF held.id <> ids[p] THEN
            taken := taken || ids[p];
            id := ids[p];
            holder := held.id;
            conflict := held.digest <> digests[place];
            RETURN NEXT;
        END IF;
    END LOOP;

    WITH given AS (
        SELECT t.*, coalesce(clock + t.delay, t.due) AS start
        FROM unnest(ids, queues, names, priorities, delays, dues, bodies)
            AS t (id, queue, name, priority, delay, due, body)
    ), stored AS (
        INSERT INTO task (id, queue, name, priority, place, body)
        SELECT g.id, g.queue, g.name, g.priority,
            CASE WHEN g.start > clock THEN g.start ELSE clock - 60 * g.priority END, g.body
        FROM given g
        WHERE taken = '{}' OR g.id <> ALL (taken)
        ON CONFLICT DO NOTHING RETURNING id, queue, priority, place
    ), first AS (
        -- Only a time to come is later than now: the place of a waiting task never is.
        INSERT INTO ready SELECT s.queue, s.priority, s.place, 0, s.id FROM stored s WHERE s.place <= clock
    ), later AS (
        INSERT INTO due SELECT s.queue, s.place, s.id FROM stored s WHERE s.place > clock
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, s.queue, CASE WHEN s.place > clock THEN 1 ELSE 2 END, 0, array_agg(s.id)
        FROM stored s GROUP BY s.queue, CASE WHEN s.place > clock THEN 1 ELSE 2 END
        RETURNING queue
    )
    SELECT array_agg(DISTINCT queue) INTO woken FROM told;

    IF woken IS NOT NULL THEN
        -- Asked first: an insert that finds its row would still burn a lock and a WAL record.
        IF EXISTS (SELECT 1 FROM unnest(woken) AS w (name)
                   WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.name = w.name)) THEN
            INSERT INTO queue (name) SELECT unnest(woken) ORDER BY 1 ON CONFLICT DO NOTHING;
        END IF;
        FOREACH which IN ARRAY woken LOOP
            PERFORM pg_notify(current_schema(), 'q' || which);
        END LOOP;
    END IF;
END $$;
