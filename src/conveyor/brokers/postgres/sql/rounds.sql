-- Rounds: admit the tasks at the heads of many lanes at once. What a round takes is what `admit`
-- would take lane by lane; it ends before the first task of which that is not plain from sets.

-- The first `width` open lanes that nobody holds, and of each its first tasks, `deep` at most; all
-- locked. They come in the order in which they are taken if their gates admit them: the first
-- `number` of them may be. The rest tells where their lanes stand afterwards.
CREATE OR REPLACE FUNCTION line_up(
    clock double precision, sure double precision, which text, skipped uuid[],
    from_vtime double precision, from_turn bigint, from_id uuid, width integer,
    deep integer, room integer, plain double precision[],
    ahead integer, before integer, want integer,
    OUT number integer, OUT looked integer, OUT places tid[], OUT ids uuid[],
    OUT executions integer[], OUT lane_places tid[], OUT lanes uuid[], OUT weights integer[],
    OUT vtimes double precision[], OUT stands double precision[], OUT turns bigint[],
    OUT aheads integer[], OUT wokens text[], OUT gates text[]
) LANGUAGE plpgsql AS $$
BEGIN
    WITH found AS MATERIALIZED (
        SELECT o.ctid AS lane_place, o.id, o.priority, o.vtime, o.turn, o.remain, o.gate, o.low
        FROM lane o
        WHERE o.queue = which AND o.at IS NULL AND o.id <> ALL (skipped)
            AND (o.vtime, o.turn, o.id) >= (from_vtime, from_turn, from_id)
        ORDER BY o.vtime, o.turn, o.id LIMIT width FOR NO KEY UPDATE SKIP LOCKED
    ), numbered AS MATERIALIZED (
        SELECT f.*, row_number() OVER () AS n FROM found f
    ), heads AS MATERIALIZED (
        SELECT o.*, h.place, h.task, h.execution, h.start, h.weight, h.is_simple, h.gates,
            -- What woke a lane may not admit much more of it.
            CASE WHEN o.gate IS NOT NULL THEN 1
                ELSE least(deep, coalesce(o.remain, h.weight)) END AS deep
        FROM numbered o LEFT JOIN LATERAL (
            SELECT w.ctid AS place, w.id AS task, w.execution, w.vtime AS start, g.weight,
                g.key IS NULL AS is_simple, g.gates
            FROM waiting w JOIN gated g ON g.id = w.id WHERE w.queue = which AND w.lane = o.id
                AND w.vtime >= least(o.low, sure)
            ORDER BY w.vtime, w.execution, w.id LIMIT 1 FOR UPDATE OF w SKIP LOCKED) h ON true
    ), lined AS (
        SELECT h.n, h.lane_place, h.id, h.turn, h.gate, h.gates, h.weight, 1::bigint AS j,
            h.place, h.task, h.execution, h.start, h.vtime, coalesce(NOT h.is_simple, true) AS is_end
        FROM heads h
        UNION ALL
        SELECT h.n, h.lane_place, h.id, h.turn, h.gate, NULL, h.weight, 1 + b.j, b.place, b.task,
            b.execution, b.start,
            greatest(b.start, CASE WHEN h.weight IS NOT NULL THEN h.vtime END),
            NOT EXISTS (SELECT 1 FROM gated g WHERE g.id = b.task AND g.key IS NULL
                AND g.weight IS NOT DISTINCT FROM h.weight)
        FROM heads h, LATERAL (
            SELECT row_number() OVER () AS j, v.* FROM (
                SELECT w.ctid AS place, w.id AS task, w.execution, w.vtime AS start FROM waiting w
                WHERE w.queue = which AND w.lane = h.id
                    AND (w.vtime, w.execution, w.id) > (h.start, h.execution, h.task)
                ORDER BY w.vtime, w.execution, w.id LIMIT h.deep - 1 FOR UPDATE SKIP LOCKED
            ) v
        ) b WHERE h.deep > 1
        UNION ALL
        -- Where the lane stands when all these are gone.
        SELECT h.n, h.lane_place, h.id,
            CASE WHEN h.deep = coalesce(h.remain, h.weight) THEN 9223372036854775807 ELSE h.turn END,
            h.gate, NULL, h.weight, 1 + h.deep, NULL, b.task, NULL, b.start,
            greatest(b.start, CASE WHEN h.weight IS NOT NULL THEN h.vtime END,
                CASE WHEN h.deep = coalesce(h.remain, h.weight) THEN clock - 60 * h.priority END),
            true
        FROM heads h, LATERAL (
            SELECT w.id AS task, w.vtime AS start FROM waiting w
            WHERE w.queue = which AND w.lane = h.id
                AND (w.vtime, w.execution, w.id) > (h.start, h.execution, h.task)
            ORDER BY w.vtime, w.execution, w.id LIMIT 1 OFFSET h.deep - 1
        ) b
    ), stood AS (
        SELECT r.*, max(r.vtime) OVER (PARTITION BY r.n ORDER BY r.j) AS stand FROM lined r
    ), ordered AS (
        SELECT s.*, row_number() OVER (ORDER BY s.stand, s.turn, s.id, s.j) AS place_n,
            greatest(ahead, width_bucket(s.stand, plain)) AS plain_n
        FROM stood s
    ), decided AS (
        SELECT o.*, bool_and(
            NOT o.is_end AND o.place_n <= room AND o.place_n - 1 + before + o.plain_n < want
            -- Behind the last lane that was looked at, others may come.
            AND (o.n < width OR o.j = 1)
            AND (l.n < width OR (o.stand, o.turn, o.id) <= (l.vtime, l.turn, l.id))
        ) OVER (ORDER BY o.place_n) AS is_next
        FROM ordered o, (SELECT * FROM numbered ORDER BY n DESC LIMIT 1) l
    )
    SELECT (count(*) FILTER (WHERE d.is_next))::integer, count(*)::integer, array_agg(d.place),
        array_agg(d.task),
        array_agg(d.execution + 1), array_agg(d.lane_place), array_agg(d.id), array_agg(d.weight),
        array_agg(d.start), array_agg(d.stand), array_agg(d.turn), array_agg(d.plain_n),
        array_agg(d.gate),
        ARRAY(
            SELECT f.gates[1] FROM decided f WHERE f.is_next AND f.gates <> '{}'
            UNION
            SELECT g FROM decided f, unnest(f.gates[2:]) AS g
            WHERE f.is_next AND cardinality(f.gates) > 1
            ORDER BY 1)
    INTO number, looked, places, ids, executions, lane_places, lanes, weights, vtimes, stands, turns,
        aheads, wokens, gates
    FROM (SELECT * FROM decided ORDER BY place_n) d;
