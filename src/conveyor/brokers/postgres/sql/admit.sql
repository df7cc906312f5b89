-- Admission: lease the tasks at the heads of lanes that their gates admit.

-- How many tasks like this one, `upto` at most, its gates admit one after the other now; they are
-- locked. None: `refused_by` says which refuses, by conveyor.core.gates.admit: the refusal that
-- lasts longest, the first of equals. `gates` is what they were asked with.
CREATE OR REPLACE FUNCTION ask_gates(given double precision, which uuid, upto integer,
    OUT number integer, OUT gates asked[], OUT now double precision,
    OUT refused_by text, OUT until double precision, OUT is_full boolean, OUT on_full text
) LANGUAGE plpgsql AS $$
DECLARE
    g asked;
    ask double precision;
BEGIN
    now := now_or(given);
    gates := ARRAY(SELECT a FROM asked a WHERE a.id = which ORDER BY a.n);
    number := upto;
    FOREACH g IN ARRAY gates LOOP
        ask := refused_until(
            now, g.tat, g.running, g.closed, g.rate, g.burst, g.cost, g.most, g.holds);
        IF ask IS NULL THEN
            -- A task that has its slot already is alone in its lane.
            number := CASE WHEN number < 2 THEN number WHEN g.holds THEN 1
                WHEN g.rate > 0 THEN how_many(now, g.tat, g.rate, g.burst, g.cost, number)
                ELSE least(number, g.most - g.running) END;
        ELSIF until IS NULL OR ask > until THEN
            refused_by := g.gate;
            until := ask;
            is_full := ask = 'infinity' AND g.closed <= now;
            on_full := g.on_full;
        END IF;
    END LOOP;
    IF refused_by IS NOT NULL THEN
        number := 0;
    END IF;
END $$;

