-- Admission: lease the tasks at the heads of lanes that their gates admit.

-- Ask the gates of a task, which are locked, and pass if all of them admit it: then `refused_by` is
-- NULL. conveyor.core.gates.admit: the refusal that lasts longest, the first of equals.
CREATE OR REPLACE FUNCTION ask_gates(given double precision, which uuid,
    OUT refused_by text, OUT until double precision, OUT is_full boolean, OUT on_full text
) LANGUAGE plpgsql AS $$
DECLARE
    now double precision := now_or(given);
    gates asked[] := ARRAY(SELECT a FROM asked a WHERE a.id = which ORDER BY a.n);
    g asked;
    ask double precision;
BEGIN
    FOREACH g IN ARRAY gates LOOP
        ask := refused_until(
            now, g.tat, g.running, g.closed, g.rate, g.burst, g.cost, g.most, g.holds);
        IF ask > until OR ask IS NOT NULL AND until IS NULL THEN
            refused_by := g.gate;
            until := ask;
            is_full := ask = 'infinity' AND g.closed <= now;
            on_full := g.on_full;
        END IF;
    END LOOP;
    IF refused_by IS NOT NULL THEN
        RETURN;
    END IF;
    FOREACH g IN ARRAY gates LOOP
        IF g.rate > 0 THEN
            UPDATE gate SET tat = greatest(g.tat, now) + g.cost * (1.0 / g.rate) WHERE id = g.gate;
        ELSIF NOT g.holds THEN
            UPDATE gate SET running = g.running + 1 WHERE id = g.gate;
            INSERT INTO slot VALUES (which, g.gate, g.line, now);
        END IF;
    END LOOP;
END $$;