END $$;

-- Lock gates, those of the tasks among them, and take so many of the tasks, from the first, as they
-- admit; `number` of them. Their lines are written, their leases are not: `slots` are the gates, a
-- tab between them, of which each is to be a slot. `wokens`: what woke the lane of each. When it may admit one more, that one is woken before anybody else is asked.
CREATE OR REPLACE FUNCTION pass_gates(
    given double precision, which text, wanted text[], ids uuid[], wokens text[],
    INOUT highest text, OUT number integer, OUT slots text[], OUT woke boolean
) LANGUAGE plpgsql AS $$
DECLARE
    locked text[];
    has_all boolean;
    has_rulings boolean := EXISTS (SELECT 1 FROM ruling);
    now double precision;
    positions integer[];
    gates text[];
    rates double precision[];
    costs double precision[];
    lines boolean[];
    first_bad integer;
    first_woken integer;
BEGIN
    woke := false;
    IF wanted[1] COLLATE "C" > highest THEN
        locked := ARRAY(
            SELECT g.id FROM gate g WHERE g.id = ANY (wanted) ORDER BY g.id FOR UPDATE);
    ELSE
        locked := ARRAY(SELECT g.id FROM gate g WHERE g.id = ANY (wanted)
            ORDER BY g.id FOR UPDATE SKIP LOCKED);
    END IF;
    highest := greatest(highest COLLATE "C", locked[cardinality(locked)]);
    has_all := cardinality(locked) = cardinality(wanted);
    now := now_or(given);
    SELECT array_agg(d.at), array_agg(d.gate), array_agg(d.rate), array_agg(d.cost),
        array_agg(d.line), min(d.at) FILTER (WHERE NOT d.is_admitted), min(d.at) FILTER (WHERE d.wakes)
    INTO positions, gates, rates, costs, lines, first_bad, first_woken
    FROM (
        SELECT a.*, a.closed <= now AND (has_all OR a.gate = ANY (locked))
            AND CASE WHEN (a.rate > 0) <> (a.first_rate > 0) THEN false
                WHEN a.rate > 0 THEN a.rate = a.first_rate AND a.burst = a.first_burst
                    AND a.cost = a.first_cost AND a.rank <= a.fits
                ELSE a.running + a.rank <= a.most AND NOT (a.line AND EXISTS (
                    SELECT 1 FROM slot s WHERE s.id = a.id AND s.gate = a.gate)) END AS is_admitted,
            a.gate = wokens[a.at] AND (a.rate > 0 OR a.running + a.rank < a.most) AS wakes
        FROM (
            SELECT r.*, first_value(r.rate) OVER w AS first_rate,
                first_value(r.burst) OVER w AS first_burst, first_value(r.cost) OVER w AS first_cost,
                first_value(CASE WHEN r.rate > 0 AND r.rank = 1 THEN how_many(
                    now, r.tat, r.rate, r.burst, r.cost, cardinality(ids)) END) OVER w AS fits
            FROM (
                SELECT i.n::integer AS at, t.id, t.gate, t.burst, t.cost, t.line, g.tat, g.running,
                    CASE WHEN t.rate > 0 THEN coalesce(p.rate, t.rate) ELSE 0 END AS rate,
                    coalesce(p.most, t.most) AS most, coalesce(p.closed, 0) AS closed,
                    row_number() OVER (PARTITION BY t.gate ORDER BY i.n) AS rank
                FROM unnest(ids) WITH ORDINALITY AS i (id, n) JOIN toll t ON t.id = i.id
                -- One by one: more gates than these may exist, by far.
                JOIN LATERAL (SELECT o.tat, o.running FROM gate o WHERE o.id = t.gate OFFSET 0) g ON true
                LEFT JOIN LATERAL (
                    SELECT w.rate, w.most, greatest(w.until, k.until) AS closed
                    FROM (SELECT 1 WHERE has_rulings) o
                    LEFT JOIN ruling w ON w.id = split_part(t.gate, E'\n', 1)
                    LEFT JOIN ruling k ON k.id = t.gate
                ) p ON true
            ) r WINDOW w AS (PARTITION BY r.gate ORDER BY r.at)
        ) a
    ) d;
    number := least(cardinality(ids), first_bad - 1, first_woken);
    IF NOT has_all THEN
        -- One that was forgotten has no row above.
        number := least(number, (
            SELECT min(i.n) - 1 FROM unnest(ids) WITH ORDINALITY AS i (id, n)
            JOIN toll t ON t.id = i.id WHERE t.gate <> ALL (locked)));
    END IF;
    IF number = 0 THEN
        RETURN;
    END IF;
    UPDATE gate g SET running = g.running + CASE WHEN f.rate > 0 THEN 0 ELSE f.count END,
        tat = CASE WHEN f.rate > 0 THEN tat_after(now, g.tat, f.rate, f.cost, f.count) ELSE g.tat END
    FROM (
        SELECT p.gate, min(p.rate) AS rate, min(p.cost) AS cost, count(*)::integer AS count
        FROM unnest(positions, gates, rates, costs) AS p (at, gate, rate, cost)
        WHERE p.at <= number GROUP BY p.gate
    ) f WHERE g.id = f.gate;
    IF true = ANY (lines) THEN
        INSERT INTO slot SELECT ids[p.at], p.gate, now
        FROM unnest(positions, gates, rates, lines) AS p (at, gate, rate, line)
        WHERE p.at <= number AND p.rate = 0 AND p.line;
    END IF;
    -- Not a join: sets of this size would be compared row by row.
    slots := ARRAY(
        SELECT string_agg(s.gate, E'\t' ORDER BY s.gate) FROM (
            SELECT n AS at, NULL AS gate FROM generate_series(1, number) AS i (n)
            UNION ALL
            SELECT p.at, p.gate FROM unnest(positions, gates, rates, lines) AS p (at, gate, rate, line)
            WHERE p.at <= number AND p.rate = 0 AND NOT p.line
        ) s GROUP BY s.at ORDER BY s.at);
    IF number = first_woken THEN
        woke := wake(wokens[number], which, 1);
    END IF;
