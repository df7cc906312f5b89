-- End executions for good. A lease that is not this very execution is left alone; tells the
-- positions of those that were ended, and the gates of which they were slots.
CREATE OR REPLACE FUNCTION finish(
    clock double precision, ids uuid[], executions integer[], states smallint[],
    keeps double precision[], results bytea[], lasts bytea[], tails bytea[], keyed uuid[],
    OUT done integer[], OUT freed text[]
) LANGUAGE plpgsql AS $$
BEGIN
    WITH ended AS (
        DELETE FROM lease l
        USING unnest(ids, executions, states, keeps, results, lasts, tails) WITH ORDINALITY
            AS s (id, execution, state, keep, result, last, tail, n)
        WHERE l.id = s.id AND l.execution = s.execution
        RETURNING s.*, l.queue, l.cancel, l.gates
    ), stored AS (
        INSERT INTO finished
        SELECT e.id, e.state, e.execution, clock, clock + e.keep, e.result, e.last, e.tail,
            CASE WHEN e.state = 7 THEN e.cancel END
        FROM ended e
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, e.queue, e.state, e.execution, array_agg(e.id)
        FROM ended e GROUP BY e.queue, e.state, e.execution
    )
    SELECT coalesce(array_agg(e.n::integer), '{}'),
        (SELECT array_agg(g) FROM ended o, unnest(o.gates) AS g WHERE o.gates IS NOT NULL)
    INTO done, freed FROM ended e;
    IF cardinality(keyed) > 0 THEN
        UPDATE idem i SET expires = clock + retention()
        FROM finished f WHERE i.id = ANY (keyed) AND f.id = i.id AND i.expires IS NULL;
    END IF;
END $$;

-- End executions of tasks that live on, unless their cancellation is on record. A place says where
-- to: ready (2), due after the delay (1) or parked (0). Tells the positions ended, whom to ring, and
-- the gates of which the executions were slots.
CREATE OR REPLACE FUNCTION put_back(
    clock double precision, ids uuid[], executions integer[], places smallint[],
    delays double precision[], lasts bytea[], tails bytea[], counters bytea[], errors bytea[],
    reasons text[], OUT done integer[], OUT woken text[], OUT freed text[]
) LANGUAGE plpgsql AS $$
BEGIN
    WITH ended AS (
        DELETE FROM lease l
        USING unnest(ids, executions, places, delays, lasts, tails, counters, errors, reasons)
            WITH ORDINALITY
            AS s (id, execution, place, delay, last, tail, counters, error, reason, n)
        WHERE l.id = s.id AND l.execution = s.execution
        RETURNING s.*, l.queue, l.cancel, l.gates
    ), cancelled AS (
        INSERT INTO finished
        SELECT e.id, 7, e.execution, clock, clock + dead_retention(), NULL, e.last, e.tail,
            e.cancel
        FROM ended e WHERE e.cancel IS NOT NULL
        RETURNING id
    ), freed AS (
        UPDATE idem i SET expires = clock + retention() FROM cancelled c WHERE i.id = c.id
    ), recorded AS (
        INSERT INTO execution
        SELECT e.id, e.execution, e.last FROM ended e
        WHERE e.cancel IS NULL AND e.last IS NOT NULL
    ), kept AS (
        UPDATE task t SET execution = e.execution, counters = e.counters,
            error = coalesce(e.error, t.error), reason = e.reason,
            place = CASE WHEN e.place = 1 THEN clock + e.delay ELSE clock - 60 * t.priority END
        FROM ended e WHERE t.id = e.id AND e.cancel IS NULL
        RETURNING t.id, t.queue, t.name, t.priority, t.execution, e.place, e.delay
    ), again AS (
        INSERT INTO ready SELECT k.queue, k.priority, clock - 60 * k.priority, k.execution, k.id
        FROM kept k WHERE k.place = 2 RETURNING queue
    ), later AS (
        INSERT INTO due SELECT k.queue, clock + k.delay, k.id FROM kept k WHERE k.place = 1
    ), aside AS (
        INSERT INTO parked SELECT k.id, k.name, k.queue FROM kept k WHERE k.place = 0
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, e.queue, e.now, e.execution, array_agg(e.id) FROM (
            SELECT id, queue, execution,
                CASE WHEN cancel IS NOT NULL THEN 7 WHEN place = 1 THEN 1 ELSE 2 END AS now
            FROM ended
        ) e GROUP BY e.queue, e.now, e.execution
    )
    SELECT (SELECT array_agg(e.n::integer) FROM ended e),
        (SELECT array_agg(DISTINCT a.queue) FROM again a),
        (SELECT array_agg(g) FROM ended e, unnest(e.gates) AS g WHERE e.gates IS NOT NULL)
    INTO done, woken, freed;
END $$;
