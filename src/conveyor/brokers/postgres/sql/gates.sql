-- Gates: the decision, what wakes the lanes they refused, and what frees their slots.
--
-- Nobody waits in a ring, because of these rules. Lanes are locked with SKIP LOCKED or, by who adds
-- tasks, before any gate. Gates are waited for in the order of their ids only. Who wakes a
-- lane holds the lock of the gate that refused it: then whoever puts a lane to sleep for that gate
-- (which takes the same lock) has committed and is seen, or has not decided yet.

-- conveyor.core.gates.tolerance, its SLACK included.
CREATE OR REPLACE FUNCTION tolerance(
    burst double precision, cost double precision, each double precision
) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT burst * each - greatest(0.0, least(0.075, (burst - cost) * each / 2))
$$;

-- conveyor.core.gates.refusal: NULL when the gate admits, else when to ask again (infinity: when
-- something happens). Held to it, case by case, by the tests.
CREATE OR REPLACE FUNCTION refused_until(
    now double precision, tat double precision, running integer, closed double precision,
    rate double precision, burst double precision, cost double precision, most integer,
    holds boolean
) RETURNS double precision LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    each double precision;
    ask double precision;
BEGIN
    IF closed > now THEN
        RETURN closed;
    END IF;
    IF rate > 0 THEN
        each := 1.0 / rate;
        ask := greatest(tat, now) + cost * each
            - tolerance(burst, cost, each);
        RETURN CASE WHEN ask > now THEN ask END;
    END IF;
    RETURN CASE WHEN holds OR running < most THEN NULL ELSE 'infinity' END;
END $$;

-- The theoretical arrival time after so many tasks, summed up as conveyor.core.gates does it one by
-- one: a product would be another number in the last bits.
CREATE OR REPLACE FUNCTION tat_after(
    now double precision, tat double precision, rate double precision, cost double precision,
    number integer
) RETURNS double precision LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    step double precision := cost * (1.0 / rate);
    spent double precision := greatest(tat, now);
BEGIN
    FOR n IN 1 .. number LOOP
        spent := spent + step;
    END LOOP;
    RETURN spent;
END $$;

-- How many tasks in a row a rate gate admits, `upto` at most: what `refused_until` says of each.
CREATE OR REPLACE FUNCTION how_many(
    now double precision, tat double precision, rate double precision, burst double precision,
    cost double precision, upto integer
) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    each double precision := 1.0 / rate;
    step double precision := cost * each;
    ahead double precision := tolerance(burst, cost, each);
    spent double precision := greatest(tat, now);
BEGIN
    FOR n IN 1 .. upto LOOP
        spent := spent + step;
        IF spent - ahead > now THEN
            RETURN n - 1;
        END IF;
    END LOOP;
    RETURN upto;
END $$;

-- The gates of a task with all that decides, its own numbers replaced by those of people.
CREATE OR REPLACE VIEW asked AS
SELECT t.id, t.n, t.gate, g.tat, g.running, t.burst, t.cost, t.line, t.on_full,
    CASE WHEN t.rate > 0 THEN coalesce(w.rate, t.rate) ELSE 0 END AS rate,
    coalesce(w.most, t.most) AS most,
    greatest(w.until, k.until, 0) AS closed,
    EXISTS (SELECT 1 FROM slot s WHERE s.id = t.id AND s.gate = t.gate) AS holds
FROM toll t
JOIN gate g ON g.id = t.gate
LEFT JOIN ruling w ON w.id = split_part(t.gate, E'\n', 1)
LEFT JOIN ruling k ON k.id = t.gate;

