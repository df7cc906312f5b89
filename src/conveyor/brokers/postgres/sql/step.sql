-- Move what is due in a queue among the waiting; returns how many. They are available from now on,
-- in the order they were due: within a millisecond, so that floors need not step back for them.
CREATE OR REPLACE FUNCTION promote(
    given double precision, which text, most integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    clock double precision;
    moved integer;
    ids uuid[];
BEGIN
    PERFORM pg_current_xact_id();  -- before the clock, as in push
    clock := now_or(given);
    WITH gone AS (
        DELETE FROM due WHERE ctid = ANY (ARRAY(
            SELECT d.ctid FROM due d WHERE d.queue = which AND d.due <= clock
            ORDER BY d.due, d.id LIMIT most FOR UPDATE SKIP LOCKED))
        RETURNING id, due
    ), placed AS (
        INSERT INTO ready
        SELECT which, t.priority, clock - 60 * t.priority
                - 0.001 * row_number() OVER (ORDER BY g.due DESC, g.id DESC) / most,
            t.execution, t.id, true
        FROM gone g JOIN task t ON t.id = g.id
    ), told AS (
        INSERT INTO event (at, queue, state, execution, ids)
        SELECT clock, which, 2, t.execution, array_agg(g.id ORDER BY g.due, g.id)
        FROM gone g JOIN task t ON t.id = g.id GROUP BY t.execution
    )
    SELECT count(*), array_agg(g.id) INTO moved, ids FROM gone g;
    IF EXISTS (SELECT 1 FROM gated) THEN
        PERFORM to_lanes(ids, true);
    END IF;
    RETURN moved;
END $$;

-- Lock the first waiting tasks of several levels, behind `after`. Rows cannot be locked in merged
-- order, only in each level's own: so the place of the last one wanted, `bound`, is found first,
-- without locks but in the same snapshot. NULL: there are not as many.
CREATE OR REPLACE FUNCTION merge(
    which text, want integer, heads double precision[], after ready
) RETURNS TABLE (picked tid[], bound ready) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY WITH last AS MATERIALIZED (
        SELECT f.* FROM generate_series(0, 9) AS level, LATERAL (
            SELECT r.* FROM ready r
            WHERE heads[level + 1] < 'infinity' AND r.queue = which AND r.priority = level
                AND (r.vtime, r.execution, r.id)
                    > (greatest(heads[level + 1], after.vtime), after.execution, after.id)
            ORDER BY r.vtime, r.execution, r.id LIMIT want) f
        ORDER BY f.vtime, f.execution, f.id LIMIT 1 OFFSET want - 1
    )
    SELECT ARRAY(
        SELECT f.ctid FROM generate_series(0, 9) AS level, LATERAL (
            SELECT r.ctid FROM ready r
            WHERE heads[level + 1] < 'infinity' AND r.queue = which AND r.priority = level
                AND (r.vtime, r.execution, r.id)
                    > (greatest(heads[level + 1], after.vtime), after.execution, after.id)
                AND (r.vtime, r.execution, r.id) <= (
                    coalesce((SELECT l.vtime FROM last l), 'infinity'),
                    coalesce((SELECT l.execution FROM last l), 0),
                    coalesce((SELECT l.id FROM last l), after.id))
            ORDER BY r.vtime, r.execution, r.id LIMIT want FOR UPDATE SKIP LOCKED) f
    ), (SELECT l::ready FROM last l);
END $$;

-- Lease the first waiting tasks of a queue. `heads` are the vtimes at which its levels begin,
-- 'infinity' for an empty one. Bodies come concatenated, in order: they are read as one MessagePack
-- array. The next two are NULL unless one of the tasks ran before. When `bound` is not NULL and tasks
-- are missing, others held them: claim again, `after` that.
CREATE OR REPLACE FUNCTION claim(
    clock double precision, who text, which text, want integer, heads double precision[],
    after ready, OUT number integer, OUT bodies bytea, OUT executions integer[],
    OUT counters bytea[], OUT bound ready
) LANGUAGE plpgsql AS $$
DECLARE
    filled double precision[] := array_remove(heads, 'infinity');
    level integer := array_position(heads, filled[1]) - 1;
    picked tid[];
    found record;
BEGIN
    number := 0;
    IF filled = '{}' THEN
        RETURN;
    END IF;
    IF cardinality(filled) > 1 THEN
        SELECT * INTO found FROM merge(which, want, heads, after);
        picked := found.picked;
        bound := found.bound;
    END IF;
    WITH taken AS (
        -- With one level, which is the rule, there is nothing to merge: one statement does it all.
        DELETE FROM ready WHERE ctid = ANY (coalesce(picked, ARRAY(
            SELECT r.ctid FROM ready r
            WHERE r.queue = which AND r.priority = level AND r.vtime >= filled[1]
            ORDER BY r.vtime, r.execution, r.id LIMIT want FOR UPDATE SKIP LOCKED)))
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

-- One beat of a worker. `p_` are the settlements of tasks that live on, `f_` of those that end; of
-- both, `_terms` are the positions of tasks that have terms. The leases of gated tasks come last in
-- the arrays; `places` says where in the order of the claim they belong.
-- For floors.py: `starts` and `heads` are ten for each queue, in its order; the heads of a queue that
-- nobody looked at are NULL. Every transaction with a lower number than `oldest` had ended before.
-- Tasks that became available before the time `sure` can be seen; -infinity: who knows.
CREATE OR REPLACE FUNCTION step(
    given double precision, who text, queues text[], want integer,
    starts double precision[], stamp boolean,
    f_ids uuid[], f_executions integer[], f_states smallint[], f_keeps double precision[],
    f_results bytea[], f_lasts bytea[], f_tails bytea[], f_keyed uuid[],
    p_ids uuid[], p_executions integer[], p_places smallint[], p_delays double precision[],
    p_lasts bytea[], p_tails bytea[], p_counters bytea[], p_errors bytea[], p_reasons text[],
    slots integer, f_terms integer[], p_terms integer[], sure double precision,
    OUT clock double precision, OUT finished integer[], OUT back integer[],
    OUT numbers integer[], OUT bodies bytea[], OUT executions integer[], OUT counters bytea[],
    OUT places integer[], OUT cancels uuid[], OUT next_due double precision,
    OUT heads double precision[], OUT number bigint, OUT oldest bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    woken text[] := '{}';
    which text;
    got record;
    gate record;
    left_over integer := want;
    ran_before boolean := false;
    levels double precision[];
    after ready;
    -- What lanes need; nothing of it is touched where there are none.
    vacant text[];
    opened text[] := '{}';
    locked text := '';
    has_lanes boolean;
    again boolean := false;
    leased integer := 0;
    g_bodies bytea := '';
    g_executions integer[] := '{}';
    g_counters bytea[] := '{}';
BEGIN
    oldest := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    clock := now_or(given);
    IF stamp OR cardinality(p_ids) > 0 THEN
        PERFORM pg_current_xact_id();  -- before the clock of what is put back, as in push
    END IF;
    IF cardinality(f_ids) > 0 THEN
        SELECT f.done, f.freed INTO finished, vacant FROM finish(clock, f_ids, f_executions,
            f_states, f_keeps, f_results, f_lasts, f_tails, f_keyed) f;
    END IF;
    IF cardinality(p_ids) > 0 THEN
        SELECT b.done, coalesce(b.woken, '{}'), vacant || b.freed
        INTO back, woken, vacant FROM put_back(
            now_or(given), p_ids, p_executions, p_places, p_delays, p_lasts, p_tails, p_counters,
            p_errors, p_reasons) b;
    END IF;
    FOREACH which IN ARRAY queues LOOP
        IF EXISTS (SELECT 1 FROM due d WHERE d.queue = which AND d.due <= clock)
            AND promote(given, which, 1000) > 0 THEN
            woken := woken || which;
        END IF;
    END LOOP;
    IF cardinality(f_terms) > 0 OR cardinality(p_terms) > 0 THEN
        SELECT s.woken, s.highest INTO opened, locked FROM settle_terms(
            ARRAY(SELECT f_ids[p] FROM unnest(f_terms) AS p WHERE p = ANY (finished)),
            ARRAY(SELECT p_ids[p] FROM unnest(p_terms) AS p WHERE p = ANY (back)), vacant) s;
    END IF;
    has_lanes := EXISTS (SELECT 1 FROM lane l WHERE l.queue = ANY (queues));
    IF want > 0 AND EXISTS (
        SELECT 1 FROM worker w WHERE w.id = who AND w.until > clock AND NOT w.swept
    ) THEN
        heads := array_fill(NULL::double precision, ARRAY[10 * cardinality(queues)]);
        FOR n IN 1 .. cardinality(queues) LOOP
            EXIT WHEN left_over <= 0;
            which := queues[n];
            SELECT ARRAY(
                SELECT CASE WHEN q.used >> level & 1 = 1 THEN coalesce((
                    SELECT r.vtime FROM ready r WHERE r.queue = which AND r.priority = level
                        AND r.vtime >= starts[10 * n - 9 + level]
                    ORDER BY r.vtime LIMIT 1), 'infinity') ELSE 'infinity' END
                FROM generate_series(0, 9) AS level) INTO levels
            FROM queue q WHERE q.name = which AND q.pause IS NULL;
            CONTINUE WHEN NOT FOUND;
            heads[10 * n - 9 : 10 * n] := levels;
            IF has_lanes THEN
                SELECT * INTO gate FROM admit(
                    given, clock, sure, who, which, levels, left_over, least(slots, left_over), locked);
                left_over := left_over - gate.number;
                slots := slots - gate.number;
                g_bodies := g_bodies || coalesce(gate.bodies, '');
                g_executions := g_executions || gate.executions;
                g_counters := g_counters || gate.counters;
                again := again OR gate.again;
                locked := gate.highest;
                IF gate.woke THEN
                    opened := opened || which;
                END IF;
                places := places || ARRAY(SELECT leased + p FROM unnest(gate.places) AS p);
                leased := leased + gate.number;
                EXIT WHEN left_over <= 0;
            END IF;
            after := ROW('', 0, '-infinity', -1, '00000000-0000-0000-0000-000000000000', false);
            LOOP
                SELECT * INTO got FROM claim(clock, who, which, left_over, levels, after);
                IF got.number > 0 THEN
                    left_over := left_over - got.number;
                    leased := leased + got.number;
                    ran_before := ran_before OR got.executions IS NOT NULL;
                    -- Tasks that are all fresh bring no numbers: fill in when others do.
                    executions := executions
                        || coalesce(got.executions, array_fill(1, ARRAY[got.number]));
                    counters := counters
                        || coalesce(got.counters, array_fill(NULL::bytea, ARRAY[got.number]));
                    numbers := numbers || got.number;
                    bodies := bodies || got.bodies;
                END IF;
                EXIT WHEN left_over <= 0 OR got.bound IS NULL;
                after := got.bound;
            END LOOP;
        END LOOP;
        IF cardinality(places) > 0 THEN
            -- All that were fresh so far may have sent no numbers.
            numbers := numbers || cardinality(places);
            bodies := bodies || g_bodies;
            executions := executions || g_executions;
            counters := counters || g_counters;
            ran_before := true;
        END IF;
        IF NOT ran_before THEN
            executions := NULL;
            counters := NULL;
        END IF;
    END IF;
    cancels := ARRAY(SELECT l.id FROM lease l WHERE l.worker = who AND l.cancel IS NOT NULL);
    SELECT min(d.first) - clock INTO next_due FROM unnest(queues) AS q (name), LATERAL (
        SELECT due AS first FROM due WHERE due.queue = q.name ORDER BY due.due LIMIT 1) d;
    IF has_lanes THEN
        SELECT least(next_due, CASE WHEN again THEN 0.01 END, min(l.first) - clock) INTO next_due
        FROM unnest(queues) AS q (name), LATERAL (
            SELECT o.at AS first FROM lane o
            WHERE o.queue = q.name AND o.at > clock AND o.at < 'infinity' ORDER BY o.at LIMIT 1) l;
    END IF;
    FOREACH which IN ARRAY opened LOOP
        IF which <> ALL (queues)
            OR EXISTS (SELECT 1 FROM lane l WHERE l.queue = which AND l.at IS NULL) THEN
            PERFORM pg_notify(current_schema(), 'q' || which);
        END IF;
    END LOOP;
    -- Only what this worker leaves over is news for others.
    IF left_over <= 0 THEN
        FOREACH which IN ARRAY woken LOOP
            PERFORM pg_notify(current_schema(), 'q' || which);
        END LOOP;
    END IF;
    number := pg_current_xact_id_if_assigned()::text::bigint;
END $$;