END $$;

-- Where lanes stand of which so many tasks were `taken`, the last of them as that of this number,
-- `lasts`, in the round; NULL: one of each, in their order. `nexts` and `next_vtimes` are the tasks at
-- their heads now, NULL where there is none. `sleeps`: a lane whose next task finds no slot goes to
-- sleep at once. Tells which lanes somebody else keeps from being moved.
CREATE OR REPLACE FUNCTION move_lanes(
    clock double precision, sure double precision, which text, lane_places tid[], lanes uuid[],
    weights integer[], taken integer[], lasts integer[], nexts uuid[],
    next_vtimes double precision[], sleeps boolean
) RETURNS uuid[] LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    -- Turns are numbered in the order in which they ended.
    numbers bigint[];
    empty uuid[];
    gone uuid[];
    stuck uuid[] := '{}';
    position integer;
    l lane;
    one uuid;
BEGIN
    IF weights[1] IS NOT NULL OR array_remove(weights, NULL) <> '{}' THEN
        numbers := ARRAY(SELECT nextval('turn') FROM generate_series(
            1, coalesce((SELECT max(n) FROM unnest(lasts) AS n), cardinality(lanes))));
    END IF;
    sleeps := sleeps AND NOT EXISTS (SELECT 1 FROM ruling);
    UPDATE lane o SET
        vtime = greatest(m.vtime, CASE WHEN m.weight IS NOT NULL THEN o.vtime END, CASE
            WHEN coalesce(m.taken, 1) >= coalesce(o.remain, m.weight)
            THEN clock - 60 * o.priority END),
        low = least(m.vtime, sure - 60 * o.priority),
        turn = CASE WHEN coalesce(m.taken, 1) >= coalesce(o.remain, m.weight)
            THEN numbers[coalesce(m.last, m.n)] ELSE o.turn END,
        remain = CASE WHEN coalesce(m.taken, 1) < coalesce(o.remain, m.weight)
            THEN coalesce(o.remain, m.weight) - coalesce(m.taken, 1) END,
        gate = f.gate, at = CASE WHEN f.gate IS NOT NULL THEN 'infinity'::double precision END
    FROM unnest(lane_places, weights, taken, lasts, nexts, next_vtimes) WITH ORDINALITY
        AS m (place, weight, taken, last, next, vtime, n)
    LEFT JOIN LATERAL (
        SELECT t.gate FROM toll t JOIN gate g ON g.id = t.gate
        WHERE sleeps AND t.id = m.next AND t.rate = 0 AND t.on_full = 'queue'
            AND g.running >= t.most
            AND NOT EXISTS (SELECT 1 FROM slot s WHERE s.id = t.id AND s.gate = t.gate)
        ORDER BY t.n LIMIT 1) f ON true
    WHERE o.ctid = m.place AND m.next IS NOT NULL;
    IF array_position(nexts, NULL) IS NOT NULL THEN
        SELECT array_agg(m.lane) INTO empty
        FROM unnest(lanes, nexts) AS m (lane, next) WHERE m.next IS NULL;
    END IF;
    IF empty IS NOT NULL THEN
        gone := ARRAY(SELECT o.id FROM lane o WHERE o.queue = which AND o.id = ANY (empty)
            FOR UPDATE SKIP LOCKED);
        WITH deleted AS (
            DELETE FROM lane o WHERE o.queue = which AND o.id = ANY (gone) AND NOT EXISTS (
                SELECT 1 FROM waiting w WHERE w.queue = which AND w.lane = o.id)
            RETURNING o.id
        )
        SELECT array_agg(d.id) INTO gone FROM deleted d;
        IF coalesce(cardinality(gone), 0) < cardinality(empty) THEN
            -- Somebody has just added to it, or does now.
            FOR one IN SELECT e FROM unnest(empty) AS e WHERE e <> ALL (coalesce(gone, '{}')) LOOP
                SELECT * INTO l FROM lane o WHERE o.queue = which AND o.id = one;
                l.gate := NULL;
                position := array_position(lanes, one);
                IF NOT move_lane(clock, sure, l, weights[position],
                    coalesce(taken[position], 1), NULL) THEN
                    stuck := stuck || one;
                END IF;
            END LOOP;
        END IF;
    END IF;
    RETURN stuck;
