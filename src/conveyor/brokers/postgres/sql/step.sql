-- Move what is due in a queue among the waiting; returns how many.
CREATE OR REPLACE FUNCTION promote(
    clock double precision, which text, most integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    moved integer;
BEGIN
    WITH gone AS (
        DELETE FROM due WHERE ctid = ANY (ARRAY(
            SELECT d.ctid FROM due d WHERE d.queue = which AND d.due <= clock
            ORDER BY d.due, d.id LIMIT most FOR UPDATE SKIP LOCKED))
        RETURNING id, due
    ), placed AS (
        INSERT INTO ready SELECT which, g.due - 60 * t.priority, t.execution, t.id
        FROM gone g JOIN task t ON t.id = g.id
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, which, 2, 0, array_agg(g.id ORDER BY g.due, g.id) FROM gone g
        HAVING count(*) > 0
    )
    SELECT count(*) INTO moved FROM gone;
    RETURN moved;
END $$;

-- Lease the first waiting tasks of a queue. Bodies come concatenated, in order: they are read as
-- one MessagePack array. The other two
-- are NULL unless one of the tasks ran before.
CREATE OR REPLACE FUNCTION claim(
    clock double precision, who text, which text, want integer,
    OUT number integer, OUT bodies bytea, OUT executions integer[], OUT counters bytea[]
) LANGUAGE plpgsql AS $$
BEGIN
    WITH taken AS (
        DELETE FROM ready WHERE ctid = ANY (ARRAY(
            SELECT r.ctid FROM ready r WHERE r.queue = which
            ORDER BY r.vtime, r.execution, r.id LIMIT want FOR UPDATE SKIP LOCKED))
        RETURNING vtime, execution, id
    ), leased AS (
        INSERT INTO lease (id, execution, worker, at, queue)
        SELECT k.id, k.execution + 1, who, clock, which FROM taken k
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, which, 3, k.execution + 1, array_agg(k.id) FROM taken k GROUP BY k.execution
    ), ordered AS (
        SELECT t.body, k.execution, t.counters FROM taken k JOIN task t ON t.id = k.id
        ORDER BY k.vtime, k.execution, k.id
    )
    SELECT count(*), string_agg(o.body, ''),
        CASE WHEN max(o.execution) > 0 THEN array_agg(o.execution + 1) END,
        CASE WHEN max(o.execution) > 0 THEN array_agg(o.counters) END
    INTO number, bodies, executions, counters FROM ordered o;
END $$;

-- One beat of a worker. `p_` are the settlements of tasks that live on, `f_` of those that end.
CREATE OR REPLACE FUNCTION step(
    given double precision, who text, queues text[], want integer,
    f_ids uuid[], f_executions integer[], f_states smallint[], f_keeps double precision[],
    f_results bytea[], f_lasts bytea[], f_tails bytea[], f_keyed uuid[],
    p_ids uuid[], p_executions integer[], p_places smallint[], p_delays double precision[],
    p_lasts bytea[], p_tails bytea[], p_counters bytea[], p_errors bytea[], p_reasons text[],
    OUT clock double precision, OUT finished integer[], OUT back integer[],
    OUT numbers integer[], OUT bodies bytea[], OUT executions integer[], OUT counters bytea[],
    OUT cancels uuid[], OUT next_due double precision
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    woken text[] := '{}';
    which text;
    paused text[];
    got record;
    left_over integer := want;
    ran_before boolean := false;
BEGIN
    clock := now_or(given);
    IF cardinality(f_ids) > 0 THEN
        finished := finish(clock, f_ids, f_executions, f_states, f_keeps, f_results, f_lasts,
            f_tails, f_keyed);
    END IF;
    IF cardinality(p_ids) > 0 THEN
        SELECT b.done, coalesce(b.woken, '{}') INTO back, woken FROM put_back(
            clock, p_ids, p_executions, p_places, p_delays, p_lasts, p_tails, p_counters,
            p_errors, p_reasons) b;
    END IF;
    FOREACH which IN ARRAY queues LOOP
        IF EXISTS (SELECT 1 FROM due d WHERE d.queue = which AND d.due <= clock)
            AND promote(clock, which, 1000) > 0 THEN
            woken := woken || which;
        END IF;
    END LOOP;
    IF want > 0 AND EXISTS (
        SELECT 1 FROM worker w WHERE w.id = who AND w.until > clock AND NOT w.swept
    ) THEN
        paused := ARRAY(SELECT q.name FROM queue q WHERE q.name = ANY (queues) AND q.pause IS NOT NULL);
        FOREACH which IN ARRAY queues LOOP
            EXIT WHEN left_over <= 0;
            CONTINUE WHEN which = ANY (paused);
            SELECT * INTO got FROM claim(clock, who, which, left_over);
            CONTINUE WHEN got.number = 0;
            left_over := left_over - got.number;
            ran_before := ran_before OR got.executions IS NOT NULL;
            -- A queue whose tasks are all fresh sends no numbers: fill in when others do.
            executions := executions || coalesce(got.executions, array_fill(1, ARRAY[got.number]));
            counters := counters
                || coalesce(got.counters, array_fill(NULL::bytea, ARRAY[got.number]));
            numbers := numbers || got.number;
            bodies := bodies || got.bodies;
        END LOOP;
        IF NOT ran_before THEN
            executions := NULL;
            counters := NULL;
        END IF;
    END IF;
    cancels := ARRAY(SELECT l.id FROM lease l WHERE l.worker = who AND l.cancel IS NOT NULL);
    SELECT min(d.first) - clock INTO next_due FROM unnest(queues) AS q (name), LATERAL (
        SELECT due AS first FROM due WHERE due.queue = q.name ORDER BY due.due LIMIT 1) d;
    -- Only what this worker leaves over is news for others.
    IF left_over <= 0 THEN
        FOREACH which IN ARRAY woken LOOP
            PERFORM pg_notify(current_schema(), 'q' || which);
        END LOOP;
    END IF;
END $$;
