-- Store tasks, all or none, without ringing for them (see ringer.py); `keyed` are the positions of those with a key. Answers one row per keyed
-- task whose key another task holds.
CREATE OR REPLACE FUNCTION push(
    given double precision, ids uuid[], queues text[], names text[], priorities smallint[],
    delays double precision[], dues double precision[], bodies bytea[],
    keyed integer[], keys text[], digests text[]
) RETURNS TABLE (id uuid, holder uuid, conflict boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    clock double precision := now_or(given);
    taken uuid[] := '{}';
    woken text[];
    levels integer[];
    place integer;
    p integer;
    held record;
BEGIN
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

    WITH now AS MATERIALIZED (
        -- Numbered first, then timed: floors rely on it (ADR 0008).
        SELECT pg_current_xact_id() AS number, now_or(given) AS clock
    ), given AS (
        SELECT t.*, n.clock, coalesce(n.clock + t.delay, t.due) AS start
        FROM now n, unnest(ids, queues, names, priorities, delays, dues, bodies)
            AS t (id, queue, name, priority, delay, due, body)
    ), stored AS (
        INSERT INTO task (id, queue, name, priority, place, body)
        SELECT g.id, g.queue, g.name, g.priority,
            CASE WHEN g.start > g.clock THEN g.start ELSE g.clock - 60 * g.priority END, g.body
        FROM given g
        WHERE taken = '{}' OR g.id <> ALL (taken)
        ON CONFLICT DO NOTHING RETURNING id, queue, priority, place
    ), first AS (
        -- Only a time to come is later than now: the place of a waiting task never is.
        INSERT INTO ready SELECT s.queue, s.priority, s.place, 0, s.id
        FROM stored s, now n WHERE s.place <= n.clock
    ), later AS (
        INSERT INTO due SELECT s.queue, s.place, s.id FROM stored s, now n WHERE s.place > n.clock
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT s.clock, s.queue, s.state, 0, array_agg(s.id) FROM (
            SELECT n.clock, r.queue, CASE WHEN r.place > n.clock THEN 1 ELSE 2 END AS state, r.id
            FROM stored r, now n
        ) s GROUP BY s.clock, s.queue, s.state
    )
    SELECT array_agg(s.queue), array_agg(s.used) INTO woken, levels
    FROM (SELECT queue, bit_or(1 << priority) AS used FROM stored GROUP BY queue) s;

    IF woken IS NOT NULL THEN
        -- Asked first: an insert that finds its row would still burn a lock and a WAL record.
        IF EXISTS (SELECT 1 FROM unnest(woken, levels) AS w (name, used) WHERE NOT EXISTS (
            SELECT 1 FROM queue q WHERE q.name = w.name AND q.used & w.used = w.used)) THEN
            INSERT INTO queue AS q (name, used)
            SELECT w.name, w.used FROM unnest(woken, levels) AS w (name, used) ORDER BY 1
            ON CONFLICT (name) DO UPDATE SET used = q.used | excluded.used
                WHERE q.used | excluded.used <> q.used;
        END IF;
    END IF;
END $$;