END $$;

-- One round: `admit` for many lanes. Tells what it took, as `admit` does, where it looked last, and
-- which lanes to leave alone.
CREATE OR REPLACE FUNCTION admit_round(
    given double precision, clock double precision, sure double precision, which text,
    width integer, deep integer, room integer, plain double precision[], before integer,
    want integer, sleeps boolean,
    INOUT ahead integer, INOUT highest text, INOUT skipped uuid[],
    INOUT from_vtime double precision, INOUT from_turn bigint, INOUT from_id uuid,
    OUT number integer, OUT looked integer, OUT ids uuid[], OUT executions integer[],
    OUT places integer[], OUT slots text[], OUT woke boolean
) LANGUAGE plpgsql AS $$
DECLARE
    up record;
    passed record;
    quick record;
    all_pass boolean := false;
    moved record;
BEGIN
    IF deep = 1 THEN
        SELECT * INTO up FROM line_up_heads(clock, sure, which, skipped, from_vtime, from_turn,
            from_id, width, room, plain, ahead, before, want);
    ELSE
        SELECT * INTO up FROM line_up(clock, sure, which, skipped, from_vtime, from_turn, from_id,
            width, deep, room, plain, ahead, before, want);
    END IF;
    number := coalesce(up.number, 0);
    looked := coalesce(up.looked, 0);
    woke := false;
    IF number > 0 AND up.gates <> '{}' THEN
        IF deep = 1 THEN
            IF cardinality(up.gates) = number AND up.most IS NOT NULL THEN
                quick := pass_slots(up.gates, up.most, highest);
                highest := quick.highest;
                all_pass := quick.number IS NOT NULL;
                slots := up.of_tasks;
            END IF;
        END IF;
        IF NOT all_pass THEN
            passed := pass_gates(
                given, which, up.gates, up.ids[:number], up.wokens[:number], highest);
            number := passed.number;
            highest := passed.highest;
            slots := passed.slots;
            woke := passed.woke;
        END IF;
    ELSE
        slots := array_fill(NULL::text, ARRAY[number]);
    END IF;
    IF number = 0 THEN
        RETURN;
    END IF;
    DELETE FROM waiting w WHERE w.ctid = ANY (up.places[:number]);
    IF deep = 1 THEN
        skipped := skipped || move_lanes(clock, sure, which, up.lane_places[:number],
            up.lanes[:number], up.weights[:number], NULL, NULL, up.nexts[:number],
            up.next_vtimes[:number], sleeps);
    ELSE
        SELECT array_agg(m.place) AS places, array_agg(m.lane) AS lanes,
            array_agg(m.weight) AS weights, array_agg(m.taken) AS taken, array_agg(m.last) AS lasts,
            array_agg(up.ids[m.next]) AS nexts, array_agg(m.vtime) AS next_vtimes
        INTO moved FROM (
            SELECT r.lane, r.place, max(r.weight) AS weight,
                (count(*) FILTER (WHERE r.n <= number))::integer AS taken,
                (max(r.n) FILTER (WHERE r.n <= number))::integer AS last,
                min(r.vtime) FILTER (WHERE r.n > number) AS vtime,
                min(r.n) FILTER (WHERE r.n > number) AS next
            FROM unnest(up.lanes, up.lane_places, up.weights, up.vtimes) WITH ORDINALITY
                AS r (lane, place, weight, vtime, n)
            GROUP BY r.lane, r.place HAVING min(r.n) <= number
        ) m;
        skipped := skipped || move_lanes(clock, sure, which, moved.places, moved.lanes,
            moved.weights, moved.taken, moved.lasts, moved.nexts, moved.next_vtimes, sleeps);
    END IF;
    ids := up.ids[:number];
    executions := up.executions[:number];
    places := ARRAY(SELECT a.ahead + before + a.n::integer - 1
        FROM unnest(up.aheads[:number]) WITH ORDINALITY AS a (ahead, n));
    ahead := up.aheads[number];
    from_vtime := CASE WHEN woke THEN '-infinity' ELSE up.stands[number] END;
    from_turn := up.turns[number];
    from_id := up.lanes[number];
END $$;