-- Lock gates; false when that would mean to wait out of order, or one is missing.
CREATE OR REPLACE FUNCTION lock_gates(which text[], in_order boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    locked integer;
BEGIN
    FOR trial IN 1 .. 2 LOOP
        IF in_order THEN
            PERFORM 1 FROM gate g WHERE g.id = ANY (which) ORDER BY g.id FOR UPDATE;
        ELSE
            PERFORM 1 FROM gate g WHERE g.id = ANY (which) ORDER BY g.id FOR UPDATE SKIP LOCKED;
        END IF;
        GET DIAGNOSTICS locked = ROW_COUNT;
        EXIT WHEN locked = cardinality(which);
        -- Forgotten between the push and now.
        INSERT INTO gate (id) SELECT w FROM unnest(which) AS w
            WHERE NOT EXISTS (SELECT 1 FROM gate g WHERE g.id = w)
        ON CONFLICT DO NOTHING;
        EXIT WHEN NOT FOUND;
    END LOOP;
    RETURN locked = cardinality(which);
END $$;

-- Let the first lanes of a queue that a gate refused look again. The caller holds the gate's lock.
CREATE OR REPLACE FUNCTION wake(which text, of_queue text, most integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE lane SET at = NULL WHERE ctid = ANY (ARRAY(
        SELECT l.ctid FROM lane l WHERE l.gate = which AND l.queue = of_queue AND l.at IS NOT NULL
        ORDER BY l.vtime, l.turn, l.id LIMIT most FOR NO KEY UPDATE SKIP LOCKED));
    RETURN FOUND;
END $$;

-- Free the slots of tasks: all of the dead ones', of the living ones' those that are no lines. As
-- many lanes of every queue may look again: who serves which queue is not known here. Tells the
-- queues, and the highest gate that is locked now.
CREATE OR REPLACE FUNCTION free_slots(
    dead uuid[], living uuid[], OUT woken text[], OUT highest text
) LANGUAGE plpgsql AS $$
DECLARE
    freed text[];
    numbers integer[];
BEGIN
    woken := '{}';
    highest := '';
    WITH gone AS (
        DELETE FROM slot s WHERE s.id = ANY (dead) OR s.id = ANY (living) AND NOT s.line
        RETURNING s.gate
    )
    SELECT array_agg(c.gate ORDER BY c.gate), array_agg(c.n ORDER BY c.gate) INTO freed, numbers
    FROM (SELECT o.gate, count(*)::integer AS n FROM gone o GROUP BY o.gate) c;
    IF freed IS NULL THEN
        RETURN;
    END IF;
    highest := freed[cardinality(freed)];
    -- An update of many rows has an order of its own: lock them in theirs first.
    PERFORM 1 FROM gate g WHERE g.id = ANY (freed) ORDER BY g.id FOR UPDATE;
    UPDATE gate g SET running = g.running - f.n FROM unnest(freed, numbers) AS f (gate, n)
    WHERE g.id = f.gate;
    WITH opened AS (
        UPDATE lane o SET at = NULL WHERE o.ctid = ANY (ARRAY(
            SELECT w.place FROM unnest(freed, numbers) AS f (gate, n), queue q, LATERAL (
                SELECT l.ctid AS place FROM lane l
                WHERE l.gate = f.gate AND l.queue = q.name AND l.at IS NOT NULL
                ORDER BY l.vtime, l.turn, l.id LIMIT f.n FOR NO KEY UPDATE SKIP LOCKED) w))
        RETURNING o.queue
    )
    SELECT coalesce(array_agg(DISTINCT o.queue), '{}') INTO woken FROM opened o;
END $$;

-- conveyor.core.gates.reserve, on the same bucket. Closed without end takes nothing: a bucket in
-- debt for ever could not be opened again.
CREATE OR REPLACE FUNCTION reserve(
    given double precision, which text, rate double precision, burst double precision,
    cost double precision
) RETURNS double precision LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    was double precision;
    now double precision;
    start double precision;
    each double precision;
    spent double precision;
BEGIN
    INSERT INTO gate AS g (id) VALUES (which)
    ON CONFLICT (id) DO UPDATE SET tat = g.tat RETURNING g.tat INTO was;
    now := now_or(given);
    SELECT greatest(now, max(r.until)), 1.0 / coalesce(max(r.rate), rate) INTO start, each
    FROM ruling r WHERE r.id IN (which, split_part(which, E'\n', 1));
    IF start = 'infinity' THEN
        RETURN start;
    END IF;
    spent := greatest(was, start) + cost * each;
    UPDATE gate SET tat = spent WHERE id = which;
    RETURN greatest(start, spent - tolerance(burst, cost, each)) - now;
END $$;

-- What people say of a limit. The lock of the whole table keeps steps from deciding by what is
-- being changed and sleeping on it: every step that looks at a lane has some lock on the table.
CREATE OR REPLACE FUNCTION rule(
    which text, given_until double precision, given_pause bytea,
    tunes boolean, given_rate double precision, given_most integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text := split_part(which, E'\n', 1);
    woken text;
BEGIN
    LOCK TABLE lane IN EXCLUSIVE MODE;
    INSERT INTO ruling AS r VALUES (which, given_until, given_pause, given_rate, given_most)
    ON CONFLICT (id) DO UPDATE SET
        until = CASE WHEN tunes THEN r.until ELSE excluded.until END,
        pause = CASE WHEN tunes THEN r.pause ELSE excluded.pause END,
        rate = CASE WHEN tunes THEN excluded.rate ELSE r.rate END,
        most = CASE WHEN tunes THEN excluded.most ELSE r.most END;
    DELETE FROM ruling r
    WHERE r.id = which AND r.until IS NULL AND r.rate IS NULL AND r.most IS NULL;
    -- Every one of its lanes: its numbers, and so the order of their looks, may be others now.
    FOR woken IN
        WITH opened AS (
            UPDATE lane SET at = NULL WHERE at IS NOT NULL
                AND gate >= name || E'\n' AND gate < name || E'\x0b'
                AND (which = name OR gate = which)
            RETURNING queue
        )
        SELECT DISTINCT queue FROM opened
    LOOP
        PERFORM pg_notify(current_schema(), 'q' || woken);
    END LOOP;
END $$;

-- Close a limit for longer than it is closed already. The lock comes first: who waited for it sees what
-- the other one wrote.
CREATE OR REPLACE FUNCTION extend_closure(
    which text, given_until double precision, given_pause bytea
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE lane IN EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT 1 FROM ruling r WHERE r.id = which AND r.until >= given_until) THEN
        PERFORM rule(which, given_until, given_pause, false, NULL, NULL);
    END IF;
END $$;

-- Forget gates that nobody needs: without slots, debt or tasks that carry them. One that is needed
-- is looked at again a minute later: below the time now, any theoretical arrival time is the same.
CREATE OR REPLACE FUNCTION forget_gates(clock double precision, most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    old text[];
    forgotten integer;
BEGIN
    old := ARRAY(SELECT g.id FROM gate g WHERE g.running = 0 AND g.tat <= clock - 60
        ORDER BY g.tat LIMIT most FOR UPDATE SKIP LOCKED);
    DELETE FROM gate g WHERE g.id = ANY (old)
        AND NOT EXISTS (SELECT 1 FROM toll t WHERE t.gate = g.id);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    UPDATE gate g SET tat = clock WHERE g.id = ANY (old);
    RETURN forgotten;
END $$;