-- Pass so many tasks through gates that admit them. Their slots are to be written: their leases.
CREATE OR REPLACE FUNCTION take_gates(
    now double precision, gates asked[], number integer
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    g asked;
BEGIN
    FOREACH g IN ARRAY gates LOOP
        IF g.rate > 0 THEN
            UPDATE gate SET tat = tat_after(now, g.tat, g.rate, g.cost, number) WHERE id = g.gate;
        ELSIF NOT g.holds THEN
            UPDATE gate SET running = g.running + number WHERE id = g.gate;
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- Make room for a newcomer: ask the longest-running holder of a slot to stop, unless one has been.
CREATE OR REPLACE FUNCTION cancel_oldest(which text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    runner text;
BEGIN
    IF EXISTS (SELECT 1 FROM holder h JOIN lease l ON l.id = h.id
               WHERE h.gate = which AND l.cancel IS NOT NULL) THEN
        RETURN;
    END IF;
    UPDATE lease SET cancel = 'cancelled: limit ' || split_part(which, E'\n', 1) || ' is full'
    WHERE ctid = ANY (ARRAY(
        SELECT l.ctid FROM holder h JOIN lease l ON l.id = h.id WHERE h.gate = which
        ORDER BY h.at, h.id LIMIT 1 FOR UPDATE OF l SKIP LOCKED))
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

-- Where a lane stands after `leased` tasks at its head have left it (none: one that was refused);
-- false when it is gone or busy. `sure` as in `step`. `filled` is a gate that is locked and has no slot left, if one is:
-- then the lane sleeps at once, unless its next task has something else to say.
CREATE OR REPLACE FUNCTION move_lane(
    clock double precision, sure double precision, l lane, weight integer, leased integer,
    filled asked
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    least_vtime double precision := '-infinity';
    tail integer;
BEGIN
    IF weight IS NOT NULL THEN
        least_vtime := l.vtime;
        IF leased > 0 THEN
            l.remain := coalesce(l.remain, weight) - leased;
        END IF;
        IF l.remain < 0 THEN
            -- Further turns, nobody having waited for one.
            tail := -l.remain % weight;
        END IF;
        IF l.remain <= 0 THEN
            least_vtime := greatest(l.vtime, clock - 60 * l.priority);
            l.turn := nextval('turn');
            l.remain := weight - nullif(tail, 0);
        END IF;
    END IF;
    IF filled.gate IS NULL THEN
        UPDATE lane o SET vtime = greatest(n.vtime, least_vtime), turn = l.turn, remain = l.remain,
            low = least(n.vtime, sure - 60 * l.priority),
            gate = l.gate
        FROM (
            SELECT w.vtime FROM waiting w WHERE w.queue = l.queue AND w.lane = l.id
                AND w.vtime >= least(l.low, sure)
            ORDER BY w.vtime, w.execution, w.id LIMIT 1) n
        WHERE o.queue = l.queue AND o.id = l.id;
    ELSE
        UPDATE lane o SET vtime = greatest(n.vtime, least_vtime), turn = l.turn, remain = l.remain,
            low = least(n.vtime, sure - 60 * l.priority),
            gate = CASE WHEN n.waits THEN filled.gate ELSE l.gate END,
            at = CASE WHEN n.waits THEN 'infinity'::double precision END
        FROM (
            SELECT w.vtime, coalesce((
                SELECT true FROM toll t WHERE t.id = w.id AND t.gate = filled.gate
                    AND t.most <= filled.most AND t.rate = 0 AND t.on_full = 'queue' LIMIT 1
            ), false) AS waits
            FROM waiting w WHERE w.queue = l.queue AND w.lane = l.id
                AND w.vtime >= least(l.low, sure)
            ORDER BY w.vtime, w.execution, w.id LIMIT 1) n
        WHERE o.queue = l.queue AND o.id = l.id;
    END IF;
    RETURN FOUND OR close_lane(l.queue, l.id, l.gate);
END $$;

-- The tasks behind the head of a lane that its gates admit with it, `number` with the head: those
-- that ask for the same, as long as neither another lane nor, with `want` leases of the queue, the
-- plain line comes first. `ahead` of the head are so many plain ones and, in the step, `before` it
-- so many gated ones.
CREATE OR REPLACE FUNCTION run_behind(
    clock double precision, l lane, head waiting, weight integer, number integer, next_lane lane,
    plain double precision[], ahead integer, before integer, want integer,
    OUT places tid[], OUT ids uuid[], OUT executions integer[], OUT aheads integer[]
) LANGUAGE plpgsql AS $$
DECLARE
    least_vtime double precision := CASE WHEN weight IS NULL THEN '-infinity' ELSE l.vtime END;
    -- Where the turn ends, and where the next one begins if nobody else waits for one.
    turn integer := coalesce(l.remain, weight);
    next_vtime double precision := clock - 60 * l.priority;
    -- As the head's own row has them, whatever people said of the limit.
    carried_by_head carried[] := (SELECT g.carries FROM gated g WHERE g.id = head.id);
BEGIN
    SELECT array_agg(r.place), array_agg(r.id), array_agg(r.execution), array_agg(r.ahead)
    INTO places, ids, executions, aheads
    FROM (
        -- Not EXISTS: how many come here cannot be known when that is planned, and for as many as
        -- it thinks all of the table would be hashed.
        SELECT o.*, bool_and(o.vtime_fits AND o.ahead + before + o.n < want AND coalesce((
                SELECT true FROM gated g WHERE g.id = o.id AND g.key IS NULL
                    AND g.weight IS NOT DISTINCT FROM run_behind.weight
                    AND g.carries = carried_by_head
            ), false)) OVER (ORDER BY o.n) AS is_taken
        FROM (
            SELECT w.place, w.id, w.execution, w.n,
                greatest(ahead, width_bucket(w.vtime, plain)) AS ahead,
                next_lane.id IS NULL OR (w.vtime, l.turn, l.id)
                    < (next_lane.vtime, next_lane.turn, next_lane.id) AS vtime_fits
            FROM (
                SELECT y.place, y.id, y.execution, y.n,
                    greatest(y.vtime, least_vtime, CASE WHEN y.n >= turn THEN next_vtime END) AS vtime
                FROM (
                    SELECT v.*, row_number() OVER () AS n FROM (
                        SELECT x.ctid AS place, x.id, x.execution + 1 AS execution, x.vtime
                        FROM waiting x WHERE x.queue = head.queue AND x.lane = head.lane
                            AND (x.vtime, x.execution, x.id) > (head.vtime, head.execution, head.id)
                        ORDER BY x.vtime, x.execution, x.id LIMIT number - 1 FOR UPDATE SKIP LOCKED
                    ) v
                ) y
            ) w
        ) o
    ) r WHERE r.is_taken;
END $$;

-- Write the leases of tasks that were admitted: the slots of the gates, a tab between them, in
-- `slots`; and the lines of those in `lineless`: in rounds they got theirs.
CREATE OR REPLACE FUNCTION write_leases(
    given double precision, clock double precision, who text, which text,
    ids uuid[], numbers integer[], slots text[], lineless uuid[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lease (id, execution, worker, at, queue, gates)
    SELECT i.id, i.number, who, clock, which, string_to_array(i.slots, E'\t')
    FROM unnest(ids, numbers, slots) AS i (id, number, slots);
    IF lineless <> '{}' THEN
        INSERT INTO slot SELECT t.id, t.gate, now_or(given)
        FROM unnest(lineless) AS i (id) JOIN toll t ON t.id = i.id WHERE t.rate = 0 AND t.line
        ON CONFLICT DO NOTHING;
    END IF;
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
-- `levels` as in `claim`, `sure` as in `step`.
-- Bodies, executions and counters are as in `claim`; `places` says how many leases of this queue
-- come before each. `again`: there is more to do here, soon. `woke`: lanes were woken.
-- While it pays, the heads of many lanes are taken in rounds (rounds.sql). Else
-- a lane is looked at once for all that its gates admit of it before another lane comes first: a
-- run. It is decided task by task, but read and written as one.
CREATE OR REPLACE FUNCTION admit(
    given double precision, clock double precision, sure double precision, who text, which text,
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
    head record;
    l lane;
    next_lane lane;
    is_alone boolean;
    open_lanes integer;
    is_crowded boolean;
    -- How many rows the next round may look at; 0: no round.
    budget integer := 0;
    is_poor boolean := false;
    room integer;
    got record;
    told record;
    run record;
    gates asked[];
    is_taken boolean;
    is_locked boolean;
    g asked;
    filled asked;
    upto integer;
    ids uuid[] := '{}';
    numbers integer[] := '{}';
    written integer := 0;
    -- Of which gates each of `ids` is to be a slot; those that are to get a line too.
    taken text[] := '{}';
    lineless uuid[] := '{}';
    has_line boolean;
    of_gates text;
    from_vtime double precision := '-infinity';
    from_turn bigint := 0;
    from_id uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    number := 0;
    places := '{}';
    again := false;
    woke := false;
    UPDATE lane SET at = NULL WHERE ctid = ANY (ARRAY(
        SELECT t.ctid FROM lane t WHERE t.queue = which AND t.at <= clock AND t.at < 'infinity'
        ORDER BY t.at LIMIT looks FOR NO KEY UPDATE SKIP LOCKED));
    IF slots > 0 THEN
        -- Where the first one stands: what was before it is not walked over again.
        SELECT count(*), coalesce(min(c.vtime), '-infinity') INTO open_lanes, from_vtime FROM (
            SELECT o.vtime FROM lane o WHERE o.queue = which AND o.at IS NULL
            ORDER BY o.vtime, o.turn, o.id LIMIT slots + 1) c;
        -- Among so many, its slot may be free again before anybody looks: a lane need not sleep.
        is_crowded := open_lanes > slots;
        IF open_lanes > 0 THEN
            plain := ARRAY(SELECT f.vtime FROM generate_series(0, 9) AS level, LATERAL (
                    SELECT r.vtime FROM ready r WHERE r.queue = which AND r.priority = level
                        AND r.vtime >= levels[level + 1] ORDER BY r.vtime LIMIT want) f
                WHERE levels[level + 1] < 'infinity' ORDER BY f.vtime LIMIT want);
        END IF;
        IF open_lanes > 1 THEN
            budget := slots;
        END IF;
    END IF;
    WHILE number < slots LOOP
        looks := looks - 1;
        room := least(slots - number, want - ahead - number);
        IF budget > 0 AND room > 1 AND NOT is_poor THEN
            budget := least(budget, room);
            got := admit_round(given, clock, sure, which, budget,
                (budget + open_lanes - 1) / open_lanes, room, plain, number, want,
                NOT is_crowded, ahead, highest, skipped, from_vtime, from_turn, from_id);
            ahead := got.ahead;
            highest := got.highest;
            skipped := got.skipped;
            from_vtime := got.from_vtime;
            from_turn := got.from_turn;
            from_id := got.from_id;
            woke := woke OR got.woke;
            -- Where sets do not get far, one by one does better for a while.
            is_poor := got.number * 4 <= got.looked;
            budget := CASE WHEN is_poor THEN greatest(8, 2 * got.number) ELSE 2 * budget END;
            IF got.number > 0 THEN
                ids := ids || got.ids;
                numbers := numbers || got.executions;
                places := places || got.places;
                taken := taken || got.slots;
                number := number + got.number;
                l := NULL;
                next_lane := NULL;
                CONTINUE;
            END IF;
        END IF;
        is_poor := false;
        SELECT o.lane, h.* INTO head FROM (
            SELECT o AS lane, o.id, o.low FROM lane o
            WHERE o.queue = which AND o.at IS NULL AND o.id <> ALL (skipped)
                AND (o.vtime, o.turn, o.id) >= (from_vtime, from_turn, from_id)
            ORDER BY o.vtime, o.turn, o.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) o LEFT JOIN LATERAL (
            SELECT w.ctid AS place, w AS row, w.id, w.execution + 1 AS number, g.weight, g.gates,
                g.key IS NOT NULL AS has_key
            FROM waiting w JOIN gated g ON g.id = w.id WHERE w.queue = which AND w.lane = o.id
                AND w.vtime >= least(o.low, sure)
            ORDER BY w.vtime, w.execution, w.id LIMIT 1 FOR UPDATE OF w SKIP LOCKED
        ) h ON true;
        IF NOT FOUND AND from_vtime > '-infinity' AND looks >= 0 THEN
            -- A lane may have moved forward, or come from elsewhere.
            from_vtime := '-infinity';
            CONTINUE;
        END IF;
        IF NOT FOUND OR looks < 0 THEN
            again := EXISTS (SELECT 1 FROM lane o WHERE o.queue = which AND o.at IS NULL);
            EXIT;
        END IF;
        IF l.id = (head.lane).id AND next_lane.id IS NOT NULL
            AND ((head.lane).vtime, (head.lane).turn, l.id)
                > (next_lane.vtime, next_lane.turn, next_lane.id) THEN
            -- It was not that one's turn: somebody else holds it.
            skipped := skipped || next_lane.id;
        END IF;
        is_alone := l.id = (head.lane).id AND head.weight IS NOT NULL;
        l := head.lane;
        IF is_alone THEN
            is_alone := l.gate IS NULL AND NOT EXISTS (
                SELECT 1 FROM lane o
                WHERE o.queue = which AND o.at IS NULL AND o.id <> l.id AND o.id <> ALL (skipped));
        END IF;
        next_lane := NULL;
        -- Where this lane stood, its old row is in the way of every look to come.
        from_vtime := l.vtime;
        from_turn := l.turn;
        from_id := l.id;
        ahead := greatest(ahead, width_bucket(l.vtime, plain));
        EXIT WHEN number + ahead >= want;
        IF head.id IS NULL THEN
            IF l.gate IS NOT NULL THEN
                from_vtime := '-infinity';
            END IF;
            IF NOT close_lane(which, l.id, l.gate) THEN
                -- Should its floor be what hides a task: the next look begins at the bottom.
                UPDATE lane o SET low = '-infinity'
                WHERE o.queue = which AND o.id = l.id AND o.low > '-infinity';
                skipped := skipped || l.id;
            END IF;
            CONTINUE;
        END IF;
        is_locked := head.gates = '{}' AND NOT head.has_key;
        IF cardinality(head.gates) = 1 AND NOT head.has_key THEN
            -- What lock_head does for most, without its detours.
            IF head.gates[1] COLLATE "C" > highest THEN
                PERFORM 1 FROM gate o WHERE o.id = head.gates[1] FOR UPDATE;
                is_locked := FOUND;
                highest := CASE WHEN is_locked THEN head.gates[1] ELSE highest END;
            ELSE
                PERFORM 1 FROM gate o WHERE o.id = head.gates[1] FOR UPDATE SKIP LOCKED;
                is_locked := FOUND;
            END IF;
        END IF;
        IF NOT is_locked THEN
            got := lock_head(head.id, head.gates, head.has_key, highest);
            highest := got.highest;
            IF NOT got.is_locked THEN
                skipped := skipped || l.id;
                CONTINUE;
            END IF;
        END IF;
        upto := CASE WHEN head.has_key THEN 1 ELSE least(
            slots - number, want - ahead - number,
            -- One turn follows the other where nobody else waits for one.
            CASE WHEN is_alone THEN NULL ELSE coalesce(l.remain, head.weight) END) END;
        filled := NULL;
        gates := '{}';
        IF head.gates <> '{}' THEN
            told := ask_gates(given, head.id, upto);
            IF told.number = 0 THEN
                woke := woke OR coalesce(l.gate <> told.refused_by, false);
                from_vtime := '-infinity';
                IF told.is_full AND told.on_full = 'cancel_oldest' THEN
                    -- That may be one of those admitted just now.
                    PERFORM write_leases(given, clock, who, which, ids[written + 1 :],
                        numbers[written + 1 :], taken[written + 1 :], lineless);
                    written := number;
                    lineless := '{}';
                END IF;
                IF NOT refuse_head(clock, l, head.id, told.refused_by, told.until, told.is_full,
                    told.on_full) AND NOT move_lane(clock, sure, l, head.weight, 0, NULL) THEN
                    skipped := skipped || l.id;
                END IF;
                CONTINUE;
            END IF;
            upto := told.number;
            gates := told.gates;
            IF l.gate IS NOT NULL THEN
                -- What woke the lane may admit one more.
                FOREACH g IN ARRAY gates LOOP
                    IF g.gate = l.gate AND (g.rate > 0 OR g.holds AND g.running < g.most
                        OR g.running + 1 < g.most) THEN
                        woke := wake(l.gate, which, 1) OR woke;
                        from_vtime := '-infinity';
                    END IF;
                END LOOP;
            END IF;
        END IF;
        ids := ids || head.id;
        numbers := numbers || head.number;
        places := places || ahead + number;
        number := number + 1;
        IF upto = 1 THEN
            DELETE FROM waiting w WHERE w.ctid = head.place;
            IF head.has_key THEN
                DELETE FROM uniq u WHERE u.id = head.id;
            END IF;
        ELSE
            IF is_alone IS NOT TRUE THEN
                SELECT o.* INTO next_lane FROM lane o
                WHERE o.queue = which AND o.at IS NULL AND o.id <> l.id AND o.id <> ALL (skipped)
                ORDER BY o.vtime, o.turn, o.id LIMIT 1;
            END IF;
            run := run_behind(clock, l, head.row, head.weight, upto, next_lane, plain,
                ahead, number - 1, want);
            upto := 1 + coalesce(cardinality(run.ids), 0);
            DELETE FROM waiting w WHERE w.ctid = ANY (head.place || run.places);
            IF upto > 1 THEN
                ids := ids || run.ids;
                numbers := numbers || run.executions;
                places := places || ARRAY(
                    SELECT a.ahead + number - 1 + a.n::integer
                    FROM unnest(run.aheads) WITH ORDINALITY AS a (ahead, n));
                number := number + upto - 1;
                ahead := run.aheads[upto - 1];
            END IF;
        END IF;
        has_line := false;
        of_gates := NULL;
        IF head.gates <> '{}' THEN
            is_taken := take_gates(told.now, gates, upto);
            FOREACH g IN ARRAY gates LOOP
                CONTINUE WHEN g.rate > 0;
                IF g.line THEN
                    has_line := has_line OR NOT g.holds;
                ELSE
                    of_gates := coalesce(of_gates || E'\t', '') || g.gate;
                END IF;
                IF NOT is_crowded AND NOT g.holds AND g.running + upto >= g.most THEN
                    filled := g;
                END IF;
            END LOOP;
        END IF;
        taken := taken || array_fill(of_gates, ARRAY[upto]);
        l.gate := NULL;
        IF NOT move_lane(clock, sure, l, head.weight, upto, filled) THEN
            skipped := skipped || l.id;
        END IF;
        IF has_line THEN
            lineless := lineless || ids[number - upto + 1 : number];
        END IF;
    END LOOP;
    IF number > 0 THEN
        PERFORM write_leases(given, clock, who, which, ids[written + 1 :], numbers[written + 1 :],
            taken[written + 1 :], lineless);
        SELECT * INTO bodies, executions, counters FROM leased(clock, which, ids);
    END IF;
END $$;