-- Make room for a newcomer: ask the longest-running holder of a slot to stop, unless one has been.
CREATE OR REPLACE FUNCTION cancel_oldest(which text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    runner text;
BEGIN
    IF EXISTS (SELECT 1 FROM slot s JOIN lease l ON l.id = s.id
               WHERE s.gate = which AND l.cancel IS NOT NULL) THEN
        RETURN;
    END IF;
    UPDATE lease SET cancel = 'cancelled: limit ' || split_part(which, E'\n', 1) || ' is full'
    WHERE ctid = ANY (ARRAY(
        SELECT l.ctid FROM slot s JOIN lease l ON l.id = s.id WHERE s.gate = which
        ORDER BY s.at, s.id LIMIT 1 FOR UPDATE OF l SKIP LOCKED))
    RETURNING worker INTO runner;
    IF FOUND THEN
        PERFORM pg_notify(current_schema(), 'w' || runner);
    END IF;
END $$;

-- A refused lane sleeps until its time, or until it is woken when another lane of its queue has a
-- timer for the same gate: the lanes behind one gate do not all start up at the same instant.
CREATE OR REPLACE FUNCTION put_to_sleep(
    of_queue text, which uuid, woken_by text, refused_by text, until double precision
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE lane l SET gate = refused_by, at = CASE WHEN until < 'infinity' AND EXISTS (
        SELECT 1 FROM lane o WHERE o.gate = refused_by AND o.queue = of_queue AND o.at <= until
            AND o.at < 'infinity'
    ) THEN 'infinity' ELSE until END
    WHERE l.queue = of_queue AND l.id = which;
    IF woken_by <> refused_by THEN
        PERFORM wake(woken_by, of_queue, 1);
    END IF;
END $$;

-- Where a lane stands after its head has left it; false when it is gone or busy.
CREATE OR REPLACE FUNCTION move_lane(
    clock double precision, l lane, weight integer, leased boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    next double precision;
    least_vtime double precision := '-infinity';
BEGIN
    SELECT w.vtime INTO next FROM waiting w WHERE w.queue = l.queue AND w.lane = l.id
    ORDER BY w.vtime, w.execution, w.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN close_lane(l.queue, l.id, l.gate);
    END IF;
    IF weight IS NOT NULL THEN
        least_vtime := l.vtime;
        IF leased THEN
            l.remain := coalesce(l.remain, weight) - 1;
        END IF;
        IF l.remain <= 0 THEN
            least_vtime := greatest(l.vtime, clock - 60 * l.priority);
            l.turn := nextval('turn');
            l.remain := NULL;
        END IF;
    END IF;
    UPDATE lane o SET vtime = greatest(next, least_vtime), turn = l.turn, remain = l.remain,
        gate = l.gate
    WHERE o.queue = l.queue AND o.id = l.id;
    RETURN true;
END $$;

-- Lease the head of a lane, which its gates have admitted. What woke the lane may admit one more.
CREATE OR REPLACE FUNCTION lease_head(
    clock double precision, who text, l lane, which uuid, number integer, frees_key boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lease (id, execution, worker, at, queue)
    VALUES (which, number, who, clock, l.queue);
    IF frees_key THEN
        DELETE FROM uniq u WHERE u.id = which;
    END IF;
    RETURN l.gate IS NOT NULL AND EXISTS (
        SELECT 1 FROM asked a
        WHERE a.id = which AND a.gate = l.gate AND (a.rate > 0 OR a.running < a.most)
    ) AND wake(l.gate, l.queue, 1);
END $$;

-- What becomes of a refused head. True: its lane goes to sleep.
CREATE OR REPLACE FUNCTION refuse_head(
    clock double precision, l lane, which uuid, by_gate text, until double precision,
    is_full boolean, on_full text
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF is_full AND on_full IN ('cancel_newest', 'drop') THEN
        DELETE FROM waiting w WHERE w.id = which;
        PERFORM ring(end_waiting(
            clock, which, CASE on_full WHEN 'drop' THEN 4 ELSE 7 END::smallint,
            'limit ' || split_part(by_gate, E'\n', 1) || ' was full'));
        RETURN false;
    END IF;
    IF is_full AND on_full = 'cancel_oldest' THEN
        PERFORM cancel_oldest(by_gate);
    END IF;
    PERFORM put_to_sleep(l.queue, l.id, l.gate, by_gate, until);
    RETURN true;
END $$;

-- Lock what decides about a head; false when that would mean to wait for somebody out of order.
-- `highest` is the highest gate that this transaction has locked so far.
CREATE OR REPLACE FUNCTION lock_head(
    which uuid, gates text[], has_key boolean, INOUT highest text, OUT is_locked boolean
) LANGUAGE plpgsql AS $$
BEGIN
    is_locked := true;
    IF has_key THEN
        PERFORM 1 FROM uniq u WHERE u.id = which FOR UPDATE SKIP LOCKED;
        is_locked := FOUND OR NOT EXISTS (SELECT 1 FROM uniq u WHERE u.id = which);
    END IF;
    IF is_locked AND gates <> '{}' THEN
        is_locked := lock_gates(gates, gates[1] COLLATE "C" > highest);
        highest := greatest(highest COLLATE "C", gates[cardinality(gates)]);
    END IF;
END $$;

-- The bodies, execution numbers and counters of fresh leases, in order, and their event.
CREATE OR REPLACE FUNCTION leased(
    clock double precision, which text, ids uuid[],
    OUT bodies bytea, OUT executions integer[], OUT counters bytea[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT string_agg(t.body, '' ORDER BY i.n), array_agg(t.execution + 1 ORDER BY i.n),
        array_agg(t.counters ORDER BY i.n)
    INTO bodies, executions, counters
    FROM unnest(ids) WITH ORDINALITY AS i (id, n) JOIN task t ON t.id = i.id;
    INSERT INTO event (at, queue, state, execution, ids)
    SELECT clock, which, 3, i.execution, array_agg(i.id)
    FROM unnest(ids, executions) AS i (id, execution) GROUP BY i.execution;
END $$;

-- Lease from the lanes of a queue what stands before the `want` first plain tasks, `slots` at most.
-- `levels` as in `claim`.
-- Bodies, executions and counters are as in `claim`; `places` says how many leases of this queue
-- come before each. `again`: there is more to do here, soon. `woke`: lanes were woken.
CREATE OR REPLACE FUNCTION admit(
    given double precision, clock double precision, who text, which text,
    levels double precision[], want integer, slots integer, INOUT highest text, OUT number integer, OUT bodies bytea, OUT executions integer[],
    OUT counters bytea[], OUT places integer[], OUT again boolean, OUT woke boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    plain double precision[];
    ahead integer := 0;
    -- Bounds what one step does when nearly everybody is refused.
    looks integer := want + 100;
    skipped uuid[] := '{}';
    l lane;
    head record;
    got record;
    told record;
    ids uuid[] := '{}';
BEGIN
    number := 0;
    places := '{}';
    again := false;
    woke := false;
    UPDATE lane SET at = NULL WHERE ctid = ANY (ARRAY(
        SELECT t.ctid FROM lane t WHERE t.queue = which AND t.at <= clock AND t.at < 'infinity'
        ORDER BY t.at LIMIT looks FOR NO KEY UPDATE SKIP LOCKED));
    WHILE number < slots LOOP
        looks := looks - 1;
        SELECT * INTO l FROM lane o WHERE o.queue = which AND o.at IS NULL AND o.id <> ALL (skipped)
        ORDER BY o.vtime, o.turn, o.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND OR looks < 0 THEN
            again := EXISTS (SELECT 1 FROM lane o WHERE o.queue = which AND o.at IS NULL);
            EXIT;
        END IF;
        IF plain IS NULL THEN
            plain := ARRAY(SELECT f.vtime FROM generate_series(0, 9) AS level, LATERAL (
                    SELECT r.vtime FROM ready r WHERE r.queue = which AND r.priority = level
                        AND r.vtime >= levels[level + 1] ORDER BY r.vtime LIMIT want) f
                WHERE levels[level + 1] < 'infinity' ORDER BY f.vtime LIMIT want);
        END IF;
        WHILE ahead < cardinality(plain) AND plain[ahead + 1] <= l.vtime LOOP
            ahead := ahead + 1;
        END LOOP;
        EXIT WHEN number + ahead >= want;
        SELECT w.id, w.execution + 1 AS number, g.weight, g.gates, g.key IS NOT NULL AS has_key
        INTO head
        FROM waiting w JOIN gated g ON g.id = w.id WHERE w.queue = which AND w.lane = l.id
        ORDER BY w.vtime, w.execution, w.id LIMIT 1 FOR UPDATE OF w SKIP LOCKED;
        IF NOT FOUND THEN
            IF NOT close_lane(which, l.id, l.gate) THEN
                skipped := skipped || l.id;
            END IF;
            CONTINUE;
        END IF;
        IF head.gates <> '{}' OR head.has_key THEN
            SELECT * INTO got FROM lock_head(head.id, head.gates, head.has_key, highest);
            highest := got.highest;
            IF NOT got.is_locked THEN
                skipped := skipped || l.id;
                CONTINUE;
            END IF;
        END IF;
        IF head.gates <> '{}' THEN
            SELECT * INTO told FROM ask_gates(given, head.id);
            IF told.refused_by IS NOT NULL THEN
                woke := woke OR coalesce(l.gate <> told.refused_by, false);
                IF NOT refuse_head(clock, l, head.id, told.refused_by, told.until, told.is_full,
                    told.on_full) AND NOT move_lane(clock, l, head.weight, false) THEN
                    skipped := skipped || l.id;
                END IF;
                CONTINUE;
            END IF;
        END IF;
        DELETE FROM waiting w WHERE w.id = head.id;
        woke := lease_head(clock, who, l, head.id, head.number, head.has_key) OR woke;
        ids := ids || head.id;
        places := places || ahead + number;
        number := number + 1;
        l.gate := NULL;
        IF NOT move_lane(clock, l, head.weight, true) THEN
            skipped := skipped || l.id;
        END IF;
    END LOOP;
    IF number > 0 THEN
        SELECT * INTO bodies, executions, counters FROM leased(clock, which, ids);
    END IF;
END $$;
